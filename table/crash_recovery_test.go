package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// crashRecoveryPrograms end with the operation whose crash is recovered from.
func crashRecoveryPrograms(k crashWorld) [][]crashOp {
	v := []byte("r0000000")
	put := crashOp{kind: crashPut, key: k.a, value: v}
	return [][]crashOp{
		{put},
		{put, {kind: crashDelete, key: k.a}},
		{put, {kind: crashClear}},
		{put, {kind: crashBatch, key: k.b, other: k.a, value: v}},
		{put, {kind: crashReopen}},
	}
}

// crashRecoverTable is a Workload: it opens what a crash left, writes a little into
// what recovery thinks is free, and dies.
type crashRecoverTable struct {
	setup crashSetup
	extra []byte
}

func (r crashRecoverTable) Run(t *crashtest.Tracer) ([]byte, error) {
	heap := pmem.NewHeap(t.Image(), r.setup.maxBytes())
	if r.setup.reboots {
		heap.Reboot()
		heap.Reboot() // not the boot that the oracle's bench is in
	}
	c := crashTable{setup: r.setup, heap: heap, hook: t, beside: true}
	if err := c.open(); err != nil {
		return nil, err
	}
	err := errors.Join(c.tab.Put(r.extra, r.extra), c.tab.Delete(r.extra))
	c.tab.Die()
	return heap.State(), err
}

// TestCrashInsideRecovery crashes the recovery from crashes.
func TestCrashInsideRecovery(t *testing.T) {
	for _, s := range slices.Concat(crashSetups, crashInlineSetups) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			k := s.world()
			began := time.Now()
			var figures crashtest.Figures
			for _, start := range crashStarts {
				if start.name != "dirty" && (start.name != "window" || crashTiny()) {
					continue
				}
				startOps := start.ops(k)
				image := crashImageAfter(s, crashEmptyImage(s, 1), startOps)
				for _, ops := range crashRecoveryPrograms(k) {
					p := crashProgram{setup: s, start: crashAfter(startOps), ops: ops}
					oracle := newCrashOracle(p, k.extra[:30], &crashBench{setup: s})
					oracle.useEvery = 4
					suite := crashtest.Suite{
						Image: image, Workload: p, Oracle: oracle, Model: s.model,
						Recovery:  crashRecoverTable{s, k.extra[0]},
						Bound:     crashtest.Bound{Images: 20, Pairs: -1, Samples: 5},
						DeepBound: crashtest.Bound{Images: 40, Pairs: 10, Samples: 5},
					}
					switch {
					case crashLong:
						suite.Bound, suite.DeepBound = crashtest.Bound{Images: 500}, crashtest.Bound{}
					case crashSmall():
						suite.RecoverEvery = 200
						suite.DeepBound = crashtest.Bound{Images: 10, Pairs: -1, Samples: 5}
					default:
						suite.RecoverEvery = 20
					}
					trace := crashtest.NewTracer(image)
					_, err := p.Run(trace)
					require.NoError(t, err)
					tr := trace.Trace()
					f, err := suite.Crash(tr.From(tr.Find(0, crashtest.Begin, len(ops)-1)))
					require.NoError(t, err, "%s: %v", start.name, p)
					figures.Add(f)
				}
			}
			addCrashFigures(figures, time.Since(began))
			t.Log(figures)
		})
	}
}

func crashAfter(ops []crashOp) crashContent {
	now := crashContent{}
	for _, o := range ops {
		now = now.after(o)
	}
	return now
}

// Operations of a process that goes on where another was killed.
const (
	crashObserved = 100 + iota // it has read everything
	crashWritten               // it has put the first of its keys; and so on
)

// crashSecondLife opens the table after a kill, reads, and writes.
type crashSecondLife struct {
	setup crashSetup
	keys  [][]byte
	blind bool // it does not read
	saw   crashContent

	perSet map[[2]bool][]crashContent // allowedOfMany, remembered
}

