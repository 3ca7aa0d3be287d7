package store_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"pmemtable/contrib/raft/store"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "raft")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(filepath.Join(dir, "raft.pmt"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	// Raft itself does this: s is the log and the stable store of raft.NewRaft.
	err = s.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("a")}, {Index: 2, Term: 1, Data: []byte("b")}})
	if err != nil {
		log.Fatal(err) // all or none were stored
	}
	last, _ := s.LastIndex()
	var entry raft.Log
	err = s.GetLog(last, &entry)
	fmt.Printf("%d: %s %v\n", last, entry.Data, err)
	fmt.Println(s.GetLog(3, &entry) == raft.ErrLogNotFound)
	// Output:
	// 2: b <nil>
	// true
}
