package table_test

import (
	"bytes"
	"context"
	"path/filepath"
	"runtime/trace"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// traced runs work under the execution tracer and returns the trace. It fails where
// a tracer runs already: go test -trace.
func traced(t *testing.T, work func()) []byte {
	var buf bytes.Buffer
	require.NoError(t, trace.Start(&buf))
	defer trace.Stop()
	work()
	trace.Stop()
	return buf.Bytes()
}

// TestTraceShowsWhatTakesTime: go tool trace shows each by its name. A trace holds
// the name of a region once the region was begun.
func TestTraceShowsWhatTakesTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.pmt")
	open := func() *table.Table {
		tab, err := table.Open(path, &table.Options{Media: pmem.PageCache, Stripes: 1, SegmentSize: 512, Durability: table.OnSync})
		require.NoError(t, err)
		return tab
	}
	var tab *table.Table
	for _, step := range []struct {
		does  func()
		shows []string
	}{
		{func() { tab = open(); <-tab.Pool().Swept() }, []string{"open", "mark"}},
		{func() {
			for i := range 5000 {
				require.NoError(t, tab.Put(key(i), value(i, 1000)))
			}
		}, []string{"split", "grow"}},
		{func() { require.NoError(t, tab.Sync()) }, []string{"checkpoint", "cut", "sync"}},
		{func() { require.NoError(t, tab.Put(key(1), nil)) }, []string{"copy"}},
		{func() {
			for i := range 5000 {
				require.NoError(t, tab.Delete(key(i)))
			}
			require.NoError(t, tab.Compact())
		}, []string{"compact", "merge"}},
	} {
		text := traced(t, step.does)
		for _, name := range step.shows {
			require.True(t, bytes.Contains(text, []byte("pmemtable."+name)), name)
		}
	}
	require.NoError(t, tab.Close()) // no work in the background any more
	quiet := traced(t, func() { _, _ = tab.Get(key(1)) })
	require.False(t, bytes.Contains(quiet, []byte("pmemtable.")), "the names come from what was done, not from the program")
}

// BenchmarkRegionOff is what a region costs while nobody traces.
func BenchmarkRegionOff(b *testing.B) {
	for b.Loop() {
		trace.StartRegion(context.Background(), "pmemtable.split").End()
	}
}
