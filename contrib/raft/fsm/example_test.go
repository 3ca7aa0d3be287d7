package fsm_test

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"pmemtable/contrib/raft/fsm"
	"pmemtable/table"
)

// A machine whose entries are "key=value", and whose responses say what was there.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "raft")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "state.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	machine, err := fsm.New(t, func(tx *fsm.Tx, entry *raft.Log) (any, error) {
		key, value, ok := bytes.Cut(entry.Data, []byte("="))
		if !ok {
			return nil, fmt.Errorf("%q is no assignment", entry.Data) // nothing is changed
		}
		old, _ := tx.Get(key)
		tx.Put(key, value)
		return fmt.Sprintf("%s was %q", key, old), nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Raft does this, once an entry is committed.
	for i, data := range []string{"ada=1815", "ada=1852", "nothing"} {
		fmt.Println(machine.Apply(&raft.Log{Index: uint64(i + 1), Term: 1, Data: []byte(data)}))
	}
	// And again what it does not know to be applied, after a restart.
	fmt.Println(machine.Apply(&raft.Log{Index: 2, Term: 1, Data: []byte("ada=1852")}))
	index, _ := machine.Applied()
	fmt.Println(index)
	// Output:
	// ada was ""
	// ada was "1815"
	// "nothing" is no assignment
	// <nil>
	// 3
}
