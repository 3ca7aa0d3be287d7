package table_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pmemtable/table"
)

func ExampleOpen() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "users.pmt"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	_ = t.Put([]byte("ada"), []byte("1815")) // durable when it returns
	value, _ := t.Get([]byte("ada"))
	fmt.Printf("%s\n", value)
	_, err = t.Get([]byte("bob"))
	fmt.Println(errors.Is(err, table.ErrNotFound))
	// Output:
	// 1815
	// true
}

func ExampleTable_Update() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "words.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	for _, word := range []string{"to", "be", "or", "not", "to", "be"} {
		_ = t.Update([]byte(word), func(old []byte, exists bool) ([]byte, table.Op) {
			return append(old, '|'), table.Store // fn owns old
		})
	}
	_ = t.View([]byte("be"), func(v []byte) error {
		fmt.Println(len(v), "times")
		return nil
	})
	// Output: 2 times
}

func ExampleTable_Apply() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "accounts.pmt"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	b := table.NewBatch()
	b.Put([]byte("alice"), []byte("90"))
	b.Put([]byte("bob"), []byte("10"))
	b.SetMetadata([]byte("applied index 7")) // in the same commit
	if err := t.Apply(b); err != nil {
		fmt.Println(err)
		return
	}
	meta, _ := t.Metadata()
	fmt.Printf("%d entries, %s\n", t.Len(), meta)
	// Output: 2 entries, applied index 7
}

func ExampleTable_Snapshot() {
	dir, _ := os.MkdirTemp("", "pmemtable")
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "t.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Close()
	_ = t.Put([]byte("k"), []byte("before"))
	s, err := t.Snapshot()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	_ = t.Put([]byte("k"), []byte("after"))
	then, _ := s.Get([]byte("k"))
	now, _ := t.Get([]byte("k"))
	fmt.Printf("%s, %s\n", then, now)
	// Output: before, after
}
