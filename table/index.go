package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"pmemtable/internal/layout"
)

// Index is the face of a table of inline entries, with keys and values of eight bytes:
// for indexes, which map a number, a hash or an identifier to a place. An entry takes
// two words in a bucket line, so a lookup is one access to memory, and on persistent
// memory a write takes one drain in most cases. Every number is an ordinary key and an
// ordinary value, 0 too. All its methods may be called from many goroutines at the
// same time, and promise what those of Table of the same name do, unless their text
// says otherwise.
//
// An entry has no checksum: a value that the medium damages is not noticed.
type Index struct{ t *Table }

// ErrNotIndex: the table's entries are not inline.
var ErrNotIndex = errors.New("the table's entries are not inline")

// OpenIndex opens the index in the file at path, or creates it, as Open does a table.
// ErrNotIndex for a file that holds a table of another form.
func OpenIndex(path string, opts *Options) (*Index, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.Inline = true
	t, err := Open(path, &o)
	if err != nil {
		return nil, err
	}
	x, err := NewIndex(t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), t.Close())
	}
	return x, nil
}

// NewIndex returns the face of a table that is open; ErrNotIndex if its entries are
// not inline.
func NewIndex(t *Table) (*Index, error) {
	if !t.inline {
		return nil, ErrNotIndex
	}
	return &Index{t}, nil
}

// Table is the table below, whose keys and values are those of the index as eight
// little-endian bytes: for batches, snapshots, backups, Compact, and metadata.
func (x *Index) Table() *Table { return x.t }

// Get returns the value of key, and whether there is one. It takes no lock, writes no
// memory that another processor reads, and allocates nothing. O(1).
func (x *Index) Get(key uint64) (value uint64, ok bool, err error) {
	defer x.t.caught(debug.SetPanicOnFault(true), &err)
	return x.t.lookInline(x.t.inlineMap.Of(key))
}

// Put stores value under key, whatever was there. It returns when the write is
// durable as Options.Durability says. It allocates nothing on persistent memory.
// O(1); now and then it splits a segment of 16 KiB.
func (x *Index) Put(key, value uint64) error {
	var m mutation
	x.aim(&m, store, key, value)
	return x.t.mutate(&m)
}

// PutIfAbsent stores value under key if there is none, and tells whether it did.
func (x *Index) PutIfAbsent(key, value uint64) (stored bool, err error) {
	var m mutation
	x.aim(&m, storeIfAbsent, key, value)
	err = x.t.mutate(&m)
	return m.changed, err
}

// Delete removes key; it is no error if there is none.
func (x *Index) Delete(key uint64) error {
	var m mutation
	x.aim(&m, remove, key, 0)
	return x.t.mutate(&m)
}

// CompareAndSwap stores new under key if the value there is old, and tells whether it
// did. An absent key has no value.
func (x *Index) CompareAndSwap(key, old, new uint64) (swapped bool, err error) {
	var m mutation
	x.aim(&m, storeIfEqual, key, new)
	m.words.expect = old
	err = x.t.mutate(&m)
	return m.changed, err
}

// CompareAndDelete removes key if the value there is old, and tells whether it did.
func (x *Index) CompareAndDelete(key, old uint64) (deleted bool, err error) {
	var m mutation
	x.aim(&m, removeIfEqual, key, 0)
	m.words.expect = old
	err = x.t.mutate(&m)
	return m.changed, err
}

// Swap stores value under key and returns what was there.
func (x *Index) Swap(key, value uint64) (old uint64, existed bool, err error) {
	var m mutation
	x.aim(&m, store, key, value)
	err = x.t.mutate(&m)
	return m.words.old, m.existed, err
}

// GetAndDelete removes key and returns what was there.
func (x *Index) GetAndDelete(key uint64) (old uint64, existed bool, err error) {
	var m mutation
	x.aim(&m, remove, key, 0)
	err = x.t.mutate(&m)
	return m.words.old, m.existed, err
}

// Update changes the value of key by fn, atomically, as Table.Update does.
func (x *Index) Update(key uint64, fn func(old uint64, exists bool) (new uint64, op Op)) error {
	for {
		old, exists, err := x.Get(key)
		if err != nil {
			return err
		}
		value, op := fn(old, exists)
		done, err := x.updateTo(key, old, exists, value, op)
		if done || err != nil {
			return err
		}
	}
}

