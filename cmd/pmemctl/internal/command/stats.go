package command

import (
	"context"
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
	Snapshots        *int                `json:"snapshots"` // null: only the process that writes knows
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
that the writer holds are known to it alone.

With --interval nothing is walked over: one line each interval says how often
something was done, as far as the file tells a process that only reads it.

commits/s      commits to the disk (none on persistent memory and tmpfs)
cuts/s         epochs cut, by commits, snapshots and checks
collections/s  lists of overwritten and deleted entries whose space came free
entries/s      entries more or less, from one commit to another
growth/s       bytes that the file grew
session        which session writes; a higher one is another process, or an
               open that came after`,
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
