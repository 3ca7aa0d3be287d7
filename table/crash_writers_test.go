package table_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// crashTwoWriters: one writer takes the first block of a new chunk and is stopped
// before it drains its record. Another one takes the next block of that chunk, and its
// put is acknowledged. What the first wrote back and has not drained, the second's
// drains do not cover: the chunk's descriptor must be durable on its own account.
type crashTwoWriters struct {
	setup crashSetup
	start crashContent
	// The operations are numbered in the order in which they take effect.
	second, first crashOp
}

func (w crashTwoWriters) run(image []byte) (*crashtest.Trace, error) {
	tracer := crashtest.NewTracer(image)
	if _, err := w.program().Run(tracer); err != nil {
		return nil, err
	}
	alone := tracer.Trace()
	fill := slices.IndexFunc(alone.Events, func(e crashtest.Event) bool {
		return e.Kind == crashtest.Copy && bytes.Contains(e.Data, w.first.value)
	})
	if fill < 0 {
		return nil, fmt.Errorf("the record of %v was not filled by one copy", w.first)
	}
	tracer = crashtest.NewTracer(image)
	tracer.Sites = true
	c := crashTable{setup: w.setup, heap: pmem.NewHeap(image, w.setup.maxBytes()), hook: tracer}
	if err := c.open(); err != nil {
		return nil, err
	}
	defer c.tab.Die()
	stopped, goOn, done := make(chan bool), make(chan bool), make(chan error)
	tracer.Gate(fill, func() { close(stopped); <-goOn })
	act := func(op int, o crashOp) error {
		tracer.Begin(op)
		defer tracer.Ack(op)
		return c.do(o, w.start)
	}
	go func() { done <- act(1, w.first) }()
	<-stopped
	err := act(0, w.second)
	close(goOn)
	if e := <-done; e != nil {
		return nil, e
	}
	return tracer.Trace(), err
}

// program is the first writer alone, to find out where to stop it.
func (w crashTwoWriters) program() crashProgram {
	return crashProgram{setup: w.setup, start: w.start, ops: []crashOp{w.first}}
}

func crashWritersTrace(t *testing.T, s crashSetup) mutantTrace {
	k := theCrashWorld()
	start := crashPuts(k.a)
	image := crashImageAfter(s, crashFillFreeSpace(s, crashEmptyImage(s, 1)), start)
	long := func(c byte) []byte { return bytes.Repeat([]byte{c}, 300) } // a class of its own
	w := crashTwoWriters{setup: s, start: crashAfter(start),
		first:  crashOp{kind: crashPut, key: k.a, value: long('f')},
		second: crashOp{kind: crashPut, key: k.b, value: long('s')},
	}
	trace, err := w.run(image)
	require.NoError(t, err)
	p := crashProgram{setup: s, start: w.start, ops: []crashOp{w.second, w.first}}
	oracle := newCrashOracle(p, k.extra[:30], &crashBench{setup: s})
	oracle.openEvery = crashOpenEvery()
	suite := crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(mutantBound)}
	return mutantTrace{name: s.name + "/two writers", trace: trace.From(trace.Find(0, crashtest.Begin, 1)), suite: suite}
}

// TestDescriptorIsDurableForEveryWriter: without the drain of the new chunk's
// descriptor, some crash takes the second writer's acknowledged put back.
func TestDescriptorIsDurableForEveryWriter(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM} {
		w := crashWritersTrace(t, s)
		figures, err := w.suite.Crash(w.trace)
		require.NoError(t, err)
		t.Log(figures)
		descriptor := func(e crashtest.Event) bool {
			return e.Kind == crashtest.Store && e.Off >= layout.Geometry(crashGeometry(1)).Regions().Arena
		}
		first := w.trace.Find(0, crashtest.Begin, 1)
		stored := first + slices.IndexFunc(w.trace.Events[first:], descriptor)
		drain := w.trace.Find(stored, crashtest.Drain, 0)
		require.Less(t, drain, w.trace.Find(0, crashtest.Begin, 0), "the first writer drains before it fills its record")
		killed := false
		for _, m := range w.trace.Mutants() {
			if m.Event == drain {
				_, err := w.suite.Crash(m.Trace())
				killed = err != nil
			}
		}
		require.True(t, killed, "a descriptor that is not drained is found out")
	}
}
