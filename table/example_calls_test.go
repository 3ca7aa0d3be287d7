package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pmemtable/table"
)

// exampleTable opens a table in a directory of its own; done closes and removes both.
func exampleTable() (t *table.Table, done func()) {
	dir, err := os.MkdirTemp("", "pmemtable")
	if err != nil {
		panic(err)
	}
	t, err = table.Open(filepath.Join(dir, "example.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		panic(err)
	}
	return t, func() {
		_ = t.Close()
		_ = os.RemoveAll(dir)
	}
}

func ExampleOptions() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions.pmt")
	t, err := table.Open(path, &table.Options{
		Durability: table.Interval(100 * time.Millisecond), // power loss takes at most so much
		MaxSize:    1 << 30,                                // the file, in bytes
		MustCreate: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = t.Put([]byte("id 7"), []byte("ada"))
	_ = t.Close()

	_, err = table.Open(path, &table.Options{MustCreate: true})
	fmt.Println(errors.Is(err, fs.ErrExist))
	t, err = table.Open(path, &table.Options{ReadOnly: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	err = t.Put([]byte("id 8"), nil)
	fmt.Println(errors.Is(err, table.ErrReadOnly))
	// Output:
	// true
	// true
}

func ExampleTable_Put() {
	t, done := exampleTable() // table.Open
	defer done()
	key, value := []byte("ada"), []byte("1815")
	err := t.Put(key, value)
	copy(value, "????") // the table does not look at it any more
	got, _ := t.Get(key)
	fmt.Printf("%s %v\n", got, err)
	err = t.Put(make([]byte, 65536), nil)
	fmt.Println(errors.Is(err, table.ErrTooLarge))
	// Output:
	// 1815 <nil>
	// true
}

func ExampleTable_Get() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("ada"), []byte("1815"))
	value, err := t.Get([]byte("ada"))
	fmt.Printf("%s %v\n", value, err)
	_, err = t.Get([]byte("bob"))
	fmt.Println(err, errors.Is(err, table.ErrNotFound))
	// Output:
	// 1815 <nil>
	// not found true
}

func ExampleTable_AppendGet() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("greeting"), []byte("hello"))
	buf := make([]byte, 0, 64) // used again for each: no allocation
	for range 3 {
		value, err := t.AppendGet(buf[:0], []byte("greeting"))
		fmt.Printf("%s %v\n", value, err)
	}
	// Output:
	// hello <nil>
	// hello <nil>
	// hello <nil>
}

func ExampleTable_View() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("page"), bytes.Repeat([]byte("x"), 1<<20))
	err := t.View([]byte("page"), func(value []byte) error { // in place; valid until it returns
		fmt.Println(len(value), value[0] == 'x')
		return nil
	})
	fmt.Println(err)
	// Output:
	// 1048576 true
	// <nil>
}

func ExampleTable_Delete() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("ada"), nil)
	fmt.Println(t.Delete([]byte("ada")), t.Delete([]byte("ada"))) // absent is no error
	has, err := t.Has([]byte("ada"))
	fmt.Println(has, err)
	// Output:
	// <nil> <nil>
	// false <nil>
}

func ExampleTable_PutIfAbsent() {
	t, done := exampleTable() // table.Open
	defer done()
	for _, owner := range []string{"worker 1", "worker 2"} {
		mine, err := t.PutIfAbsent([]byte("job 7"), []byte(owner))
		fmt.Println(owner, mine, err)
	}
	// Output:
	// worker 1 true <nil>
	// worker 2 false <nil>
}

func ExampleTable_CompareAndSwap() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("leader"), []byte("a"))
	swapped, err := t.CompareAndSwap([]byte("leader"), []byte("a"), []byte("b"))
	fmt.Println(swapped, err)
	swapped, err = t.CompareAndSwap([]byte("leader"), []byte("a"), []byte("c"))
	fmt.Println(swapped, err)
	deleted, err := t.CompareAndDelete([]byte("leader"), []byte("b"))
	fmt.Println(deleted, err)
	// Output:
	// true <nil>
	// false <nil>
	// true <nil>
}

func ExampleTable_Swap() {
	t, done := exampleTable() // table.Open
	defer done()
	old, existed, _ := t.Swap([]byte("k"), []byte("first"))
	fmt.Printf("%q %v\n", old, existed)
	old, existed, _ = t.Swap([]byte("k"), []byte("second"))
	fmt.Printf("%q %v\n", old, existed)
	old, existed, _ = t.GetAndDelete([]byte("k"))
	fmt.Printf("%q %v\n", old, existed)
	// Output:
	// "" false
	// "first" true
	// "second" true
}

func ExampleTable_GetMany() {
	t, done := exampleTable() // table.Open
	defer done()
	keys := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	err := t.PutMany(keys[:2], [][]byte{[]byte("1"), []byte("2")})
	fmt.Println(err)
	t.GetMany(keys, func(i int, value []byte, err error) { // in the order of keys
		fmt.Printf("%s: %q %v\n", keys[i], value, err)
	})
	// Output:
	// <nil>
	// a: "1" <nil>
	// b: "2" <nil>
	// c: "" not found
}

