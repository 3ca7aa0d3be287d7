package table_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// crashCutIntent is a program whose last operation is killed when its intent is stored
// and not drained. A read-only table shows what the intent says.
type crashCutIntent struct {
	crashProgram
	early bool // it was opened before the process that is killed
}

func (c crashCutIntent) run(image []byte) (*crashtest.Trace, error) {
	tracer := crashtest.NewTracer(image)
	tracer.Sites = true
	if _, err := c.Run(tracer); err != nil {
		return nil, err
	}
	whole, kill := tracer.Trace(), 0
	for i, e := range whole.Events {
		if e.Kind == crashtest.Store && strings.HasPrefix(e.Site, "pmem.(*Pool).WriteIntent:") {
			kill = i + 1
		}
	}
	next := whole.Resume(kill)
	next.Sites = true
	now := image
	if !c.early {
		now = next.Image()
	}
	heap := pmem.NewHeap(now, c.setup.maxBytes())
	p, err := pmem.OpenHeap(heap, pmem.Options{Media: c.setup.media, Hook: next, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	view, err := table.OpenPool(p, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = view.Close() }()
	if c.early {
		heap.Load(next.Image())
	}
	op := c.ops[len(c.ops)-1]
	next.Begin(crashReadDone)
	has, err := view.Has(op.key)
	next.Ack(crashReadDone)
	if _, want := crashAfter(c.ops)[string(op.key)]; err == nil && has != want {
		err = fmt.Errorf("the reader says %v: the writer was not killed where it was meant to be", has)
	}
	return next.Trace(), err
}

// crashViewTraces are of a batch and of Clear, and of tables that were opened before the
// kill and after it.
func crashViewTraces(t *testing.T, s crashSetup) (out []mutantTrace) {
	k := s.world()
	start := crashPuts(k.a, k.b)
	image := crashImageAfter(s, crashEmptyImage(s, 1), start)
	for _, op := range []crashOp{{kind: crashBatch, key: k.far, other: k.a, value: []byte("batch000")}, {kind: crashClear, key: k.a}} {
		for _, early := range []bool{false, true} {
			p := crashProgram{setup: s, start: crashAfter(start), ops: []crashOp{op}}
			name := fmt.Sprintf("%s/%v seen, early %v", s.name, op, early)
			trace, err := crashCutIntent{p, early}.run(image)
			require.NoError(t, err, name)
			oracle := crashReaderOracle{newCrashOracle(p, k.extra[:30], &crashBench{})}
			out = append(out, mutantTrace{name: name, trace: trace,
				suite: crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(mutantBound)}})
		}
	}
	return out
}

// TestViewMakesDurableWhatItAnswers: what a read-only table lays over the tree, because a
// killed process had decided it, is durable before it answers by it. Without that, a
// power loss takes back what its caller was told.
func TestViewMakesDurableWhatItAnswers(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM} {
		for _, w := range crashViewTraces(t, s) {
			figures, err := w.suite.Crash(w.trace)
			require.NoError(t, err, w.name)
			t.Log(w.name, figures)
			drain := slices.IndexFunc(w.trace.Events, func(e crashtest.Event) bool {
				return e.Kind == crashtest.Drain && (strings.Contains(e.Site, ".followIntent:") || strings.Contains(e.Site, ".OpenView:"))
			})
			require.Positive(t, drain, w.name)
			require.True(t, crashKillsMutantOf(&w, drain), "%s: that it is not drained is found out", w.name)
		}
	}
}
