package table

import "iter"

// MustMap is a Map with the very methods of sync.Map, typed: moving a program over
// is a change of the declaration. What sync.Map has no result for, an error of the
// medium or of a codec, goes to a function, which by default panics with it.
type MustMap[K, V any] struct {
	m    *Map[K, V]
	fail func(error)
}

// Must returns m with the methods of sync.Map. fail is called with each error, on
// the goroutine that met it; if it returns, so does the method, with zero values
// and nothing known to be done. nil: panic.
func (m *Map[K, V]) Must(fail func(error)) *MustMap[K, V] {
	if fail == nil {
		fail = func(err error) { panic(err) }
	}
	return &MustMap[K, V]{m: m, fail: fail}
}

func (m *MustMap[K, V]) check(err error) {
	if err != nil {
		m.fail(err)
	}
}

// Load is that of Map.
func (m *MustMap[K, V]) Load(key K) (value V, ok bool) {
	value, ok, err := m.m.Load(key)
	m.check(err)
	return value, ok
}

// Store is that of Map.
func (m *MustMap[K, V]) Store(key K, value V) { m.check(m.m.Store(key, value)) }

// LoadOrStore is that of Map.
func (m *MustMap[K, V]) LoadOrStore(key K, value V) (actual V, loaded bool) {
	actual, loaded, err := m.m.LoadOrStore(key, value)
	m.check(err)
	return actual, loaded
}

// LoadAndDelete is that of Map.
func (m *MustMap[K, V]) LoadAndDelete(key K) (value V, loaded bool) {
	value, loaded, err := m.m.LoadAndDelete(key)
	m.check(err)
	return value, loaded
}

// Delete is that of Map.
func (m *MustMap[K, V]) Delete(key K) { m.check(m.m.Delete(key)) }

// Swap is that of Map.
func (m *MustMap[K, V]) Swap(key K, value V) (previous V, loaded bool) {
	previous, loaded, err := m.m.Swap(key, value)
	m.check(err)
	return previous, loaded
}

// CompareAndSwap is that of Map.
func (m *MustMap[K, V]) CompareAndSwap(key K, old, new V) (swapped bool) {
	swapped, err := m.m.CompareAndSwap(key, old, new)
	m.check(err)
	return swapped
}

// CompareAndDelete is that of Map.
func (m *MustMap[K, V]) CompareAndDelete(key K, old V) (deleted bool) {
	deleted, err := m.m.CompareAndDelete(key, old)
	m.check(err)
	return deleted
}

// Compute is that of Map.
func (m *MustMap[K, V]) Compute(key K, fn func(old V, loaded bool) (new V, op Op)) (actual V, ok bool) {
	actual, ok, err := m.m.Compute(key, fn)
	m.check(err)
	return actual, ok
}

// Range calls fn for each entry until it returns false, as Map.All.
func (m *MustMap[K, V]) Range(fn func(key K, value V) bool) {
	m.m.All()(fn)
	m.check(m.m.Err())
}

// All is that of Map.
func (m *MustMap[K, V]) All() iter.Seq2[K, V] { return m.Range }

// Len is that of Map.
func (m *MustMap[K, V]) Len() int { return m.m.Len() }

// Clear is that of Map.
func (m *MustMap[K, V]) Clear() { m.check(m.m.Clear()) }
