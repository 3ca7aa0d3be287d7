package layout_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
)

// TestCountersShareNoLine: counters of different owners, and what lookups read, lie
// on lines of their own, inside of the region.
func TestCountersShareNoLine(t *testing.T) {
	for _, stripes := range []int{1, 2, 64, layout.MaxStripes} {
		g := layout.DefaultGeometry()
		g.Stripes = stripes
		r := g.Regions()
		ranges := g.CounterRanges()
		require.LessOrEqual(t, r.Control+layout.ControlGeneration+layout.LineBytes, ranges[0][0])
		require.LessOrEqual(t, ranges[0][0]+ranges[0][1], r.Intent)
		require.LessOrEqual(t, r.Versions+uint64(stripes*layout.LineBytes), ranges[1][0])
		require.LessOrEqual(t, ranges[1][0]+ranges[1][1], r.Root[0])
		owners := map[uint64]int{} // of lines: a stripe, or -1 for the table
		own := func(at uint64, owner int) {
			require.Zero(t, at%layout.WordBytes)
			inside := func(r [2]uint64) bool { return at >= r[0] && at+layout.WordBytes <= r[0]+r[1] }
			require.True(t, inside(ranges[0]) || inside(ranges[1]), "stripes %d, offset %#x", stripes, at)
			line := at / layout.LineBytes
			have, taken := owners[line]
			require.True(t, !taken || have == owner, "stripes %d, offset %#x: of %d and %d", stripes, at, have, owner)
			owners[line] = owner
		}
		last := layout.CounterDrains + layout.LatencyBuckets + layout.LatencyBucketCount - 1
		for c := range last + 1 {
			own(r.TableCounter(c), -1)
		}
		for i := range stripes {
			for c := range layout.StripeCounters {
				own(r.StripeCounter(i, c), i)
			}
		}
		require.Equal(t, r.StripeCounter(0, layout.CounterPutNew)/layout.LineBytes, r.StripeCounter(0, layout.CounterMoved)/layout.LineBytes,
			"what every change stores is one line")
	}
}

func TestLatencyBuckets(t *testing.T) {
	for n, want := range map[uint64]int{
		0: 0, 1: 0, 64: 0, 65: 1, 128: 1, 129: 2, 1 << 20: 14, 1<<20 + 1: 15, 1 << 36: 30, 1<<36 + 1: 31, 1 << 37: 31, 1<<37 + 1: 31, math.MaxUint64: 31,
	} {
		require.Equal(t, want, layout.LatencyBucket(n), "%d ns", n)
	}
	for i := range layout.LatencyBucketCount - 1 {
		require.Equal(t, i, layout.LatencyBucket(layout.LatencyBound(i)))
		require.Equal(t, i+1, layout.LatencyBucket(layout.LatencyBound(i)+1))
	}
}
