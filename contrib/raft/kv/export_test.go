package kv

import (
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"pmemtable/contrib/raft/fsm"
	"pmemtable/table"
)

// ApplyForTest applies one entry to a new state, and returns its response.
func ApplyForTest(data []byte) error {
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "state.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		return err
	}
	defer t.Close()
	m, err := fsm.New(t, apply)
	if err != nil {
		return err
	}
	response, _ := m.Apply(&raft.Log{Index: 1, Data: data}).(error)
	return response
}
