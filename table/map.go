package table

import (
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
)

// Map is a typed face of a table: the methods of sync.Map, with an error each,
// since a table lies on a medium that can fail. Must has them without. All are safe
// for concurrent use, as durable and as atomic as the calls of the table that they
// are made of, and cost what those cost and the codecs.
//
// Two values are the same when their encodings are: so CompareAndSwap takes any type.
type Map[K, V any] struct {
	table   *Table
	keys    Codec[K]
	values  Codec[V]
	iterErr atomic.Pointer[error]
}

// NewMap returns a typed face of t. Several faces of one table may exist; all that
// is in it should have been written with codecs of the same encoding: an entry that
// a codec does not take is an error of the calls that meet it.
func NewMap[K, V any](t *Table, keys Codec[K], values Codec[V]) *Map[K, V] {
	return &Map[K, V]{table: t, keys: keys, values: values}
}

// Table returns the table behind the map, whose owner closes it.
func (m *Map[K, V]) Table() *Table { return m.table }

// scratch is what a call encodes into. The codecs are interfaces, so that slices on
// the stack would escape.
type scratch struct{ key, old, value []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// keepScratchBytes: a buffer that one huge value blew up is let go.
const keepScratchBytes = 1 << 20

func (s *scratch) release() {
	if cap(s.key)+cap(s.old)+cap(s.value) <= keepScratchBytes {
		scratches.Put(s)
	}
}

// begin encodes a key.
func (m *Map[K, V]) begin(key K) (s *scratch, err error) {
	s = scratches.Get().(*scratch)
	if s.key, err = m.keys.Append(s.key[:0], key); err != nil {
		return s, fmt.Errorf("encode key: %w", err)
	}
	return s, nil
}

// encode encodes a value.
func (m *Map[K, V]) encode(dst []byte, value V) ([]byte, error) {
	b, err := m.values.Append(dst[:0], value)
	if err != nil {
		return b, fmt.Errorf("encode value: %w", err)
	}
	return b, nil
}

func (m *Map[K, V]) decode(b []byte) (V, error) {
	v, err := m.values.Decode(b)
	if err != nil {
		return v, fmt.Errorf("decode value: %w", err)
	}
	return v, nil
}

// decodeIf decodes what a call of the table found.
func (m *Map[K, V]) decodeIf(found bool, b []byte, err error) (v V, ok bool, _ error) {
	if err != nil || !found {
		return v, false, err
	}
	v, err = m.decode(b)
	return v, err == nil, err
}

// Load returns the value of key, and whether it is there. It allocates only what
// the codecs do.
func (m *Map[K, V]) Load(key K) (value V, ok bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return value, false, err
	}
	s.value, err = m.table.AppendGet(s.value[:0], s.key)
	if err == ErrNotFound {
		return value, false, nil
	}
	return m.decodeIf(true, s.value, err)
}

// Store sets the value of key.
func (m *Map[K, V]) Store(key K, value V) error {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return err
	}
	if s.value, err = m.encode(s.value, value); err != nil {
		return err
	}
	return m.table.Put(s.key, s.value)
}

// LoadOrStore returns the value of key if it is there, and true. Otherwise it
// stores value, and returns it and false.
func (m *Map[K, V]) LoadOrStore(key K, value V) (actual V, loaded bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return actual, false, err
	}
	if s.value, err = m.encode(s.value, value); err != nil {
		return actual, false, err
	}
	for { // until it is there at one moment, or absent at one
		stored, err := m.table.PutIfAbsent(s.key, s.value)
		if err != nil {
			return actual, false, err
		}
		if stored {
			return value, false, nil
		}
		if s.old, err = m.table.AppendGet(s.old[:0], s.key); err != ErrNotFound {
			return m.decodeIf(true, s.old, err)
		}
	}
}

// LoadAndDelete removes key and returns the value that it had, and whether it was
// there.
func (m *Map[K, V]) LoadAndDelete(key K) (value V, loaded bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return value, false, err
	}
	old, existed, err := m.table.GetAndDelete(s.key)
	return m.decodeIf(existed, old, err)
}

// Delete removes key; it is no error if it is not there.
func (m *Map[K, V]) Delete(key K) error {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return err
	}
	return m.table.Delete(s.key)
}

// Swap sets the value of key and returns the one that it had, and whether it was
// there.
func (m *Map[K, V]) Swap(key K, value V) (previous V, loaded bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return previous, false, err
	}
	if s.value, err = m.encode(s.value, value); err != nil {
		return previous, false, err
	}
	old, existed, err := m.table.Swap(s.key, s.value)
	return m.decodeIf(existed, old, err)
}

// CompareAndSwap sets the value of key to new if it is old.
func (m *Map[K, V]) CompareAndSwap(key K, old, new V) (swapped bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return false, err
	}
	if s.old, err = m.encode(s.old, old); err != nil {
		return false, err
	}
	if s.value, err = m.encode(s.value, new); err != nil {
		return false, err
	}
	return m.table.CompareAndSwap(s.key, s.old, s.value)
}

// CompareAndDelete removes key if its value is old.
func (m *Map[K, V]) CompareAndDelete(key K, old V) (deleted bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return false, err
	}
	if s.old, err = m.encode(s.old, old); err != nil {
		return false, err
	}
	return m.table.CompareAndDelete(s.key, s.old)
}

// Compute changes the value of key by fn, atomically. fn gets the value, or the
// zero value and false, and returns what to do: Keep, Store or Remove. It runs
// without any lock, on another call again if the entry changed meanwhile, and may
// call the table. Compute returns the value of key behind it, and whether it is there.
func (m *Map[K, V]) Compute(key K, fn func(old V, loaded bool) (new V, op Op)) (actual V, ok bool, err error) {
	s, err := m.begin(key)
	defer s.release()
	if err != nil {
		return actual, false, err
	}
	var inner error
	err = m.table.Update(s.key, func(b []byte, exists bool) ([]byte, Op) {
		var old V
		actual, ok, inner = old, exists, nil
		if exists {
			if old, inner = m.decode(b); inner != nil {
				return nil, Keep
			}
		}
		value, op := fn(old, exists)
		switch op {
		case Store:
			s.value, inner = m.encode(s.value, value)
			if inner != nil {
				return nil, Keep
			}
			actual, ok = value, true
		case Remove:
			ok = false
		default:
			actual = old
		}
		return s.value, op
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		var none V
		return none, false, err
	}
	return actual, ok, nil
}

// All returns an iteration over the entries, weakly consistent as Table.All. It
// ends at the first error, which Err then holds.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		m.iterErr.Store(nil)
		if err := m.each(yield); err != nil {
			m.iterErr.Store(&err)
		}
	}
}

func (m *Map[K, V]) each(yield func(K, V) bool) error {
	for cursor := uint64(0); ; {
		entries, next, err := m.table.step(cursor)
		if err != nil {
			return err
		}
		for _, e := range entries {
			k, err := m.keys.Decode(e.key)
			if err != nil {
				return fmt.Errorf("decode key: %w", err)
			}
			v, err := m.decode(e.value)
			if err != nil {
				return err
			}
			if !yield(k, v) {
				return nil
			}
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// Err returns the error that ended the last All or Range of this Map that began,
// nil if none did.
func (m *Map[K, V]) Err() error {
	if err := m.iterErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Len returns the number of entries of the table.
func (m *Map[K, V]) Len() int { return m.table.Len() }

// Clear removes all entries of the table.
func (m *Map[K, V]) Clear() error { return m.table.Clear() }
