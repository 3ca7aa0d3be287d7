package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
)

// Put stores value under key, whatever was there. It returns when the write is
// durable as Options.Durability says. Neither slice is retained. It does not
// allocate on the Go heap. O(1); now and then it splits a segment of 16 KiB.
func (t *Table) Put(key, value []byte) error {
	m := mutation{kind: store, key: key, value: value}
	return t.mutate(&m)
}

// PutIfAbsent stores value under key if there is none, and tells whether it did.
// When it did not, it returns once the entry that it saw is durable.
func (t *Table) PutIfAbsent(key, value []byte) (stored bool, err error) {
	m := mutation{kind: storeIfAbsent, key: key, value: value}
	err = t.mutate(&m)
	return m.changed, err
}

// Delete removes key; it is no error if there is none. It returns when that is
// durable. On a full medium it finds room in a reserve; ErrFull is possible only
// while other goroutines take what becomes free, and then it may be tried again.
func (t *Table) Delete(key []byte) error {
	m := mutation{kind: remove, key: key}
	return t.mutate(&m)
}

// CompareAndSwap stores new under key if the value there equals old, and tells
// whether it did. An absent key equals nothing.
func (t *Table) CompareAndSwap(key, old, new []byte) (bool, error) {
	m := mutation{kind: storeIfEqual, key: key, value: new, expect: old}
	err := t.mutate(&m)
	return m.changed, err
}

// CompareAndDelete removes key if the value there equals old, and tells whether
// it did.
func (t *Table) CompareAndDelete(key, old []byte) (bool, error) {
	m := mutation{kind: removeIfEqual, key: key, expect: old}
	err := t.mutate(&m)
	return m.changed, err
}

// Swap stores value under key and returns a copy of what was there, which the
// caller owns.
func (t *Table) Swap(key, value []byte) (old []byte, existed bool, err error) {
	m := mutation{kind: store, key: key, value: value, keep: true}
	err = t.mutate(&m)
	return t.previous(&m), m.existed, err
}

// GetAndDelete removes key and returns a copy of what was there, which the caller
// owns.
func (t *Table) GetAndDelete(key []byte) (old []byte, existed bool, err error) {
	m := mutation{kind: remove, key: key, keep: true}
	err = t.mutate(&m)
	return t.previous(&m), m.existed, err
}

// previous is the old value: nil only for an absent key.
func (t *Table) previous(m *mutation) []byte {
	if t.inline && m.existed {
		return binary.LittleEndian.AppendUint64(nil, m.words.old)
	}
	if m.existed && m.old == nil {
		return []byte{}
	}
	return m.old
}

// Op says what Update is to do with a key.
type Op int

const (
	// Keep leaves the entry, or its absence, as it is.
	Keep Op = iota
	// Store stores the new value.
	Store
	// Remove removes the key.
	Remove
)

// Update changes the value of key by fn, atomically: fn gets the value, or nil
// and false, and returns a new value and what to do. fn runs without any lock, on
// a copy that it may keep and change, and runs again when another writer was
// faster; so it must have no effects of its own that matter. It may call the
// table.
func (t *Table) Update(key []byte, fn func(old []byte, exists bool) (new []byte, op Op)) error {
	defer runtime.KeepAlive(t)
	for {
		old, err := t.Get(key)
		exists := err == nil
		if err != nil && err != ErrNotFound {
			return err
		}
		seen := bytes.Clone(old) // fn may change what it gets
		value, op := fn(old, exists)
		done, err := t.updateTo(key, seen, exists, value, op)
		if done || err != nil {
			return err
		}
	}
}

// updateTo applies what fn decided if the entry is still as fn saw it.
func (t *Table) updateTo(key, seen []byte, exists bool, value []byte, op Op) (done bool, err error) {
	kind, err := updateKind(exists, op)
	if err != nil {
		return false, err
	}
	m := mutation{kind: kind, key: key, expect: seen}
	if kind.stores() {
		m.value = value
	}
	err = t.mutate(&m)
	return m.changed || m.held, err
}

// updateKind is the mutation that does what fn decided.
func updateKind(exists bool, op Op) (mutationKind, error) {
	switch {
	case op == Keep && exists:
		return holdsEqual, nil
	case op == Keep, op == Remove && !exists:
		return holdsAbsent, nil
	case op == Store && exists:
		return storeIfEqual, nil
	case op == Store:
		return storeIfAbsent, nil
	case op == Remove:
		return removeIfEqual, nil
	}
	return 0, fmt.Errorf("update: unknown operation %d", op)
}
