package pmemprom

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// madeStats has figures that are all different.
func madeStats() table.Stats {
	s := table.Stats{
		Medium: pmem.PageCache, Durability: "always", FlushMethod: "none", Entries: 101, EntriesKnown: true,
		FileSizeBytes: 102, MaxSizeBytes: 103, UsedBytes: 104, FreeBytes: 105, RetiredBlocks: 106, ProtectedBlocks: 107,
		Snapshots: 108, SnapshotAge: 109 * time.Second, Epoch: 110, CommittedEpoch: 111, Cuts: 112, LongestCut: 113 * time.Second,
		OpenedFrom: "the root", OpenDuration: 114 * time.Second, MarkedEntries: 115, MarkDuration: 116 * time.Second,
		Counters: table.Counters{
			Counted: true, PutNew: 1, PutOver: 2, Deleted: 3, Swapped: 4, SwapFailed: 5, Unchanged: 6, Batched: 7, Moved: 8, Batches: 9, Clears: 10,
			Splits: 11, Merges: 12, Copies: 13, Chains: 14, GrownExtents: 15, Conflicts: 16,
		},
	}
	s.CheckpointTimes = table.Latencies{Count: 6, Total: 12 * time.Second}
	s.CheckpointTimes.Buckets[3], s.CheckpointTimes.Buckets[8], s.CheckpointTimes.Buckets[31] = 1, 2, 3
	s.DrainTimes = table.Latencies{Count: 7, Total: 7 * time.Microsecond}
	s.DrainTimes.Buckets[0], s.DrainTimes.Buckets[4] = 2, 5
	s.LogFlushTimes = table.Latencies{Count: 8, Total: 16 * time.Second}
	s.LogFlushTimes.Buckets[8], s.LogFlushTimes.Buckets[20] = 3, 5
	s.LogFrames, s.LogChanges, s.LogBytes, s.LogSizeBytes, s.LogUsedBytes = 17, 18, 19, 117, 118
	s.LogReplayed, s.LogReplayDuration = 119, 120*time.Second
	return s
}

