package command

import (
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"pmemtable/table"
)

// sizes is a histogram of value sizes: exact by powers of two, and with three
// digits for percentiles.
type sizes struct {
	fine   *hdrhistogram.Histogram
	powers [64]int64 // by bits.Len64 of the size
	max    int64
	sum    float64
}

func newSizes() *sizes { return &sizes{fine: hdrhistogram.New(1, 1<<30, 3)} }

func (s *sizes) add(n int64) {
	_ = s.fine.RecordValue(min(n, 1<<30)) // larger ones do not exist
	s.powers[bits.Len64(uint64(n))]++
	s.max, s.sum = max(s.max, n), s.sum+float64(n)
}

func (s *sizes) document() valueSizesDocument {
	d := valueSizesDocument{MaxBytes: s.max, Buckets: []bucketDocument{}}
	n := s.fine.TotalCount()
	if n == 0 {
		return d
	}
	percentile := func(p float64) int64 { return min(s.fine.ValueAtQuantile(p), s.max) }
	d.MeanBytes = rounded(s.sum / float64(n))
	d.P50Bytes, d.P90Bytes, d.P99Bytes = percentile(50), percentile(90), percentile(99)
	for i, n := range s.powers {
		if n > 0 {
			d.Buckets = append(d.Buckets, bucketDocument{int64(1) << i >> 1, int64(1)<<i - 1, n})
		}
	}
	return d
}

// rounded keeps what a reader can use.
func rounded(f float64) float64 { return math.Round(f*1000) / 1000 }

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return rounded(float64(a) / float64(b))
}

func newStatsDocument(file string, v table.Survey, values *sizes, s table.Stats, a table.Activity, beside bool) statsDocument {
	d := statsDocument{
		SchemaVersion: schemaVersion, File: file,
		Entries: v.Entries, KeyBytes: v.KeyBytes, ValueBytes: v.ValueBytes,
		LoadFactor: ratio(v.Entries, v.Slots), Slots: v.Slots,
		Segments: v.Segments, OverflowSegments: v.Chains, Directories: v.Directories,
		ProbeLengths: []probeDocument{}, ValueSizes: values.document(),
		FileSizeBytes: s.FileSizeBytes, SizeClasses: []sizeClassDocument{},
		Runs: runsDocument{v.Runs.Blocks, v.Runs.Chunks, v.Runs.PayloadBytes}, BesideWriter: beside,
		Activity: newActivityDocument(a), PendingLog: newPendingDocument(v.Log),
	}
	if !beside {
		d.Snapshots = &s.Snapshots
	}
	for i, n := range v.ProbeLengths {
		if n > 0 {
			d.ProbeLengths = append(d.ProbeLengths, probeDocument{i + 1, n})
		}
	}
	d.UsedBytes = v.Runs.Chunks * s.ChunkSizeBytes
	for _, c := range v.Classes {
		d.UsedBytes += c.Blocks * c.BlockBytes
		d.SizeClasses = append(d.SizeClasses, sizeClassDocument{c.BlockBytes, c.Blocks, max(0, c.ChunkBlocks-c.Blocks),
			c.Chunks, c.PayloadBytes, ratio(c.PayloadBytes, c.Chunks*s.ChunkSizeBytes)})
	}
	return d
}

func printStats(out *output, d statsDocument) {
	out.line("file", "%s, %s", d.File, bytesText(d.FileSizeBytes))
	out.line("entries", "%s; keys %s, values %s", countText(d.Entries), bytesText(d.KeyBytes), bytesText(d.ValueBytes))
	out.line("load factor", "%s of %s slots, in %s (%s of them overflow), %s", percent(d.LoadFactor), countText(d.Slots),
		plural(int(d.Segments), "segment"), countText(d.OverflowSegments), plural(int(d.Directories), "directory"))
	if d.Snapshots == nil {
		out.line("snapshots", "known only to the process that is writing")
	} else {
		out.line("snapshots", "%d", *d.Snapshots)
	}
	out.line("session", "generation %d, epoch %d, commit %d", d.Activity.Generation, d.Activity.Epoch, d.Activity.CommitSequence)
	printCounters(out, &d.Activity)
	if l := d.Activity.Log; d.PendingLog != nil {
		d.PendingLog.print(out)
	} else if l != nil && l.SizeBytes > 0 {
		out.line("log", "ring of %s, %s in use", bytesText(l.SizeBytes), bytesText(l.UsedBytes))
	}
	fmt.Fprintf(out, "\nlookups      %12s\n", "entries")
	for _, p := range d.ProbeLengths {
		fmt.Fprintf(out, "%12s %12s  %7s  %s\n", plural(p.Lines, "line"), countText(p.Entries), percent(ratio(p.Entries, d.Entries)), bar(p.Entries, d.Entries))
	}
	printSizes(out, "value sizes", &d.ValueSizes, d.Entries)
	fmt.Fprintf(out, "\nblock size   %12s %12s %9s  %s\n", "used", "free", "chunks", "of the chunks' bytes in use")
	for _, c := range d.SizeClasses {
		fmt.Fprintf(out, "%12s %12s %12s %9s  %7s\n", countText(c.BlockBytes)+" B", countText(c.Used), countText(c.Free), countText(c.Chunks), percent(c.Utilization))
	}
	if d.Runs.Blocks > 0 {
		fmt.Fprintf(out, "%12s %12s %12s %9s  %s\n", "larger", countText(d.Runs.Blocks), "", countText(d.Runs.Chunks), bytesText(d.Runs.PayloadBytes))
	}
}

// printCounters says what the session has done since it began.
func printCounters(out *output, d *activityDocument) {
	if d.Operations == nil {
		out.line("since then", "not counted")
		return
	}
	o, s := d.Operations, d.Structure
	out.line("since then", "put %s new and %s over, %s deleted, %s swapped (%s failed), %s unchanged, %s batched, %s moved",
		number(o.PutNew), number(o.PutOver), number(o.Deleted), number(o.Swapped), number(o.SwapFailed), number(o.Unchanged), number(o.Batched), number(o.Moved))
	out.line("", "%s splits, %s merges, %s copies on write, %s conflicts, grown %s times",
		number(s.Splits), number(s.Merges), number(s.Copies), number(*d.Conflicts), number(s.Extents))
	if t := d.CommitTimes; t.Count > 0 {
		out.line("", "%s commits: mean %s, 99 %% within %s, longest %s", countText(t.Count),
			secondsText(t.MeanSeconds), secondsText(t.P99Seconds), secondsText(t.LongestSeconds))
	}
	if l := d.Log; l.SyncTimes.Count > 0 {
		t := l.SyncTimes
		out.line("", "%s syncs of the log, of %.1f changes each: mean %s, 99 %% within %s, longest %s", countText(t.Count), l.ChangesPerSync,
			secondsText(t.MeanSeconds), secondsText(t.P99Seconds), secondsText(t.LongestSeconds))
	}
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// bar draws a share of the whole.
func bar(part, whole int64) string {
	const width = 30
	if part == 0 || whole == 0 {
		return ""
	}
	return strings.Repeat("#", max(1, int(float64(width)*float64(part)/float64(whole)+0.5)))
}
