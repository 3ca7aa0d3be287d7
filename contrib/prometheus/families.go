package pmemprom

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"pmemtable/table"
)

func (f *families) operations() {
	f.kinds("operations_total", "Changes of entries, each counted once, and calls that changed nothing. Reads are not counted.",
		func(s *table.Stats) map[string]uint64 {
			return map[string]uint64{
				"put_new": s.PutNew, "put_over": s.PutOver, "delete": s.Deleted, "swap": s.Swapped,
				"swap_failed": s.SwapFailed, "unchanged": s.Unchanged, "batched": s.Batched, "moved": s.Moved,
			}
		})
	f.counter("batches_total", "Batches applied.", func(s *table.Stats) uint64 { return s.Batches })
	f.counter("clears_total", "Clears and restores.", func(s *table.Stats) uint64 { return s.Clears })
	f.kinds("structure_changes_total", "Segments split, merged, copied on write, and chained behind others.",
		func(s *table.Stats) map[string]uint64 {
			return map[string]uint64{"split": s.Splits, "merge": s.Merges, "copy": s.Copies, "chain": s.Chains}
		})
	f.counter("conflicts_total", "Reads that had to be repeated.", func(s *table.Stats) uint64 { return s.Conflicts })
}

func (f *families) commits() {
	f.latencies("checkpoint_duration_seconds", "How long checkpoints took: commits to the disk.", 8, 30, // 16 us to 69 s
		func(s *table.Stats) *table.Latencies { return &s.CheckpointTimes })
	f.latencies("drain_duration_seconds", "How long drains of persistent memory took, one in 256 of those that make a slot durable.", 0, 18, // 64 ns to 17 ms
		func(s *table.Stats) *table.Latencies { return &s.DrainTimes })
	f.latencies("log_sync_duration_seconds", "How long syncs of the log took, each of which acknowledges all calls that wait.", 8, 30,
		func(s *table.Stats) *table.Latencies { return &s.LogFlushTimes })
	f.counter("log_changes_total", "Changes that syncs of the log made durable.", func(s *table.Stats) uint64 { return s.LogChanges })
	f.counter("log_frames_total", "Frames that they wrote.", func(s *table.Stats) uint64 { return s.LogFrames })
	f.counter("log_bytes_total", "Bytes that they wrote.", func(s *table.Stats) uint64 { return s.LogBytes })
	f.gauge("log_size_bytes", "Size of the log's ring; 0 while there is none.", func(s *table.Stats) float64 { return float64(s.LogSizeBytes) })
	f.gauge("log_used_bytes", "Bytes of the ring in use.", func(s *table.Stats) float64 { return float64(s.LogUsedBytes) })
	f.counter("cuts_total", "Moments at which the table was frozen, for a commit, a snapshot or a check.", func(s *table.Stats) uint64 { return s.Cuts })
	f.gauge("longest_cut_seconds", "The longest time for which a cut held locks of writers.", func(s *table.Stats) float64 { return s.LongestCut.Seconds() })
	f.gauge("epoch", "The current epoch.", func(s *table.Stats) float64 { return float64(s.Epoch) })
	f.gauge("committed_epoch", "The last epoch that a checkpoint made durable.", func(s *table.Stats) float64 { return float64(s.CommittedEpoch) })
	f.gauge("poisoned", "1 after a failed sync or a page that is gone: the table takes no writes.", func(s *table.Stats) float64 { return flag(s.Poisoned != "") })
}

func (f *families) space() {
	f.value(prometheus.GaugeValue, "entries", "Entries; absent while recovery counts them.",
		func(s *table.Stats) (float64, bool) { return float64(s.Entries), s.EntriesKnown })
	f.gauge("file_bytes", "Size of the file.", func(s *table.Stats) float64 { return float64(s.FileSizeBytes) })
	f.gauge("max_bytes", "Size to which the file may grow.", func(s *table.Stats) float64 { return float64(s.MaxSizeBytes) })
	f.gauge("used_bytes", "Bytes of the file in use, with metadata and what waits for reuse.", func(s *table.Stats) float64 { return float64(s.UsedBytes) })
	f.gauge("free_bytes", "Bytes of the file for new entries; 0 while recovery marks.", func(s *table.Stats) float64 { return float64(s.FreeBytes) })
	f.counter("file_growths_total", "Times that the file grew.", func(s *table.Stats) uint64 { return s.GrownExtents })
	f.gauge("retired_blocks", "Unlinked blocks that wait for readers.", func(s *table.Stats) float64 { return float64(s.RetiredBlocks) })
	f.gauge("protected_blocks", "Unlinked blocks that wait for a commit, a snapshot, a check or recovery.", func(s *table.Stats) float64 { return float64(s.ProtectedBlocks) })
	f.gauge("snapshots", "Open snapshots.", func(s *table.Stats) float64 { return float64(s.Snapshots) })
	f.gauge("oldest_snapshot_age_seconds", "Age of the oldest open snapshot.", func(s *table.Stats) float64 { return s.SnapshotAge.Seconds() })
}

func (f *families) recovery() {
	f.gauge("open_duration_seconds", "How long the open took.", func(s *table.Stats) float64 { return s.OpenDuration.Seconds() })
	f.gauge("marking", "1 while recovery is finding the free space.", func(s *table.Stats) float64 { return flag(s.Marking) })
	f.gauge("mark_duration_seconds", "How long that took; 0 while it goes on.", func(s *table.Stats) float64 { return s.MarkDuration.Seconds() })
	f.gauge("marked_entries", "Entries that it found.", func(s *table.Stats) float64 { return float64(s.MarkedEntries) })
	f.gauge("log_replayed_changes", "Changes of the log that the open took up.", func(s *table.Stats) float64 { return float64(s.LogReplayed) })
	f.gauge("log_replay_duration_seconds", "How long that took.", func(s *table.Stats) float64 { return s.LogReplayDuration.Seconds() })
	f.gauge("damaged", "1 if recovery met damage and left the free space out of use.", func(s *table.Stats) float64 { return flag(s.Damage != "") })
	f.add("info", "Always 1; the labels say what the table is and which root recovery chose.",
		[]string{"medium", "durability", "flush_method", "read_only", "opened_from"},
		func(desc *prometheus.Desc, s *table.Stats, ch chan<- prometheus.Metric) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1,
				s.Medium.String(), s.Durability, s.FlushMethod, strconv.FormatBool(s.ReadOnly), s.OpenedFrom)
		})
}