// TestMetrics: every figure has its metric, by a name that keeps the rules.
func TestMetrics(t *testing.T) {
	c := newCollector(madeStats, "t")
	problems, err := testutil.CollectAndLint(c)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP pmemtable_operations_total Changes of entries, each counted once, and calls that changed nothing. Reads are not counted.
# TYPE pmemtable_operations_total counter
pmemtable_operations_total{kind="batched",table="t"} 7
pmemtable_operations_total{kind="delete",table="t"} 3
pmemtable_operations_total{kind="moved",table="t"} 8
pmemtable_operations_total{kind="put_new",table="t"} 1
pmemtable_operations_total{kind="put_over",table="t"} 2
pmemtable_operations_total{kind="swap",table="t"} 4
pmemtable_operations_total{kind="swap_failed",table="t"} 5
pmemtable_operations_total{kind="unchanged",table="t"} 6
# HELP pmemtable_structure_changes_total Segments split, merged, copied on write, and chained behind others.
# TYPE pmemtable_structure_changes_total counter
pmemtable_structure_changes_total{kind="chain",table="t"} 14
pmemtable_structure_changes_total{kind="copy",table="t"} 13
pmemtable_structure_changes_total{kind="merge",table="t"} 12
pmemtable_structure_changes_total{kind="split",table="t"} 11
# HELP pmemtable_info Always 1; the labels say what the table is and which root recovery chose.
# TYPE pmemtable_info gauge
pmemtable_info{durability="always",flush_method="none",medium="page cache",opened_from="the root",read_only="false",table="t"} 1
`), "pmemtable_operations_total", "pmemtable_structure_changes_total", "pmemtable_info"))

	single := map[string]float64{
		"batches_total": 9, "clears_total": 10, "conflicts_total": 16, "file_growths_total": 15, "cuts_total": 112, "longest_cut_seconds": 113,
		"epoch": 110, "committed_epoch": 111, "poisoned": 0, "entries": 101, "file_bytes": 102, "max_bytes": 103, "used_bytes": 104, "free_bytes": 105,
		"retired_blocks": 106, "protected_blocks": 107, "snapshots": 108, "oldest_snapshot_age_seconds": 109, "open_duration_seconds": 114,
		"marking": 0, "mark_duration_seconds": 116, "marked_entries": 115, "damaged": 0,
		"log_frames_total": 17, "log_changes_total": 18, "log_bytes_total": 19, "log_size_bytes": 117, "log_used_bytes": 118,
		"log_replayed_changes": 119, "log_replay_duration_seconds": 120,
	}
	have := map[string]float64{}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "pmemtable_")
		m := f.GetMetric()[0]
		switch {
		case m.GetHistogram() != nil, len(m.GetLabel()) > 1:
		case m.GetCounter() != nil:
			have[name] = m.GetCounter().GetValue()
		default:
			have[name] = m.GetGauge().GetValue()
		}
	}
	require.Equal(t, single, have)
}

// TestHistograms: buckets add up, and what is beyond the last is in the count alone.
func TestHistograms(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(newCollector(madeStats, "t"))
	families, err := registry.Gather()
	require.NoError(t, err)
	seen := 0
	for _, f := range families {
		h := f.GetMetric()[0].GetHistogram()
		if h == nil {
			continue
		}
		seen++
		upTo := map[float64]uint64{}
		last := uint64(0)
		for _, b := range h.GetBucket() {
			upTo[b.GetUpperBound()] = b.GetCumulativeCount()
			require.GreaterOrEqual(t, b.GetCumulativeCount(), last)
			last = b.GetCumulativeCount()
		}
		switch f.GetName() {
		case "pmemtable_checkpoint_duration_seconds":
			require.EqualValues(t, 6, h.GetSampleCount())
			require.EqualValues(t, 12, h.GetSampleSum())
			require.EqualValues(t, 3, upTo[16384e-9])
			require.EqualValues(t, 3, last)
			require.Len(t, upTo, 23)
		case "pmemtable_log_sync_duration_seconds":
			require.EqualValues(t, 8, h.GetSampleCount())
			require.EqualValues(t, 16, h.GetSampleSum())
			require.EqualValues(t, 3, upTo[16384e-9])
		case "pmemtable_drain_duration_seconds":
			require.EqualValues(t, 7, h.GetSampleCount())
			require.EqualValues(t, 2, upTo[64e-9])
			require.EqualValues(t, 7, upTo[1024e-9])
		}
	}
	require.Equal(t, 3, seen)
}

// TestUnknown: what is not known is absent, and what is wrong shows.
func TestUnknown(t *testing.T) {
	c := newCollector(func() table.Stats {
		s := madeStats()
		s.EntriesKnown, s.Marking, s.Damage, s.Poisoned = false, true, "a record", "a sync failed"
		return s
	}, "t")
	require.Zero(t, testutil.CollectAndCount(c, "pmemtable_entries"))
	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP pmemtable_damaged 1 if recovery met damage and left the free space out of use.
# TYPE pmemtable_damaged gauge
pmemtable_damaged{table="t"} 1
# HELP pmemtable_marking 1 while recovery is finding the free space.
# TYPE pmemtable_marking gauge
pmemtable_marking{table="t"} 1
# HELP pmemtable_poisoned 1 after a failed sync or a page that is gone: the table takes no writes.
# TYPE pmemtable_poisoned gauge
pmemtable_poisoned{table="t"} 1
`), "pmemtable_damaged", "pmemtable_marking", "pmemtable_poisoned"))
}

// TestTwoTables: one registry holds the metrics of two tables, and they are theirs.
func TestTwoTables(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for i, name := range []string{"a", "b"} {
		tab, err := table.Open(filepath.Join(t.TempDir(), name), &table.Options{Durability: table.OnSync})
		require.NoError(t, err)
		defer tab.Close()
		for k := range 10 * (i + 1) {
			require.NoError(t, tab.Put([]byte{byte(k)}, nil))
		}
		require.NoError(t, tab.Sync())
		registry.MustRegister(NewCollector(tab, name))
	}
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP pmemtable_entries Entries; absent while recovery counts them.
# TYPE pmemtable_entries gauge
pmemtable_entries{table="a"} 10
pmemtable_entries{table="b"} 20
`), "pmemtable_entries"))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}
