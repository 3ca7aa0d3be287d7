package command

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"pmemtable/table"
)

// intervalDocument is what stats --interval --json prints each time.
type intervalDocument struct {
	SchemaVersion  int      `json:"schema_version"`
	File           string   `json:"file"`
	Seconds        float64  `json:"seconds"`
	CommitsPerS    float64  `json:"commits_per_second"`
	CutsPerS       float64  `json:"cuts_per_second"`
	CollectionsPer float64  `json:"collections_per_second"`
	EntriesPerS    *float64 `json:"entries_per_second"` // null while there is no commit to tell
	GrowthPerS     float64  `json:"growth_bytes_per_second"`
	FileSizeBytes  int64    `json:"file_size_bytes"`
	Generation     uint64   `json:"generation"`
	// Null while the file does not hold the counters of the session.
	Operations  *operationsDocument `json:"operations_per_second"`
	Structure   *structureDocument  `json:"structure_per_second"`
	Conflicts   *float64            `json:"conflicts_per_second"`
	CommitTimes *timesDocument      `json:"commit_times"`
	DrainTimes  *timesDocument      `json:"drain_times"`
	Log         *logDocument        `json:"log"`
}

// logDocument says what was done to the log.
type logDocument struct {
	SizeBytes      int64          `json:"size_bytes"` // of its ring, 0 while there is none
	UsedBytes      int64          `json:"used_bytes"`
	Frames         uint64         `json:"frames"`
	Changes        uint64         `json:"changes"`
	Bytes          uint64         `json:"bytes"`
	ChangesPerSync float64        `json:"changes_per_sync"`
	SyncsPerS      float64        `json:"syncs_per_second"`
	SyncTimes      *timesDocument `json:"sync_times"`
}

func newLogDocument(b, a table.Counters, rate func(from, to uint64) float64) *logDocument {
	d := &logDocument{
		SizeBytes: a.LogSizeBytes, UsedBytes: a.LogUsedBytes,
		Frames: a.LogFrames - min(a.LogFrames, b.LogFrames), Changes: a.LogChanges - min(a.LogChanges, b.LogChanges),
		Bytes: a.LogBytes - min(a.LogBytes, b.LogBytes), SyncsPerS: rate(b.LogFlushes, a.LogFlushes),
		SyncTimes: newTimesDocument(b.LogFlushTimes, a.LogFlushTimes),
	}
	d.ChangesPerSync = ratio(int64(d.Changes), int64(d.SyncTimes.Count))
	return d
}

// operationsDocument holds a number for each kind of operation.
type operationsDocument struct {
	PutNew     float64 `json:"put_new"`
	PutOver    float64 `json:"put_over"`
	Deleted    float64 `json:"deleted"`
	Swapped    float64 `json:"swapped"`
	SwapFailed float64 `json:"swap_failed"`
	Unchanged  float64 `json:"unchanged"`
	Batched    float64 `json:"batched"`
	Batches    float64 `json:"batches"`
	Moved      float64 `json:"moved"`
	Clears     float64 `json:"clears"`
}

type structureDocument struct {
	Splits  float64 `json:"splits"`
	Merges  float64 `json:"merges"`
	Copies  float64 `json:"copies"`
	Chains  float64 `json:"chains"`
	Extents float64 `json:"extents"`
}

// timesDocument says how long something took each time of an interval. Without any
// time the mean and the percentile are 0.
type timesDocument struct {
	Count          uint64  `json:"count"`
	MeanSeconds    float64 `json:"mean_seconds"`
	P99Seconds     float64 `json:"p99_at_most_seconds"`
	LongestSeconds float64 `json:"longest_of_session_seconds"`
}

func newTimesDocument(before, after table.Latencies) *timesDocument {
	l := after.Since(before)
	return &timesDocument{l.Count, l.Mean().Seconds(), l.AtMost(0.99).Seconds(), l.Longest.Seconds()}
}

