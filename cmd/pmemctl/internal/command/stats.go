package command

import (
	"time"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// statsDocument is what stats --json prints.
type statsDocument struct {
	SchemaVersion    int                 `json:"schema_version"`
	File             string              `json:"file"`
	Entries          int64               `json:"entries"`
	KeyBytes         int64               `json:"key_bytes"`
	ValueBytes       int64               `json:"value_bytes"`
	LoadFactor       float64             `json:"load_factor"`
	Slots            int64               `json:"slots"`
	Segments         int64               `json:"segments"`
	OverflowSegments int64               `json:"overflow_segments"`
	Directories      int64               `json:"directories"`
	ProbeLengths     []probeDocument     `json:"probe_lengths"`
	ValueSizes       valueSizesDocument  `json:"value_sizes"`
	FileSizeBytes    int64               `json:"file_size_bytes"`
	UsedBytes        int64               `json:"used_bytes"`
	SizeClasses      []sizeClassDocument `json:"size_classes"`
	Runs             runsDocument        `json:"runs"`
	PendingLog       *pendingDocument    `json:"pending_log"` // null: there is none
	Snapshots        *int                `json:"snapshots"`   // null: only the process that writes knows
	BesideWriter     bool                `json:"beside_writer"`
	Activity         activityDocument    `json:"activity"`
}

// probeDocument counts the entries that a lookup finds in so many bucket lines.
type probeDocument struct {
	Lines   int   `json:"lines"`
	Entries int64 `json:"entries"`
}

type valueSizesDocument struct {
	MeanBytes float64          `json:"mean_bytes"`
	P50Bytes  int64            `json:"p50_bytes"`
	P90Bytes  int64            `json:"p90_bytes"`
	P99Bytes  int64            `json:"p99_bytes"`
	MaxBytes  int64            `json:"max_bytes"`
	Buckets   []bucketDocument `json:"buckets"`
}

// bucketDocument counts the values of from to to bytes, both included.
type bucketDocument struct {
	FromBytes int64 `json:"from_bytes"`
	ToBytes   int64 `json:"to_bytes"`
	Entries   int64 `json:"entries"`
}

// sizeClassDocument says how well the blocks of a size are used: how many of those
// that their chunks have room for, and how much of them.
type sizeClassDocument struct {
	BlockBytes   int64   `json:"block_bytes"`
	Used         int64   `json:"used_blocks"`
	Free         int64   `json:"free_blocks"`
	Chunks       int64   `json:"chunks"`
	PayloadBytes int64   `json:"payload_bytes"`
	Utilization  float64 `json:"utilization"` // payload in all of the chunks' bytes
}

type runsDocument struct {
	Blocks       int64 `json:"blocks"`
	Chunks       int64 `json:"chunks"`
	PayloadBytes int64 `json:"payload_bytes"`
}

type activityDocument struct {
	Generation     uint64 `json:"generation"`
	Epoch          uint64 `json:"epoch"`
	CommitSequence uint64 `json:"commit_sequence"`
	Collections    uint64 `json:"collections"`
	// What was done since the session began; null where the file does not tell.
	Since       *time.Time          `json:"counted_since"`
	Operations  *operationsDocument `json:"operations"`
	Structure   *structureDocument  `json:"structure"`
	Conflicts   *float64            `json:"conflicts"`
	CommitTimes *timesDocument      `json:"commit_times"`
	DrainTimes  *timesDocument      `json:"drain_times"`
	Log         *logDocument        `json:"log"`
}

func newActivityDocument(a table.Activity) activityDocument {
	d := activityDocument{Generation: a.Generation, Epoch: a.Epoch, CommitSequence: a.CommitSequence, Collections: a.Collections}
	if a.Counted {
		since := a.CountedSince.UTC()
		all := newIntervalDocument("", table.Activity{}, a, time.Second) // of a second: rates are sums
		d.Since, d.Operations, d.Structure, d.Conflicts = &since, all.Operations, all.Structure, all.Conflicts
		d.CommitTimes, d.DrainTimes, d.Log = all.CommitTimes, all.DrainTimes, all.Log
	}
	return d
}

func statsVerb() verb {
	var (
		interval time.Duration
		lines    int
	)
	return verb{
		usage: "stats FILE",
		short: "Show how a table is filled, and what happens in it",
		long: `Show how full a table is, how far its lookups go, how large its values are and
how well its space is used. That walks over the whole table, also while another
process writes it: then the figures are of no single instant, and the snapshots
that the writer holds are known to it alone. What a log holds that the next open
takes up is shown apart: it is in no other figure.

With --interval nothing is walked over: one line each interval says what was done,
from counters in the file, without help from the process that writes it. Reads are
not counted, by any figure: a lookup writes no memory that another processor reads.

put new/s      entries stored under a key that was absent
put over/s     entries stored over a value
delete/s       entries removed
swap/s         entries changed by a comparison that held, or by Update
failed/s       comparisons that did not hold
batched/s      entries changed by batches
splits/s       segments split
copies/s       segments copied on write, the first time after a commit or snapshot
conflicts/s    reads of the writing process that had to be repeated
commits/s      commits to the disk (none on persistent memory and tmpfs)
commit         how long one took, on average
commit p99     what 99 of 100 did not exceed, or up to twice as much
log sync/s     syncs of the log, with which an ordinary file acknowledges calls
log sync       how long one took, on average
changes/sync   changes of entries that one made durable, on average
entries/s      entries more or less, from one commit to another
growth/s       bytes that the file grew
session        which session writes; a higher one is another process, or an
               open that came after

? is what the file does not tell. pmemctl top and --json have more: calls that had
nothing to do (unchanged), segments merged, epochs cut, and how long one in 256 of
the drains of persistent memory took.`,
		example: `  pmemctl stats debs.pmt
  pmemctl stats --json debs.pmt | jq .value_sizes
  pmemctl stats --interval 1s debs.pmt`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.DurationVar(&interval, "interval", 0, "print a line each interval until interrupted, such as 1s; with --json a document")
			flags.IntVar(&lines, "count", 0, "with --interval: stop after so many lines (0: do not)")
		},
		run: func(c *call) error {
			if interval < 0 || interval > 0 && interval < time.Millisecond {
				return usagef("--interval: not a time of at least 1ms")
			}
			if lines < 0 || interval == 0 && lines > 0 {
				return usagef("--count is a number of lines, with --interval")
			}
			return c.reading(func(t *table.Table) error {
				if interval == 0 {
					return c.stats(t)
				}
				return c.watch(t, interval, lines)
			})
		},
	}
}

func (c *call) stats(t *table.Table) error {
	sizes := newSizes()
	progress := c.progress("surveying", entriesKnown(t), screen.Items)
	var survey table.Survey
	err := progress.Follow(func() (err error) {
		survey, err = t.Survey(func(_, value int) {
			progress.Add(1)
			sizes.add(int64(value))
		})
		return err
	})
	if err != nil {
		return err
	}
	d := newStatsDocument(c.args[0], survey, sizes, t.Stats(), t.Activity(), t.BesideWriter())
	return c.answer(d, func(out *output) { printStats(out, d) })
}

// watch prints lines until it has printed as many, if that is not 0, or ctx ends.
func (c *call) watch(t *table.Table, interval time.Duration, lines int) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	w := watcher{out: c.stdout(false), json: c.json, file: c.args[0]}
	return w.watch(c.ctx, t.Activity, time.Now(), ticker.C, lines)
}
