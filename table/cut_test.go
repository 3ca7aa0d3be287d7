package table_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// TestStatsCountsCuts: snapshots and commits cut, and how long that held the
// stripes is told.
func TestStatsCountsCuts(t *testing.T) {
	tab := onHeap(t, pmem.PageCache, 4, 2<<20)
	before := tab.Stats()
	require.NoError(t, tab.Put(key(1), value(1, 10)))
	snap, err := tab.Snapshot()
	require.NoError(t, err)
	require.NoError(t, snap.Close())
	one := tab.Stats()
	require.Equal(t, before.Cuts+1, one.Cuts, "the snapshot's")
	require.NoError(t, tab.Sync())
	two := tab.Stats()
	require.Equal(t, one.Cuts+1, two.Cuts, "the commit's")
	require.Positive(t, two.LastCut)
	require.GreaterOrEqual(t, two.LongestCut, two.LastCut)
	require.GreaterOrEqual(t, two.LongestCut, one.LongestCut)
}