func (l *crashSecondLife) run(t *crashtest.Tracer, known *crashOracle) error {
	image := t.Image()
	look := crashTable{setup: l.setup, heap: pmem.NewHeap(image, l.setup.maxBytes()), hook: crashPassHook{}}
	err := look.open()
	if err == nil {
		l.saw, err = known.read(&look, nil)
		look.tab.Die()
	}
	if err != nil {
		return err
	}
	c := crashTable{setup: l.setup, heap: pmem.NewHeap(image, l.setup.maxBytes()), hook: t, beside: true}
	p, err := pmem.OpenHeap(c.heap, pmem.Options{Media: l.setup.media, Hook: t})
	if err == nil {
		err = c.openPool(p)
	}
	if err != nil {
		return err
	}
	defer c.tab.Die()
	if !l.blind {
		t.Begin(crashObserved)
		have, err := known.read(&c, nil)
		t.Ack(crashObserved)
		if err != nil || !maps.Equal(have, l.saw) {
			return fmt.Errorf("%w; %s", err, crashDifferences(have, []crashContent{l.saw}))
		}
	}
	<-p.Swept()
	if l.blind {
		// They take free blocks before any structure is touched.
		values := make([][]byte, len(l.keys))
		for i := range values {
			values[i] = l.value(i)
		}
		t.Begin(crashWritten)
		err := c.tab.PutMany(l.keys, values)
		t.Ack(crashWritten)
		return err
	}
	for i, key := range l.keys {
		t.Begin(crashWritten + i)
		err := c.tab.Put(key, l.value(i))
		t.Ack(crashWritten + i)
		if err != nil {
			return err
		}
	}
	return nil
}

// blindKeys are n keys for a second life that does not look. Inline ones are of stripes
// that are empty, and so take segments.
func (k crashWorld) blindKeys(n int) [][]byte {
	if !k.inline {
		return k.extra[:n]
	}
	var keys [][]byte
	for i := range n {
		keys = append(keys, crashInlineKeys(i+1, 1, 0, "")...)
	}
	return keys
}

// value is what the i-th key gets. Of a blind life most records are as large as segments,
// and some as small as those of the programs: they take the free blocks of both.
func (l *crashSecondLife) value(i int) []byte {
	if l.blind && i%3 < 2 && !l.setup.inline {
		return bytes.Repeat([]byte("w"), 488)
	}
	return []byte("w0000000")
}

// allowedAfter are the contents that power loss may leave in the second life.
func (l *crashSecondLife) allowedAfter(c *crashtest.Crash, first []crashContent) (allowed []crashContent) {
	puts, read := 0, false
	for _, op := range c.Acked {
		puts = max(puts, op-crashWritten+1)
		read = read || op == crashObserved
	}
	began := puts
	for _, op := range c.Pending {
		began = max(began, op-crashWritten+1)
	}
	if puts == 0 && (!read || l.setup.media != pmem.DAX) {
		allowed = append(allowed, first...)
	}
	if l.blind {
		return append(allowed, l.allowedOfMany(puts > 0, began > 0)...)
	}
	now := maps.Clone(l.saw)
	put := func(i int) { now = now.after(crashOp{kind: crashPut, key: l.keys[i], value: l.value(i)}) }
	for i := 0; i <= began; i++ {
		if i > 0 {
			put(i - 1)
		}
		if i >= puts {
			allowed = append(allowed, now)
		}
	}
	return allowed
}

// allowedOfMany are the contents after a PutMany, each of whose keys is there or not
// until it is acknowledged.
func (l *crashSecondLife) allowedOfMany(acked, began bool) (allowed []crashContent) {
	if known, ok := l.perSet[[2]bool{acked, began}]; ok {
		return known
	}
	all := 1<<len(l.keys) - 1
	for set := range all + 1 {
		if set > 0 && !began || set < all && acked {
			continue
		}
		now := maps.Clone(l.saw)
		for i, key := range l.keys {
			if set>>i&1 != 0 {
				now[string(key)] = string(l.value(i))
			}
		}
		allowed = append(allowed, now)
	}
	if l.perSet == nil {
		l.perSet = map[[2]bool][]crashContent{}
	}
	l.perSet[[2]bool{acked, began}] = allowed
	return allowed
}

// TestKillThenPowerLoss kills the process at every event of an operation, lets
// another one open the table, read and write, and cuts the power at every moment
// of that. What the first had stored and not made durable is still not durable:
// the second must see to it before it acts on it.
func TestKillThenPowerLoss(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM, crashCache, crashLog, crashInline, crashInlineARM, crashInlineCache, crashInlineLog} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			k := s.world()
			began := time.Now()
			var figures crashtest.Figures
			for _, start := range crashStarts {
				if start.name != "dirty" && (start.name != "window" && start.name != "line" || crashTiny()) {
					continue
				}
				startOps := start.ops(k)
				image := crashImageAfter(s, crashEmptyImage(s, 1), startOps)
				for i, ops := range crashRecoveryPrograms(k) {
					p := crashProgram{setup: s, start: crashAfter(startOps), ops: ops}
					f, err := crashKillEverywhere(p, image, k, i)
					figures.Add(f)
					require.NoError(t, err, "%s: %v", start.name, p)
				}
			}
			addCrashFigures(figures, time.Since(began))
			t.Log(figures)
		})
	}
}

