package table

import (
	"runtime"
	"runtime/debug"
	"slices"

	"pmemtable/flush"
	"pmemtable/internal/layout"
)

// How often a reader tries without a pin. Each failure means that the stripe's
// version moved while the reader looked, which it does once for many unlinkings.
const unpinnedTries = 4

// Get returns a copy of the value of key, which the caller owns, or ErrNotFound.
// Damage in the way is ErrCorrupt, never a wrong value. It takes no lock, and
// writes no memory that another processor reads. O(1).
func (t *Table) Get(key []byte) ([]byte, error) {
	value, err := t.AppendGet(nil, key)
	if err == nil && value == nil {
		value = []byte{}
	}
	return value, err
}

// AppendGet appends the value of key to dst and returns the extended slice, as
// append does; on an error it returns dst as it was. It allocates only when dst
// lacks room.
func (t *Table) AppendGet(dst, key []byte) (value []byte, err error) {
	defer t.caught(debug.SetPanicOnFault(true), &err)
	value = dst
	if t.glances && len(key) <= layout.MaxKeyBytes {
		g := t.approach(t.hash(key))
		if record, ok := g.choose(); ok {
			t.pool.Prefetch(record + layout.LineBytes) // on its way with the first line
			switch out, saw := t.take(&g, record, dst, key, layout.MaxValueBytes); saw {
			case present:
				return out, nil
			case absent:
				return dst, ErrNotFound
			}
		}
	}
	return t.appendWhole(dst, key)
}

// appendWhole is AppendGet of a key that a glance did not do for.
func (t *Table) appendWhole(dst, key []byte) (value []byte, err error) {
	hash, err := t.beginRead(key)
	if err != nil {
		return dst, err
	}
	if t.inline {
		return t.appendInline(dst, key)
	}
	stripe := layout.StripeOf(hash, t.stripeBits)
	var f found
	for range unpinnedTries {
		version := t.version(stripe)
		t.find(&f, key, hash)
		out := dst
		if f.outcome == present {
			if cap(dst)-len(dst) < len(f.value) {
				if !t.unchanged(stripe, version) { // before allocating by a size that was read
					continue
				}
				out = slices.Grow(dst, len(f.value))
			}
			out = append(out, f.value...)
			if !t.trust && !layout.RecordIntact(f.record) {
				f.damage("record", f.block)
			}
		}
		if t.unchanged(stripe, version) {
			return t.answer(&f, dst, out)
		}
	}
	return t.appendPinned(dst, key, hash)
}

// appendPinned is AppendGet under a pin. It is apart, or what it needs would be set up
// by every call.
func (t *Table) appendPinned(dst, key []byte, hash uint64) (value []byte, err error) {
	err = t.pinned(hash, key, func(value []byte) { dst = append(dst, value...) })
	return dst, err
}

// answer turns a trusted lookup into a result.
func (t *Table) answer(f *found, dst, out []byte) ([]byte, error) {
	switch {
	case t.closing.Load():
		return dst, ErrClosed
	case f.outcome == present:
		return out, nil
	case f.outcome == absent:
		return dst, ErrNotFound
	}
	return dst, t.damageError(f)
}

// Has tells whether key is in the table. It reads the key's record, but not all
// of its value.
func (t *Table) Has(key []byte) (has bool, err error) {
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.glances && len(key) <= layout.MaxKeyBytes {
		g := t.approach(t.hash(key))
		if record, ok := g.choose(); ok {
			if saw := t.sees(&g, record, key); saw != unsure {
				return saw == present, nil
			}
		}
	}
	return t.hasWhole(key)
}

// hasWhole is Has of a key that a glance did not do for.
func (t *Table) hasWhole(key []byte) (has bool, err error) {
	hash, err := t.beginRead(key)
	if err != nil {
		return false, err
	}
	if t.inline {
		_, has, err = t.lookInline(t.inlineOf(key))
		return has, err
	}
	stripe := layout.StripeOf(hash, t.stripeBits)
	var f found
	for range unpinnedTries {
		version := t.version(stripe)
		t.find(&f, key, hash)
		if t.unchanged(stripe, version) {
			_, err := t.answer(&f, nil, nil)
			if err == ErrNotFound {
				err = nil
			}
			return f.outcome == present, err
		}
	}
	err = t.pinned(hash, key, func([]byte) {})
	if err == ErrNotFound {
		return false, nil
	}
	return err == nil, err
}

