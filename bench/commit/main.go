// Commit measures what durability costs on an ordinary disk: a table that makes
// every write durable before it returns, beside bbolt, Pebble, Badger, pogreb and
// LMDB (build tags peers and lmdb), with 1, 2, 8 and 64 writers that overwrite
// entries of a preloaded set; a table that is durable within a second beside the
// peers' modes without sync; what snapshots cost that are taken every second; and how
// many bytes go to the device for each byte put.
//
// Each store has a process of its own; the stores take turns, round by round, and
// the figures are medians over the rounds. It prints Markdown, and judges its
// goals; the exit code is 0 whether they are reached or not, unless -judge is set.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/report"
	"pmemtable/bench/internal/stores"
	"pmemtable/bench/internal/workload"
)

func main() {
	workload.ServeIfChild()
	missed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "commit:", err)
		os.Exit(1)
	}
	if missed {
		os.Exit(2)
	}
}

// options of a run.
type options struct {
	dir     string
	entries int
	writers []int
	rounds  int
	each    time.Duration
	every   time.Duration // snapshots
	profile string
	shape   data.Shape
	parts   []string
}

// part is one of the things that are measured.
type part func(options, io.Writer) ([]report.Goal, error)

var (
	partNames = []string{"always", "nosync", "snapshots"}
	parts     = map[string]part{"always": always, "nosync": noSync, "snapshots": snapshots}
)

func parse(args []string) (o options, judge bool, err error) {
	f := flag.NewFlagSet("commit", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "", "where the stores go (default: a temporary directory); it should lie on a disk")
	f.IntVar(&o.entries, "n", 100_000, "entries that are loaded first")
	writers := f.String("writers", "1,2,8,64", "numbers of writers")
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each measurement")
	f.DurationVar(&o.each, "each", time.Second, "how long each store writes in a round")
	f.DurationVar(&o.every, "snapshots", time.Second, "time between snapshots")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of pmemtable")
	f.IntVar(&o.shape.KeyBytes, "key", 16, "bytes of a key")
	f.IntVar(&o.shape.ValueBytes, "value", 100, "bytes of a value")
	chosen := f.String("parts", strings.Join(partNames, ","), "what is measured")
	f.BoolVar(&judge, "judge", false, "exit with 2 when a goal is missed")
	if err := f.Parse(args); err != nil {
		return o, judge, err
	}
	for text := range strings.SplitSeq(*writers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return o, judge, fmt.Errorf("writers %q", text)
		}
		o.writers = append(o.writers, n)
	}
	for name := range strings.SplitSeq(*chosen, ",") {
		if parts[name] == nil {
			return o, judge, fmt.Errorf("part %q is none of %s", name, strings.Join(partNames, ", "))
		}
		o.parts = append(o.parts, name)
	}
	if o.shape.KeyBytes < 8 || o.shape.KeyBytes > data.MaxKeyBytes || o.shape.KeyBytes%8 != 0 || o.shape.ValueBytes > data.MaxValueBytes || o.entries < 1 {
		return o, judge, errors.New("keys of 8 to 64 bytes in steps of 8, values of at most 64 KiB, at least one entry")
	}
	return o, judge, nil
}

func run(args []string, out io.Writer) (missed bool, err error) {
	o, judge, err := parse(args)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp(o.dir, "pmemtable-commit-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	describe(o, out)
	var goals []report.Goal
	for _, name := range o.parts {
		g, err := parts[name](o, out)
		if err != nil {
			return false, err
		}
		goals = append(goals, g...)
	}
	fmt.Fprintf(out, "## Verdict\n\n")
	n := report.PrintGoals(out, goals)
	return judge && n > 0, nil
}

func describe(o options, out io.Writer) {
	fmt.Fprintf(out, "# The cost of durability\n\n%s.\n\n", report.Machine())
	fmt.Fprintf(out, "%d entries of %d+%d bytes, overwritten in random order; %d rounds of %v, the stores in turn; medians, and in parentheses (largest - smallest) / median.\n\n",
		o.entries, o.shape.KeyBytes, o.shape.ValueBytes, o.rounds, o.each)
	versions := stores.Versions()
	for _, name := range []string{"bbolt", "Pebble", "Badger", "pogreb", "LMDB"} {
		if stores.Has(name) {
			fmt.Fprintf(out, "- %s\n", versions[name])
		}
	}
	for _, name := range []string{"Pebble", "Badger", "LMDB"} {
		if !stores.Has(name) {
			fmt.Fprintf(out, "- %s is not built in (build tag %s)\n", name, map[string]string{"Pebble": "peers", "Badger": "peers", "LMDB": "lmdb"}[name])
		}
	}
	fmt.Fprintln(out)
}

// contender is one store in its process, and what was measured of it.
type contender struct {
	label   string
	config  stores.Config
	child   *workload.Child
	samples map[string]report.Sample
	commits float64 // of a pmemtable since it was opened
}

func (c *contender) add(what string, x float64) { c.samples[what] = append(c.samples[what], x) }

// field starts the stores and loads them.
func field(o options, part string, entries int, configs []stores.Config) (all []*contender, err error) {
	for i, config := range configs {
		if !stores.Has(config.Name) {
			continue
		}
		config.Dir = filepath.Join(o.dir, fmt.Sprintf("%s-%d", part, i))
		config.Entries = entries
		if err := os.MkdirAll(config.Dir, 0o700); err != nil {
			return all, err
		}
		child, err := workload.Start()
		if err != nil {
			return all, err
		}
		c := &contender{label: label(config), config: config, child: child, samples: map[string]report.Sample{}}
		all = append(all, c)
		loading := config
		loading.Sync = stores.Never
		if err := child.Open(loading); err != nil {
			return all, fmt.Errorf("%s: %w", c.label, err)
		}
		w := workload.Work{Kind: workload.Load, N: entries, Ops: entries, Shape: o.shape, Limit: time.Nanosecond}
		if _, err := child.Run(w); err != nil {
			return all, fmt.Errorf("%s: %w", c.label, err)
		}
		if err := child.Open(config); err != nil {
			return all, fmt.Errorf("%s: %w", c.label, err)
		}
	}
	return all, nil
}

func label(c stores.Config) string {
	switch {
	case c.Name != "pmemtable":
		return c.Name
	case c.SegmentBytes != 0:
		return fmt.Sprintf("pmemtable Always, segments of %d KiB", c.SegmentBytes>>10)
	case c.Sync == stores.Always:
		return "pmemtable Always"
	case c.Sync == stores.Interval:
		return "pmemtable Interval(1s)"
	}
	return "pmemtable OnSync"
}

func retire(all []*contender) error {
	var errs []error
	for _, c := range all {
		if c.child != nil {
			errs = append(errs, c.child.Stop())
		}
	}
	return errors.Join(errs...)
}
