package table

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"pmemtable/recovery"
)

// Report is what Check saw.
type Report = recovery.Report

// Check verifies everything, as of one instant, while others go on: structure,
// the checksum of every record, that a lookup of every key finds it, that no
// block is referred to twice, and the counts. It reads the whole table, writes
// nothing, and returns its report with an ErrCorrupt that names the first problem,
// if there is one.
func (t *Table) Check() (report Report, err error) {
	defer runtime.KeepAlive(t)
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.closing.Load() {
		return Report{}, ErrClosed
	}
	if t.pool.ReadOnly() {
		if t.pool.BesideWriter() || t.writerBegan() {
			return Report{}, fmt.Errorf("%w: a check needs the file to itself, or the writer's own Check", ErrLocked)
		}
		roots := recovery.Roots{Stripes: make([]uint64, len(t.stripes)), Metadata: t.loadMetadataWord()}
		for i := range roots.Stripes {
			roots.Stripes[i] = t.pool.Load(t.rootAt(i))
		}
		r := recovery.CheckView(t.pool, roots, t.overlay.Load(), t.opened.counts, t.collide)
		return r, r.Err(t.pool)
	}
	s := &t.stripes[0]
	if err := t.enter(s); err != nil {
		return Report{}, err
	}
	defer s.leave()
	f := t.cut(false)
	defer t.epochs.release(f.guard)
	r := recovery.Check(t.pool, f.roots, f.counts, t.collide)
	return r, r.Err(t.pool)
}
