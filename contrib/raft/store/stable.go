package store

import (
	"encoding/binary"
	"fmt"

	"pmemtable/table"
)

// Set stores value under key, durably when it returns. Neither is kept.
func (s *Store) Set(key, value []byte) error {
	return s.table.Put(stableKey(key), value)
}

// Get returns a copy of the value of key. table.ErrNotFound, whose text raft knows,
// if there is none.
func (s *Store) Get(key []byte) ([]byte, error) {
	return s.table.Get(stableKey(key))
}

// SetUint64 stores a number under key, durably when it returns.
func (s *Store) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns the number under key. table.ErrNotFound, whose text raft knows,
// if there is none.
func (s *Store) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("stable key %q: %w: a value of %d bytes is no number", key, table.ErrCorrupt, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

func stableKey(key []byte) []byte {
	return append(append(make([]byte, 0, 1+len(key)), stablePrefix), key...)
}