// View calls fn with the value of key in place: no copy is made. The slice is
// valid, and must not be changed, until fn returns. fn may call the table, for
// writing too; it holds back the reuse of this one value's space meanwhile.
// ErrNotFound if there is no such key; otherwise what fn returns.
func (t *Table) View(key []byte, fn func(value []byte) error) (err error) {
	defer t.caught(debug.SetPanicOnFault(true), &err)
	hash, err := t.beginRead(key)
	if err != nil {
		return err
	}
	stripe := layout.StripeOf(hash, t.stripeBits)
	var pin *pin
	if !t.pool.ReadOnly() && !t.inline { // a pin means nothing to a writer in another process, or in a slot
		pin = t.pins.acquire(stripe, t.version(stripe))
	}
	if pin == nil {
		value, err := t.AppendGet(nil, key)
		if err != nil {
			return err
		}
		return fn(value)
	}
	defer pin.release()
	f := t.findPinned(key, hash)
	if f.outcome != present {
		_, err := t.answer(&f, nil, nil)
		return err
	}
	value := f.value
	if f.block != 0 { // else it lies in the tail of the log
		pin.hold(f.block)
		value = t.pool.Bytes(f.block, len(f.record))[len(f.record)-len(f.value):]
	}
	if t.closing.Load() {
		return ErrClosed
	}
	return fn(value[:len(value):len(value)])
}

// beginRead checks what can be before a lookup, and hashes the key.
func (t *Table) beginRead(key []byte) (uint64, error) {
	if t.closing.Load() {
		return 0, ErrClosed
	}
	if t.inline || len(key) > layout.MaxKeyBytes {
		if err := t.checkKeySize(len(key)); err != nil {
			return 0, err
		}
	}
	return t.hash(key), nil
}

// unchanged tells whether what was read from the stripe's tree since version was
// loaded can be trusted: no block of it was reused meanwhile. The fence keeps the
// loads of the lookup before the load of the version (arm64 has no such order by
// itself).
func (t *Table) unchanged(stripe int, version uint64) bool {
	flush.LoadFence()
	if t.version(stripe) == version {
		return true
	}
	t.countConflict()
	return false
}

// pinned is the way of a reader that lost the check of the version too often: it
// pins the stripe, so that nothing it looks at is reused, and calls fn with the
// value in place.
func (t *Table) pinned(hash uint64, key []byte, fn func(value []byte)) error {
	stripe := layout.StripeOf(hash, t.stripeBits)
	for n := 0; ; n++ {
		version := t.version(stripe)
		var pin *pin
		if !t.pool.ReadOnly() {
			pin = t.pins.acquire(stripe, version)
		}
		f := t.findPinned(key, hash)
		if pin == nil && !t.unchanged(stripe, version) {
			if t.pool.ReadOnly() && n > maxForeignTries {
				return errBusy
			}
			runtime.Gosched() // every pin is taken: go on trying
			continue
		}
		if f.outcome == present {
			// Without a pin the copy below needs a check of its own.
			value := f.value
			if pin == nil {
				value = append([]byte(nil), f.value...)
				if !t.unchanged(stripe, version) {
					continue
				}
			}
			fn(value)
		}
		if pin != nil {
			pin.release()
		}
		_, err := t.answer(&f, nil, nil)
		return err
	}
}

// findPinned looks a key up under a pin, and checks the record. The root area
// that it begins at may be refilled by a second Clear, which a pin does not hold
// back; so it checks that the area is still, or again, the one in use.
func (t *Table) findPinned(key []byte, hash uint64) (f found) {
	for {
		roots := t.roots.Load()
		t.find(&f, key, hash)
		flush.LoadFence()
		if t.roots.Load() != roots {
			continue
		}
		if f.outcome == present && !t.trust && !layout.RecordIntact(f.record) {
			f.damage("record", f.block)
		}
		return f
	}
}
