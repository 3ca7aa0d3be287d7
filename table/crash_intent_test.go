package table_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
)

// TestNoIntentOutlivesTheOpen: what a session finds of an intent that is none (a kill
// came when it was cleared and not drained, or a power loss tore it) is durably none
// before the session goes on. Otherwise a power loss could bring the first one back, which
// would be redone over blocks that were used again since; and the next intent, torn too,
// could complete the second.
func TestNoIntentOutlivesTheOpen(t *testing.T) {
	for _, s := range []crashSetup{crashX86, crashARM, crashInline, crashInlineARM} {
		k := s.world()
		start := crashPuts(k.a, k.b)
		image := crashImageAfter(s, crashEmptyImage(s, 1), start)
		p := crashProgram{setup: s, start: crashAfter(start), ops: []crashOp{{kind: crashBatch, key: k.far, other: k.a, value: []byte("batch000")}}}
		tracer := crashtest.NewTracer(image)
		tracer.Sites = true
		_, err := p.Run(tracer)
		require.NoError(t, err)
		trace := tracer.Trace()
		count := s.geometry(1).Regions().Intent + layout.IntentCount
		written, cleared := 0, 0
		for i, e := range trace.Events {
			switch {
			case e.Kind != crashtest.Store || e.Off != count:
			case strings.HasPrefix(e.Site, "pmem.(*Pool).WriteIntent:"):
				written = i + 1
			case written > 0:
				cleared = i + 1
			}
		}
		require.Greater(t, cleared, written)

		next := trace.Resume(cleared)
		require.Contains(t, next.Trace().Unguaranteed(s.model), count)
		second := crashTable{setup: s, heap: pmem.NewHeap(next.Image(), s.maxBytes()), hook: next}
		require.NoError(t, second.open())
		second.tab.Die()
		require.NotContains(t, next.Trace().Unguaranteed(s.model), count, "%s: a power loss brings an intent back that was done", s.name)

		torn := trace.Resume(written).Image()
		clear(torn[count-layout.IntentCount+layout.IntentStores+layout.WordBytes:][:layout.WordBytes])
		next = crashtest.NewTracer(torn)
		third := crashTable{setup: s, heap: pmem.NewHeap(torn, s.maxBytes()), hook: next}
		require.NoError(t, third.open())
		require.Zero(t, third.tab.Pool().Load(count), "%s: an intent that was torn can be completed", s.name)
		third.tab.Die()
		require.NotContains(t, next.Trace().Unguaranteed(s.model), count)
	}
}
