package table_test

import (
	"testing"
	"time"

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

// TestCutHoldsUpNobody: a cut that waits for a writer whom something stops, a page
// fault that the disk has to answer perhaps, keeps no lock that others want.
func TestCutHoldsUpNobody(t *testing.T) {
	const stripes, held = 4, 3
	tab := onHeap(t, pmem.PageCache, stripes, 2<<20)
	goOn := tab.HoldStripe(held)
	cut := make(chan error, 1)
	go func() {
		snap, err := tab.Snapshot()
		if err == nil {
			err = snap.Close()
		}
		cut <- err
	}()
	require.Eventually(t, func() bool { return tab.LongestCut() > 0 }, 20*time.Second, time.Millisecond, "no cut gave up its locks")
	written := make(chan error, 1)
	go func() {
		for i := range 50 {
			if tab.StripeOf(key(i)) == held {
				continue
			}
			if err := tab.Put(key(i), value(i, 10)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	select {
	case err := <-written:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Error("the cut holds up writers of other stripes")
	}
	require.Empty(t, cut, "a cut without all locks")
	goOn()
	require.NoError(t, <-cut)
}
