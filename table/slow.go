package table

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// phase is what a call that writes is doing.
type phase int

const (
	filling    phase = iota // the record, and making it durable
	allocating              // taking blocks; where there is no room, making it or waiting for growth
	locking                 // waiting for the mutexes of its stripes
	changing                // under them: looking up, splitting, copying, storing, draining
	committing              // waiting for a checkpoint
	phases
)

// String says it as in a log.
func (p phase) String() string {
	return [...]string{"filling the record", "taking space", "waiting for the lock", "changing the table", "waiting for a commit"}[p]
}

// watch follows one call, to tell where its time went if it took long. A nil one
// belongs to a call that nobody watches.
type watch struct {
	began, last int64
	now         phase
	spent       [phases]time.Duration
	clock       func() int64
}

// enters notes that the call begins with something else.
func (w *watch) enters(p phase) {
	if w != nil {
		w.enter(p)
	}
}

func (w *watch) enter(p phase) {
	at := w.clock()
	w.spent[w.now] += time.Duration(at - w.last)
	w.last, w.now = at, p
}

// mostly is what took longest.
func (w *watch) mostly() phase {
	most := filling
	for p := range phases {
		if w.spent[p] > w.spent[most] {
			most = p
		}
	}
	return most
}

// slowLog reports calls that took long, at a bounded rate. Nil: it does not.
type slowLog struct {
	threshold time.Duration
	logger    *slog.Logger
	clock     func() int64 // nanoseconds; a test's own
	watches   sync.Pool

	mu       sync.Mutex // guards the rest
	window   int64      // when the present second began
	reported int        // in it
	left     uint64     // calls that were not reported since the last one that was
}

// slowPerSecond bounds the reports of a second.
const slowPerSecond = 10

// newSlowLog returns nil where there is nothing to report, or nobody to report to.
func newSlowLog(threshold time.Duration, logger *slog.Logger) *slowLog {
	if threshold <= 0 || logger.Handler() == slog.DiscardHandler {
		return nil
	}
	s := &slowLog{threshold: threshold, logger: logger, clock: now}
	s.watches.New = func() any { return new(watch) }
	return s
}

// begin returns the watch of a call, which it begins by doing first.
func (s *slowLog) begin(first phase) *watch {
	if s == nil {
		return nil
	}
	w := s.watches.Get().(*watch)
	at := s.clock()
	*w = watch{began: at, last: at, now: first, clock: s.clock}
	return w
}

// slowCall says what a slow call was about. No key and no value is ever logged.
type slowCall struct {
	operation  string
	keys       int // 1 unless it is of many
	keyBytes   int
	valueBytes int
	did        structural
}

// structural counts the changes of structure that a call made on its way.
type structural struct{ splits, copies, chains uint16 }

func (d *structural) add(o structural) {
	d.splits, d.copies, d.chains = d.splits+o.splits, d.copies+o.copies, d.chains+o.chains
}

// end reports the call if it was slow.
func (s *slowLog) end(w *watch, path string, c slowCall, err error) {
	if w == nil {
		return
	}
	w.enter(w.now)
	if took := time.Duration(w.last - w.began); took >= s.threshold {
		s.report(w.last, c.attrs(path, took, w), err)
	}
	s.watches.Put(w)
}

func (c *slowCall) attrs(path string, took time.Duration, w *watch) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("path", path), slog.String("operation", c.operation), slog.Duration("took", took), slog.String("mostly", w.mostly().String()),
	}
	for p, name := range [phases]string{"filling", "taking_space", "lock_wait", "changing", "commit_wait"} {
		if w.spent[p] > 0 {
			attrs = append(attrs, slog.Duration(name, w.spent[p]))
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"keys", c.keys}, {"key_bytes", c.keyBytes}, {"value_bytes", c.valueBytes},
		{"splits", int(c.did.splits)}, {"copies", int(c.did.copies)}, {"chains", int(c.did.chains)},
	} {
		if n.value > 0 {
			attrs = append(attrs, slog.Int(n.name, n.value))
		}
	}
	return attrs
}

// report writes a report unless there were too many of late.
func (s *slowLog) report(at int64, attrs []slog.Attr, err error) {
	left, ok := s.admit(at)
	if !ok {
		return
	}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	if left > 0 {
		attrs = append(attrs, slog.Uint64("not_reported", left))
	}
	s.logger.LogAttrs(context.Background(), slog.LevelWarn, "slow operation", attrs...)
}

// admit tells whether another report fits into the second, and how many did not
// since the last one.
func (s *slowLog) admit(at int64) (left uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at-s.window >= int64(time.Second) {
		s.window, s.reported = at, 0
	}
	if s.reported == slowPerSecond {
		s.left++
		return 0, false
	}
	s.reported++
	left, s.left = s.left, 0
	return left, true
}

// mutate carries a mutation out, and watches it if slow ones are to be reported.
func (t *Table) mutate(m *mutation) error {
	if t.slow == nil {
		return t.carryOut(m)
	}
	m.watch = t.slow.begin(filling)
	err := t.carryOut(m)
	t.slow.end(m.watch, t.pool.Path(), slowCall{m.kind.String(), 1, len(m.key), len(m.value), m.kit.did}, err)
	return err
}

// watched ends the watch of a batch.
func (r *batchRun) watched(err *error) {
	if r.watch == nil {
		return
	}
	c := slowCall{operation: "batch", keys: len(r.ops)}
	for i := range r.ops {
		c.keyBytes += len(r.ops[i].key)
		c.valueBytes += len(r.ops[i].value)
	}
	for _, k := range r.kits {
		c.did.add(k.did)
	}
	r.table.slow.end(r.watch, r.table.pool.Path(), c, *err)
}

// watched ends the watch of a PutMany.
func (g *putGroup) watched(keys int, err *error) {
	if g.watch != nil {
		g.table.slow.end(g.watch, g.table.pool.Path(), slowCall{operation: "put many", keys: keys, did: g.did}, *err)
	}
}

// String names the call that makes a mutation of the kind.
func (k mutationKind) String() string {
	return [...]string{"put", "put if absent", "compare and swap", "move", "delete", "compare and delete", "update", "update"}[k]
}

// reportCheckpoint reports a slow checkpoint.
func (t *Table) reportCheckpoint(took time.Duration) {
	if s := t.slow; s != nil && took >= s.threshold {
		s.report(s.clock(), []slog.Attr{
			slog.String("path", t.pool.Path()), slog.String("operation", "checkpoint"), slog.Duration("took", took),
			slog.Duration("held_locks", time.Duration(t.commits.lastCut.Load())), slog.Uint64("sequence", t.commits.next),
		}, nil)
	}
}
