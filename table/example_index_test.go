package table_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pmemtable/table"
)

// exampleIndex opens an index in a directory of its own; done closes and removes both.
func exampleIndex() (x *table.Index, done func()) {
	dir, err := os.MkdirTemp("", "pmemtable")
	if err != nil {
		panic(err)
	}
	x, err = table.OpenIndex(filepath.Join(dir, "blocks.pmt"), nil)
	if err != nil {
		panic(err)
	}
	return x, func() { fmt.Println(x.Close(), os.RemoveAll(dir)) }
}

func ExampleIndex() {
	x, done := exampleIndex()
	defer done()
	const block, place = 17, 4096
	fmt.Println(x.Put(block, place))
	fmt.Println(x.Get(block))
	fmt.Println(x.Get(18))
	fmt.Println(x.CompareAndSwap(block, place, 8192))
	for block, place := range x.All() {
		fmt.Println(block, place)
	}
	// Output:
	// <nil>
	// 4096 true <nil>
	// 0 false <nil>
	// true <nil>
	// 17 8192
	// <nil> <nil>
}

func ExampleIndex_Table() {
	x, done := exampleIndex()
	defer done()
	// All or nothing: a batch of the table below, with keys and values of eight bytes.
	word := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	b := table.NewBatch()
	b.Put(word(1), word(100))
	b.Put(word(2), word(0))
	fmt.Println(x.Table().Apply(b))
	fmt.Println(x.Len())
	fmt.Println(x.Get(2))
	fmt.Println(errors.Is(x.Table().Put([]byte("a long key"), word(1)), table.ErrEntrySize))
	// Output:
	// <nil>
	// 2
	// 0 true <nil>
	// true
	// <nil> <nil>
}
