package table_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// crashTornCommit is a Workload: a table opens after a power loss that tore a commit, and
// commits.
type crashTornCommit struct{ crashProgram }

func (w crashTornCommit) Run(t *crashtest.Tracer) ([]byte, error) {
	heap := pmem.NewHeap(t.Image(), w.setup.maxBytes())
	heap.Reboot()
	heap.Reboot() // not the boot that the oracle's bench is in
	c := crashTable{setup: w.setup, heap: heap, hook: t}
	if err := c.open(); err != nil {
		return nil, err
	}
	defer c.tab.Die()
	t.Begin(0)
	err := c.do(w.ops[0], w.start)
	t.Ack(0)
	return nil, err
}

// crashTornTrace is that of an open of a table whose newest slot lacks one word of its
// commit.
func crashTornTrace(t *testing.T, s crashSetup, lacks uint64) mutantTrace {
	k := theCrashWorld()
	start := crashPuts(k.a)
	image := crashImageAfter(s, crashEmptyImage(s, 1), start)
	c := crashTable{setup: s, heap: pmem.NewHeap(image, s.maxBytes()), hook: crashPassHook{}}
	require.NoError(t, c.open())
	before := c.heap.State()
	require.NoError(t, c.do(crashOp{kind: crashPut, key: k.b, value: []byte("torn0000")}, nil))
	torn := c.heap.State()
	c.tab.Die()
	g := layout.Geometry(s.geometry(1))
	at := uint64(0)
	for _, off := range g.Regions().Superblock {
		if string(before[off:][:layout.PageBytes]) != string(torn[off:][:layout.PageBytes]) {
			at = off
		}
	}
	require.NotZero(t, at)
	torn[at+lacks] ^= 1

	p := crashProgram{setup: s, start: crashAfter(start), ops: []crashOp{{kind: crashPut, key: k.a, value: []byte("next0000")}}}
	tracer := crashtest.NewTracer(torn)
	tracer.Sites = true
	_, err := crashTornCommit{p}.Run(tracer)
	require.NoError(t, err)
	oracle := newCrashOracle(p, k.extra[:30], &crashBench{setup: s})
	oracle.known = append(oracle.known, k.b)
	suite := crashtest.Suite{Model: s.model, Oracle: oracle, Bound: crashTinyOr(mutantBound)}
	return mutantTrace{name: s.name + "/torn commit", trace: tracer.Trace(), suite: suite}
}

// TestTornCommitIsNotCompleted: what a power loss left of a commit comes to nothing in
// the next session, whatever that one stores to the slot: neither where it lacks what the
// next commit also has, nor where it lacks a zero, for which the sequence must be gone
// durably before zeros are stored.
func TestTornCommitIsNotCompleted(t *testing.T) {
	for _, lacks := range []uint64{layout.SuperSequence, layout.SuperMetadata} {
		w := crashTornTrace(t, crashCache, lacks)
		figures, err := w.suite.Crash(w.trace)
		require.NoError(t, err)
		t.Log(figures)
		for i, e := range w.trace.Events {
			if lacks == layout.SuperMetadata && e.Kind == crashtest.SyncEnd && strings.Contains(e.Site, ").voidBroken:") {
				require.True(t, crashKillsMutantOf(&w, i), "%v", e)
				return
			}
		}
	}
	require.Fail(t, "the sequence is not made durable")
}