func newIntervalDocument(file string, before, after table.Activity, passed time.Duration) intervalDocument {
	seconds := max(passed, time.Millisecond).Seconds()
	rate := func(from, to uint64) float64 { return rounded(float64(max(to, from)-from) / seconds) }
	d := intervalDocument{
		SchemaVersion: schemaVersion, File: file, Seconds: rounded(seconds),
		CommitsPerS:    rate(before.CommitSequence, after.CommitSequence),
		CutsPerS:       rate(before.Epoch, after.Epoch),
		CollectionsPer: rate(before.Collections, after.Collections),
		GrowthPerS:     rounded(float64(after.FileSizeBytes-before.FileSizeBytes) / seconds),
		FileSizeBytes:  after.FileSizeBytes, Generation: after.Generation,
	}
	if before.EntriesKnown && after.EntriesKnown {
		entries := rounded(float64(after.Entries-before.Entries) / seconds)
		d.EntriesPerS = &entries
	}
	if after.Counted {
		d.count(before, after, rate)
	}
	return d
}

// count adds what the counters say. Another session has begun with zeros.
func (d *intervalDocument) count(before, after table.Activity, rate func(from, to uint64) float64) {
	b, a := before.Counters, after.Counters
	if !b.CountedSince.Equal(a.CountedSince) {
		b = table.Counters{}
	}
	d.Operations = &operationsDocument{
		rate(b.PutNew, a.PutNew), rate(b.PutOver, a.PutOver), rate(b.Deleted, a.Deleted), rate(b.Swapped, a.Swapped),
		rate(b.SwapFailed, a.SwapFailed), rate(b.Unchanged, a.Unchanged), rate(b.Batched, a.Batched), rate(b.Batches, a.Batches),
		rate(b.Moved, a.Moved), rate(b.Clears, a.Clears),
	}
	d.Structure = &structureDocument{
		rate(b.Splits, a.Splits), rate(b.Merges, a.Merges), rate(b.Copies, a.Copies), rate(b.Chains, a.Chains), rate(b.GrownExtents, a.GrownExtents),
	}
	conflicts := rate(b.Conflicts, a.Conflicts)
	d.Conflicts = &conflicts
	d.CommitTimes = newTimesDocument(b.CheckpointTimes, a.CheckpointTimes)
	d.DrainTimes = newTimesDocument(b.DrainTimes, a.DrainTimes)
	d.Log = newLogDocument(b, a, rate)
}

// measure is a figure of an interval: a line of top, and perhaps a column of stats
// --interval.
type measure struct {
	name   string
	column bool
	of     func(d *intervalDocument) (value float64, known bool)
	text   func(value float64) string
}

// measures are in the order in which they are shown.
var measures = []measure{
	operation("put new/s", true, func(o *operationsDocument) float64 { return o.PutNew }),
	operation("put over/s", true, func(o *operationsDocument) float64 { return o.PutOver }),
	operation("delete/s", true, func(o *operationsDocument) float64 { return o.Deleted }),
	operation("swap/s", true, func(o *operationsDocument) float64 { return o.Swapped }),
	operation("failed/s", true, func(o *operationsDocument) float64 { return o.SwapFailed }),
	operation("unchanged/s", false, func(o *operationsDocument) float64 { return o.Unchanged }),
	operation("batched/s", true, func(o *operationsDocument) float64 { return o.Batched }),
	structure("splits/s", true, func(s *structureDocument) float64 { return s.Splits }),
	structure("merges/s", false, func(s *structureDocument) float64 { return s.Merges }),
	structure("copies/s", true, func(s *structureDocument) float64 { return s.Copies }),
	{"conflicts/s", true, func(d *intervalDocument) (float64, bool) { return known(d.Conflicts) }, number},
	{"commits/s", true, func(d *intervalDocument) (float64, bool) { return d.CommitsPerS, true }, number},
	duration("commit", true, func(d *intervalDocument) *timesDocument { return d.CommitTimes }, func(t *timesDocument) float64 { return t.MeanSeconds }),
	duration("commit p99", true, func(d *intervalDocument) *timesDocument { return d.CommitTimes }, func(t *timesDocument) float64 { return t.P99Seconds }),
	logged("log sync/s", func(l *logDocument) float64 { return l.SyncsPerS }, number),
	duration("log sync", true, func(d *intervalDocument) *timesDocument {
		if d.Log == nil {
			return nil
		}
		return d.Log.SyncTimes
	}, func(t *timesDocument) float64 { return t.MeanSeconds }),
	logged("changes/sync", func(l *logDocument) float64 { return l.ChangesPerSync }, func(f float64) string { return fmt.Sprintf("%.1f", f) }),
	duration("drain", false, func(d *intervalDocument) *timesDocument { return d.DrainTimes }, func(t *timesDocument) float64 { return t.MeanSeconds }),
	{"cuts/s", false, func(d *intervalDocument) (float64, bool) { return d.CutsPerS, true }, number},
	{"entries/s", true, func(d *intervalDocument) (float64, bool) { return known(d.EntriesPerS) }, number},
	{"growth/s", true, func(d *intervalDocument) (float64, bool) { return d.GrowthPerS, true }, func(f float64) string { return bytesText(int64(f)) }},
}