func crashKillEverywhere(p crashProgram, image []byte, k crashWorld, nth int) (figures crashtest.Figures, err error) {
	tracer := crashtest.NewTracer(image)
	tracer.Sites = true
	if _, err := p.Run(tracer); err != nil {
		return figures, err
	}
	trace := tracer.Trace()
	oracle := newCrashOracle(p, k.extra[:30], &crashBench{setup: p.setup, found: map[uint64]crashFound{}})
	oracle.openEvery, oracle.useEvery = crashOpenEvery(), 4
	oracle.known = append(oracle.known, k.b)
	last := len(p.ops) - 1
	from, to := trace.Find(0, crashtest.Begin, last), trace.Find(0, crashtest.Ack, last)
	bound, step := crashtest.Bound{Images: 20, Pairs: 5, Samples: 5}, 4
	switch {
	case crashLong:
		bound, step = crashtest.Bound{Images: 2000}, 1
	case crashFull:
		bound, step = crashtest.Bound{Images: 40, Pairs: 10, Samples: 5}, 1
	case crashSmall():
		bound, step = crashtest.Bound{Images: 6, Pairs: -1, Samples: 3}, 25
	}
	if crashTiny() {
		step *= 3
	}
	for kill := from + 1 + nth%step; kill <= to+1; kill += step {
		next := trace.Resume(kill)
		next.Sites = true
		life := crashSecondLife{setup: p.setup, keys: k.extra[:1]}
		if kill%2 == 0 {
			life.blind, life.keys = true, k.blindKeys(3)
		}
		if err := life.run(next, oracle); err != nil {
			return figures, fmt.Errorf("killed after event %d: %w", kill, err)
		}
		oracle.second = &life
		suite := crashtest.Suite{Oracle: oracle, Model: p.setup.model, Bound: bound}
		f, err := suite.Crash(next.Trace())
		figures.Add(f)
		if err != nil {
			return figures, fmt.Errorf("killed after event %d (%v): %w", kill, trace.Events[kill-1], err)
		}
	}
	return figures, nil
}

// TestCreationIsDurable: a pool gets its name after its format, so all of it must
// be durable by then.
func TestCreationIsDurable(t *testing.T) {
	for _, s := range slices.Concat(crashSetups, crashInlineSetups) {
		tracer := crashtest.NewTracer(nil)
		h := pmem.NewHeap(nil, s.maxBytes())
		p, err := pmem.OpenHeap(h, pmem.Options{Geometry: s.geometry(2), Media: s.media, Hook: tracer})
		require.NoError(t, err)
		require.NoError(t, p.Close())
		trace := tracer.Trace()
		require.NoError(t, trace.Audit(h.Image()))
		if s.model != crashtest.Kill {
			require.Empty(t, trace.Unguaranteed(s.model), s.name)
		}
	}
}

// TestFlushesPerOperation pins what each operation costs on persistent memory.
func TestFlushesPerOperation(t *testing.T) {
	k := theCrashWorld()
	s := crashX86
	v := []byte("v0000000")
	ops := []crashOp{
		{kind: crashPut, key: k.same[0], value: v}, // plants the segment
		{kind: crashPut, key: k.a, value: v},
		{kind: crashPut, key: k.a, value: v},
		{kind: crashDelete, key: k.a},
		{kind: crashDelete, key: k.a},
		{kind: crashMiss, key: k.same[0], value: v},
		{kind: crashSwap, key: k.same[0], value: v},
	}
	for _, key := range k.same[1:9] { // the last one goes to the next line
		ops = append(ops, crashOp{kind: crashPut, key: key, value: v})
	}
	ops = append(ops, crashOp{kind: crashPut, key: k.same[9], value: v},
		crashOp{kind: crashBatch, key: k.a, other: k.same[0], value: v})
	image := crashEmptyImage(s, 1)
	tracer := crashtest.NewTracer(image)
	tracer.Sites = true
	p := crashProgram{setup: s, ops: ops}
	_, err := p.Run(tracer)
	require.NoError(t, err)
	trace := tracer.Trace()
	for op, want := range map[int][2]int{ // write-backs, drains
		1: {2, 2}, 2: {2, 2}, 3: {1, 1}, 4: {0, 0}, 5: {1, 1}, 6: {2, 2},
		8: {2, 2}, 14: {3, 3}, 15: {2, 2}, 16: {7, 5},
	} {
		got := trace.Count(op)
		require.Equal(t, want, [2]int{got.WriteBacks, got.Drains}, "%d: %v", op, ops[op])
	}
	versions := layout.Geometry(crashGeometry(1)).Regions().Versions
	findings := trace.From(trace.Find(0, crashtest.Begin, 0)).Lint(func(off, _, _ uint64) bool {
		return off >= versions && off < versions+layout.PageBytes
	})
	require.Empty(t, findings)
}
