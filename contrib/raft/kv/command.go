package kv

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"

	"pmemtable/contrib/raft/fsm"
)

// A command is an operation 1 byte | size of the key uvarint | key | value.
const (
	opPut    = 'p'
	opAppend = 'a'
	opDelete = 'd'
)

func encodeCommand(op byte, key, value []byte) []byte {
	b := make([]byte, 0, 8+len(key)+len(value))
	b = binary.AppendUvarint(append(b, op), uint64(len(key)))
	return append(append(b, key...), value...)
}

// apply is the Command of the state machine.
func apply(tx *fsm.Tx, entry *raft.Log) (any, error) {
	b := entry.Data
	if len(b) == 0 {
		return nil, fmt.Errorf("entry %d is no command", entry.Index)
	}
	op := b[0]
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return nil, fmt.Errorf("entry %d: its key is cut off", entry.Index)
	}
	b = b[1+n:]
	key, value := b[:size], b[size:]
	switch op {
	case opPut:
		tx.Put(key, value)
	case opAppend:
		old, _ := tx.Get(key)
		tx.Put(key, append(old, value...))
	case opDelete:
		tx.Delete(key)
	default:
		return nil, fmt.Errorf("entry %d: unknown operation %q", entry.Index, op)
	}
	return nil, nil
}
