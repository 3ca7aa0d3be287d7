package table

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"pmemtable/recovery"
)

// Report is what Check saw.
type Report = recovery.Report

// PendingLog is what the log of a table holds that was not closed and lost its power,
// until an open for writing takes it up.
type PendingLog = recovery.PendingLog

// CheckOptions say how deep a check looks; the zero value is a full check.
type CheckOptions struct {
	Level recovery.Level
	// Workers are the goroutines that check stripes. 0: half as many as processors, so
	// that the table can serve meanwhile. What is reported does not depend on it.
	Workers int
	// Progress, if set, is told how many entries were looked at since it was told
	// before. Several goroutines call it.
	Progress func(entries int)
}

// Check verifies everything, as of one instant, while others go on: structure,
// the checksum of every record, that a lookup of every key finds it, that no
// block is referred to twice, the counts, and the frames of a log that nobody has taken
// up yet. It reads the whole table, writes
// nothing, and returns its report with an ErrCorrupt that names the first problem,
// if there is one.
func (t *Table) Check() (Report, error) { return t.CheckWith(context.Background(), CheckOptions{}) }

// CheckWith is Check as far as the options say. When ctx ends so does the check,
// with its error.
func (t *Table) CheckWith(ctx context.Context, opts CheckOptions) (report Report, err error) {
	defer runtime.KeepAlive(t)
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.closing.Load() {
		return Report{}, ErrClosed
	}
	o := recovery.CheckOptions{Level: opts.Level, Workers: opts.Workers, Progress: opts.Progress, Hash: t.collide}
	var roots recovery.Roots
	if t.pool.ReadOnly() {
		if t.pool.BesideWriter() || t.writerBegan() {
			return Report{}, fmt.Errorf("%w: a check needs the file to itself, or the writer's own Check", ErrLocked)
		}
		roots = recovery.Roots{Stripes: make([]uint64, len(t.stripes)), Metadata: t.loadMetadataWord()}
		for i := range roots.Stripes {
			roots.Stripes[i] = t.pool.Load(t.rootAt(i))
		}
		o.Overlay, o.Counts = t.overlay.Load(), t.opened.counts
	} else {
		s := &t.stripes[0]
		if err := t.enter(s); err != nil {
			return Report{}, err
		}
		defer s.leave()
		f := t.cut(false)
		defer t.epochs.release(f.guard)
		roots, o.Counts = f.roots, f.counts
	}
	if report, err = recovery.CheckWith(ctx, t.pool, roots, o); err != nil {
		return report, err
	}
	if t.pendingLog().Generation != 0 {
		recovery.CheckLog(t.pool, &t.opened.decision, &report)
	}
	return report, report.Err(t.pool)
}