func known(value *float64) (float64, bool) {
	if value == nil {
		return 0, false
	}
	return *value, true
}

func operation(name string, column bool, of func(o *operationsDocument) float64) measure {
	return measure{name, column, func(d *intervalDocument) (float64, bool) {
		if d.Operations == nil {
			return 0, false
		}
		return of(d.Operations), true
	}, number}
}

func structure(name string, column bool, of func(s *structureDocument) float64) measure {
	return measure{name, column, func(d *intervalDocument) (float64, bool) {
		if d.Structure == nil {
			return 0, false
		}
		return of(d.Structure), true
	}, number}
}

func logged(name string, of func(l *logDocument) float64, text func(float64) string) measure {
	return measure{name, true, func(d *intervalDocument) (float64, bool) {
		if d.Log == nil {
			return 0, false
		}
		return of(d.Log), true
	}, text}
}

// duration is known for an interval in which there was one.
func duration(name string, column bool, of func(d *intervalDocument) *timesDocument, value func(t *timesDocument) float64) measure {
	return measure{name, column, func(d *intervalDocument) (float64, bool) {
		times := of(d)
		if times == nil || times.Count == 0 {
			return 0, false
		}
		return value(times), true
	}, secondsText}
}

func number(f float64) string { return humanize.Comma(int64(math.Round(f))) }

// secondsText has three digits and a unit.
func secondsText(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	for unit := time.Duration(1); unit < time.Hour; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(time.Hour).String()
}

// text is what is shown of a measure.
func (m *measure) show(d *intervalDocument) string {
	value, known := m.of(d)
	if !known {
		return "?"
	}
	return m.text(value)
}

// linesOfHeading is how many lines stand under each heading.
const linesOfHeading = 20

// watcher prints what happens between two looks.
type watcher struct {
	out  *output
	json bool
	file string
}

// watch prints a line for each tick, count of them if that is not 0, until ctx ends.
func (w *watcher) watch(ctx context.Context, look func() table.Activity, began time.Time, ticks <-chan time.Time, count int) error {
	before := look()
	for n := 0; count == 0 || n < count; n++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-ticks:
			after := look()
			if !w.json && n%linesOfHeading == 0 {
				w.heading()
			}
			if err := w.line(newIntervalDocument(w.file, before, after, now.Sub(began))); err != nil {
				return err
			}
			before, began = after, now
		}
	}
	return nil
}

func (w *watcher) heading() {
	for i := range measures {
		if measures[i].column {
			fmt.Fprintf(w.out, "%10s ", measures[i].name)
		}
	}
	fmt.Fprintf(w.out, "%8s %7s\n", "size", "session")
}

func (w *watcher) line(d intervalDocument) error {
	if w.json {
		if err := json.NewEncoder(w.out).Encode(d); err != nil {
			return err
		}
		return w.out.Flush()
	}
	for i := range measures {
		if measures[i].column {
			fmt.Fprintf(w.out, "%10s ", measures[i].show(&d))
		}
	}
	fmt.Fprintf(w.out, "%8s %7d\n", bytesText(d.FileSizeBytes), d.Generation)
	return w.out.Flush()
}