// updateTo applies what fn decided if the entry is still as fn saw it.
func (x *Index) updateTo(key, seen uint64, exists bool, value uint64, op Op) (done bool, err error) {
	kind, err := updateKind(exists, op)
	if err != nil {
		return false, err
	}
	var m mutation
	x.aim(&m, kind, key, value)
	m.words.expect = seen
	err = x.t.mutate(&m)
	return m.changed || m.held, err
}

// GetMany looks keys[i] up and stores its value in values[i], 0 if there is none, and
// in found[i] whether there is one; both must be as long as keys. The lookups overlap.
// It is not a snapshot: each key is answered as of a moment of its own.
func (x *Index) GetMany(keys, values []uint64, found []bool) (err error) {
	if len(values) != len(keys) || len(found) != len(keys) {
		return fmt.Errorf("get many: %d keys, but room for %d values and %d answers", len(keys), len(values), len(found))
	}
	for first := 0; first < len(keys); first += manyGroup {
		end := min(first+manyGroup, len(keys))
		if err := x.getGroup(keys[first:end], values[first:end], found[first:end]); err != nil {
			return err
		}
	}
	return nil
}

// getGroup is GetMany of a group, in two passes.
func (x *Index) getGroup(keys, values []uint64, found []bool) (err error) {
	t := x.t
	defer t.caught(debug.SetPanicOnFault(true), &err)
	var glances [manyGroup]glance
	var wants [manyGroup]uint64
	if t.glancesInline {
		for i, key := range keys {
			var hash uint64
			hash, wants[i] = t.inlineMap.Of(key)
			glances[i] = t.lineAhead(hash)
		}
	}
	for i, key := range keys {
		value, saw := t.takeInline(&glances[i], wants[i])
		if values[i], found[i] = value, saw == present; saw != unsure {
			continue
		}
		if values[i], found[i], err = t.lookInlineWhole(t.inlineMap.Of(key)); err != nil {
			return err
		}
	}
	return nil
}

// PutMany stores values[i] under keys[i], in their order, each as by Put: it is not a
// Batch. It is faster than as many Puts, where a Put waits for memory or for a commit.
func (x *Index) PutMany(keys, values []uint64) (err error) {
	t := x.t
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	if len(keys) != len(values) {
		return fmt.Errorf("put many: %d keys, but %d values", len(keys), len(values))
	}
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	var at point
	for i, key := range keys {
		if i%manyGroup == 0 {
			if err := x.aheadOf(keys[i:min(i+manyGroup, len(keys))]); err != nil {
				return err
			}
		}
		var m mutation
		x.aim(&m, store, key, values[i])
		if err := t.attempt(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], &m); err != nil {
			return err
		}
		at = at.and(m.at)
	}
	return t.acknowledge(at, true)
}

// aheadOf asks for the home lines of a group of keys.
func (x *Index) aheadOf(keys []uint64) (err error) {
	t := x.t
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.closing.Load() {
		return ErrClosed
	}
	for _, key := range keys {
		hash, _ := t.inlineMap.Of(key)
		t.lineAhead(hash)
	}
	return nil
}

// All iterates over all entries, in no order of keys. It is weakly consistent: a key
// that is there throughout comes exactly once, with a value that it had meanwhile. It
// ends at the first error, which Err then returns.
func (x *Index) All() iter.Seq2[uint64, uint64] {
	return func(yield func(key, value uint64) bool) {
		for key, value := range x.t.All() {
			if !yield(binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(value)) {
				return
			}
		}
	}
}

// Err returns the error that ended the last All that began, nil if none did.
func (x *Index) Err() error { return x.t.Err() }

// Len returns the number of entries, exactly; see Table.Len.
func (x *Index) Len() int { return x.t.Len() }

// Clear removes every entry, at once for all readers and across any crash.
func (x *Index) Clear() error { return x.t.Clear() }

// Sync returns when everything that was written before the call is durable.
func (x *Index) Sync() error { return x.t.Sync() }

// Stats describes the table below at one moment.
func (x *Index) Stats() Stats { return x.t.Stats() }

// Check verifies the structure, as of one instant, while others go on, and that a
// lookup of every key finds it; see Table.Check.
func (x *Index) Check() (Report, error) { return x.t.Check() }

// Close closes the table below; see Table.Close.
func (x *Index) Close() error { return x.t.Close() }

// aim fills a mutation in.
func (x *Index) aim(m *mutation, kind mutationKind, key, value uint64) {
	m.kind, m.inline = kind, true
	m.hash, m.words.want = x.t.inlineMap.Of(key)
	m.words.value = value
}