func ExampleTable_All() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.PutMany([][]byte{[]byte("a"), []byte("b")}, [][]byte{[]byte("1"), []byte("2")})
	for key, value := range t.All() {
		fmt.Printf("%s=%s\n", key, value)
	}
	fmt.Println(t.Err())
	// Unordered output:
	// a=1
	// b=2
	// <nil>
}

// A scan may go on after a pause, or in another process: the cursor is all there is to it.
func ExampleTable_Scan() {
	t, done := exampleTable() // table.Open
	defer done()
	for i := range 10_000 {
		_ = t.Put(fmt.Appendf(nil, "key %d", i), nil)
	}
	count, steps := 0, 0
	for cursor := uint64(0); ; {
		next, err := t.Scan(cursor, func(key, value []byte) error {
			count++
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		if steps++; next == 0 {
			break
		}
		cursor = next
	}
	fmt.Println(count, steps > 1)
	// Output: 10000 true
}

func ExampleTable_Sync() {
	t, done := exampleTable() // opened with OnSync: writes wait for no disk
	defer done()
	for i := range 1000 {
		_ = t.Put(fmt.Appendf(nil, "key %d", i), nil)
	}
	fmt.Println(t.Sync()) // now power loss takes none of them
	// Output: <nil>
}

func ExampleTable_Backup() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("ada"), []byte("1815"))
	var stream bytes.Buffer // or a file, or a connection
	if err := t.Backup(&stream); err != nil {
		fmt.Println(err)
		return
	}
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "restored.pmt")
	if err := table.Restore(&stream, path, nil); err != nil {
		fmt.Println(err)
		return
	}
	restored, err := table.Open(path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer restored.Close()
	value, _ := restored.Get([]byte("ada"))
	fmt.Printf("%s\n", value)
	// Output: 1815
}

func ExampleTable_Check() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("ada"), []byte("1815"))
	report, err := t.Check()
	fmt.Println(report.Entries, err)
	// Output: 1 <nil>
}

func ExampleRepair() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "damaged.pmt")
	t, err := table.Open(path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = t.Put([]byte("good"), []byte("kept"))
	_ = t.Put([]byte("bad"), []byte("a value that will be damaged"))
	_ = t.Close()
	content, _ := os.ReadFile(path)
	content = bytes.Replace(content, []byte("will be damaged"), []byte("has been DAMAGED"[:15]), 1)
	_ = os.WriteFile(path, content, 0o600)

	report, err := table.Repair(path, filepath.Join(dir, "salvaged.pmt"), table.RepairOptions{})
	fmt.Println(report.Entries, err)
	// Output: 1 <nil>
}

func ExampleTable_Clear() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("ada"), nil)
	err := t.Clear()
	fmt.Println(t.Len(), err)
	// Output: 0 <nil>
}

func ExampleTable_Stats() {
	t, done := exampleTable() // opened with OnSync
	defer done()
	_ = t.Put([]byte("ada"), nil)
	s := t.Stats()
	fmt.Println(s.Entries, s.Durability, s.Stripes)
	// Output: 1 onsync 64
}

func ExampleSnapshot_All() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.PutMany([][]byte{[]byte("a"), []byte("b")}, [][]byte{nil, nil})
	s, err := t.Snapshot()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_ = t.Clear()
	var keys []string
	for key := range s.All() {
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	fmt.Println(keys, s.Err(), t.Len())
	// Output: [a b] <nil> 0
}

func ExampleNewBatch() {
	t, done := exampleTable() // table.Open
	defer done()
	_ = t.Put([]byte("from"), []byte("10"))
	b := table.NewBatch()
	b.Put([]byte("to"), []byte("10"))
	b.Delete([]byte("from"))
	b.Put([]byte("to"), []byte("9")) // the last change of a key counts
	fmt.Println(b.Len(), t.Apply(b))
	has, _ := t.Has([]byte("from"))
	value, _ := t.Get([]byte("to"))
	fmt.Printf("%v %s\n", has, value)
	// Output:
	// 2 <nil>
	// false 9
}

// temperature is encoded by a codec of its own.
type temperature float64

type temperatureCodec struct{}

func (temperatureCodec) Append(dst []byte, v temperature) ([]byte, error) {
	return fmt.Appendf(dst, "%.1f", float64(v)), nil
}

func (temperatureCodec) Decode(src []byte) (v temperature, err error) {
	_, err = fmt.Sscan(string(src), (*float64)(&v))
	return v, err
}

func ExampleCodec() {
	t, done := exampleTable() // table.Open
	defer done()
	// keys that have MarshalBinary, values with a codec of one's own
	m := table.NewMap(t, table.BinaryCodec[time.Time](), temperatureCodec{})
	noon := time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)
	_ = m.Store(noon, 21.5)
	v, ok, err := m.Load(noon)
	fmt.Println(v, ok, err)
	// Output: 21.5 true <nil>
}

func ExampleMap_LoadOrStore() {
	t, done := exampleTable() // table.Open
	defer done()
	m := table.NewMap(t, table.StringCodec[string](), table.IntegerCodec[int]())
	v, loaded, _ := m.LoadOrStore("port", 8080)
	fmt.Println(v, loaded)
	v, loaded, _ = m.LoadOrStore("port", 9090)
	fmt.Println(v, loaded)
	// Output:
	// 8080 false
	// 8080 true
}
