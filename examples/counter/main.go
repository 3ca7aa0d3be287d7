// Counter counts its own runs in a table that survives whatever ends it: run it,
// kill it, run it again.
//
//	go run ./examples/counter visits.pmt
package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"pmemtable/table"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: counter FILE")
		os.Exit(2)
	}
	n, err := count(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "counter:", err)
		os.Exit(1)
	}
	fmt.Printf("run number %d\n", n)
}

// count adds one to the counter in the file and returns it.
func count(path string) (n uint64, err error) {
	t, err := table.Open(path, nil) // Durability: Always
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := t.Close(); err == nil {
			err = e
		}
	}()
	err = t.Update([]byte("runs"), func(old []byte, exists bool) ([]byte, table.Op) {
		n = 1
		if exists {
			n = binary.LittleEndian.Uint64(old) + 1
		}
		return binary.LittleEndian.AppendUint64(nil, n), table.Store
	})
	return n, err
}
