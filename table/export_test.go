package table

import (
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// MarkBeside has an open find free space beside the callers, as it does in files that are
// larger than those of tests.
func MarkBeside(opts *Options) *Options {
	var o Options
	if opts != nil {
		o = *opts
	}
	o.markBeside = true
	return &o
}

// OpenColliding is OpenPool with a hash of the test's own.
func OpenColliding(p *pmem.Pool, opts *Options, hash func(key []byte) uint64) (*Table, error) {
	return openPool(p, *MarkBeside(opts), time.Now(), hash)
}

// Pool is the table's pool.
func (t *Table) Pool() *pmem.Pool { return t.pool }

// LogOpen tells whether changes go into the log and can be flushed now.
func (t *Table) LogOpen() bool {
	t.redo.mu.Lock()
	defer t.redo.mu.Unlock()
	return t.redo.open && t.redo.first == 0
}

// GetUnchecked reads as Get does but leaves out what makes that safe: neither a
// version check nor a pin. It plants the race that the suite must catch.
func (t *Table) GetUnchecked(key []byte) []byte {
	var f found
	t.find(&f, key, t.hash(key))
	if f.outcome != present {
		return nil
	}
	return append([]byte(nil), t.pool.Bytes(f.block, len(f.record))...)
}

// DieHeld ends a table as a kill would: nothing is committed or marked, and the
// pool's lock stays held (Heap.Abandon gives it back). No call may be under way.
func (t *Table) DieHeld() {
	t.closing.Store(true)
	t.cancel()
	t.work.Wait()
	t.condemned.work.Wait()
}

// Mutations of internals that tests of limits need.
const RetireCount = retireCount

// Depth is the depth of a stripe's directory.
func (t *Table) Depth(stripe int) uint {
	_, depth, _ := layout.DecodeStripeRoot(t.pool.Load(t.rootAt(stripe)))
	return depth
}

// SetSlowClock replaces the clock of slow calls, in nanoseconds.
func (t *Table) SetSlowClock(clock func() int64) { t.slow.clock = clock }

// NextVersions advances every stripe's version, as the reuse of blocks does.
func (t *Table) NextVersions() { t.nextVersions() }

// GetPinned is Get by the way of a reader that lost the check of the version too often.
func (t *Table) GetPinned(key []byte) (value []byte, err error) {
	hash, err := t.beginRead(key)
	if err == nil {
		err = t.pinned(hash, key, func(v []byte) { value = append(value, v...) })
	}
	return value, err
}

// TakePins takes every pin there is, until letGo is called.
func (t *Table) TakePins() (letGo func()) {
	var taken []*pin
	for p := t.pins.acquire(0, 0); p != nil; p = t.pins.acquire(0, 0) {
		taken = append(taken, p)
	}
	return func() {
		for _, p := range taken {
			p.release()
		}
	}
}

// SetHeads has each stripe remember so many heads, a power of two, at most. Nobody may be
// using the table.
func (t *Table) SetHeads(most int) {
	for i := range t.stripes {
		t.stripes[i].heads = heads{most: most}
	}
}
