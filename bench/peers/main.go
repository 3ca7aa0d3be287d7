// Peers measures pmemtable beside what it could be taken for: Go's maps (volatile)
// and embedded stores (persistent, without sync), and beside the floor, the least
// that the memory takes for such accesses. All on the same machine, in the same
// run, with the same keys and values, in turn; each store in a process of its own.
//
// It prints Markdown to standard output, writes SVG plots to a directory, and
// judges the goals.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pmemtable/bench/floor"
	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/report"
	"pmemtable/bench/internal/stores"
	"pmemtable/bench/internal/workload"
	"pmemtable/flush"
)

func main() {
	workload.FloorFunc = measureFloor()
	workload.ServeIfChild()
	missed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
	if missed {
		os.Exit(2)
	}
}

// measureFloor keeps the mapping from one round to the next.
func measureFloor() func(workload.FloorWork) (map[string]float64, error) {
	var f *floor.Floor
	return func(w workload.FloorWork) (map[string]float64, error) {
		if f == nil {
			var err error
			if f, err = floor.Open(w.Dir, w.Entries, floor.IndexBytes); err != nil {
				return nil, err
			}
		}
		f.ByCPU = w.ByCPU
		return f.Measure(w.Ops), nil
	}
}

type options struct {
	dir, plots, profile string
	media               string
	entries             int
	persistentEntries   int
	ops, rounds         int
	limit               time.Duration
	shape               data.Shape
	judge, byCPU        bool
	peers               []string
	goroutines          []int // in rising order
}

// everyPeer in the order of the tables' columns.
const everyPeer = "xsync,sync.Map,sharded,map+RWMutex,bbolt,Pebble,Badger,pogreb,LMDB"

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", defaultDir(), "where the stores go")
	f.StringVar(&o.media, "media", "", "the medium that the table's file passes for (default: dax where lines can be written back)")
	f.StringVar(&o.plots, "plots", "", "directory for the SVG plots (default: none are made)")
	f.StringVar(&o.profile, "profile", "", "directory for CPU profiles of pmemtable")
	f.IntVar(&o.entries, "n", 1_000_000, "entries")
	f.IntVar(&o.persistentEntries, "persistent", 1_000_000, "leave the persistent peers out of runs with more entries than this")
	f.IntVar(&o.ops, "ops", 1_000_000, "operations of each workload in a round")
	f.IntVar(&o.rounds, "rounds", 5, "rounds")
	f.DurationVar(&o.limit, "limit", 2*time.Second, "end a workload of a store after this time")
	f.IntVar(&o.shape.KeyBytes, "key", 16, "bytes of a key")
	f.IntVar(&o.shape.ValueBytes, "value", 100, "bytes of a value")
	f.BoolVar(&o.byCPU, "cpu", false, "take processor time, by goroutines, for elapsed time: on a machine that does other things meanwhile")
	peers := f.String("peers", everyPeer, "who takes part, of those that are built in")
	goroutines := f.String("goroutines", "1,2", "by how many goroutines each workload runs; the load by one")
	f.BoolVar(&o.judge, "judge", false, "exit with 2 when a goal is missed")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.peers = strings.Split(*peers, ",")
	if o.goroutines, err = parseCounts(*goroutines); err != nil {
		return o, fmt.Errorf("-goroutines: %w", err)
	}
	if o.shape.KeyBytes < 8 || o.shape.KeyBytes > data.MaxKeyBytes || o.shape.KeyBytes%8 != 0 || o.shape.ValueBytes < 0 || o.shape.ValueBytes > data.MaxValueBytes || o.entries < 100 || o.ops < 100 || o.rounds < 1 {
		return o, errors.New("keys of 8 to 64 bytes in steps of 8, values of at most 64 KiB, at least 100 entries and operations, and a round")
	}
	if most := o.goroutines[len(o.goroutines)-1]; o.ops < group*most || o.deletes() < most {
		return o, fmt.Errorf("too few entries or operations for %d goroutines: each needs a group of %d operations, and a key to delete", most, group)
	}
	if o.media == "" {
		o.media = "tmpfs"
		if flush.Available() {
			o.media = "dax"
		}
	}
	return o, nil
}

// parseCounts reads a list of numbers of goroutines.
func parseCounts(list string) (counts []int, err error) {
	const most = 1000 // each has a seed of its own
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("%q is no number from 1 to %d", text, most)
		}
		counts = append(counts, n)
	}
	slices.Sort(counts)
	return slices.Compact(counts), nil
}

// deletes is how many keys a run of delete gets: of half of the entries each number of
// goroutines its share, so that no key is deleted twice.
func (o options) deletes() int { return min(o.ops, o.entries/2/len(o.goroutines)) }

// defaultDir is shared memory where there is some: it is what passes for
// persistent memory.
func defaultDir() string {
	if st, err := os.Stat("/dev/shm"); err == nil && st.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func run(args []string, out io.Writer) (missed bool, err error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "pmemtable-peers-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(o.dir)
	describe(o, out)
	r, err := measure(o)
	defer func() { err = errors.Join(err, r.stop()) }()
	if err != nil {
		return false, err
	}
	r.printThroughput(out)
	r.printFloor(out)
	goals := r.throughputGoals()
	more, err := r.single(out)
	if err != nil {
		return false, err
	}
	goals = append(goals, more...)
	if o.plots != "" {
		if err := r.plot(o.plots); err != nil {
			return false, err
		}
		fmt.Fprintf(out, "The plots are in %s.\n\n", o.plots)
	}
	fmt.Fprintf(out, "## Goals\n\n")
	n := report.PrintGoals(out, goals)
	return o.judge && n > 0, nil
}

func describe(o options, out io.Writer) {
	fmt.Fprintf(out, "# Beside the floor and the peers: %s entries of %d+%d bytes\n\n", report.Number(float64(o.entries)), o.shape.KeyBytes, o.shape.ValueBytes)
	fmt.Fprintf(out, "%s. The table's file passes for %s (%s). %d rounds, the stores in turn; nanoseconds an operation (%s by operations of all goroutines), medians, and in parentheses (largest - smallest) / median; ratios are medians of the rounds' ratios. Of YCSB A to F there is no E: it scans ranges, and a hash table has no order. What pmemtable does is durable at its return on dax, elsewhere at a Sync, for which no workload waits; the peers do not sync.\n\n",
		report.Machine(), o.media, flush.Method(), o.rounds, map[bool]string{false: "elapsed time", true: "processor time of the process, a goroutine's share,"}[o.byCPU])
	versions := stores.Versions()
	for _, name := range stores.Names() {
		if v := versions[name]; v != "" {
			fmt.Fprintf(out, "- %s: %s\n", name, v)
		}
	}
	fmt.Fprintln(out)
}

// contender is one store in its process.
type contender struct {
	label   string
	config  stores.Config
	child   *workload.Child
	samples map[string]report.Sample
}

func (c *contender) persistentPeer() bool {
	return c.config.Name != "pmemtable" && stores.Persistent(c.config.Name)
}

// labels of the two tables.
const (
	checked = "pmemtable"
	trusted = "pmemtable, TrustMedia"
)

// contenders lists who takes part, the two tables first.
func contenders(o options) []*contender {
	all := []*contender{
		{label: checked, config: stores.Config{Name: "pmemtable", Media: o.media}},
		{label: trusted, config: stores.Config{Name: "pmemtable", Media: o.media, Trust: true}},
	}
	for _, name := range o.peers {
		c := &contender{label: name, config: stores.Config{Name: name}}
		if stores.Has(name) && !(c.persistentPeer() && o.entries > o.persistentEntries) {
			all = append(all, c)
		}
	}
	for i, c := range all {
		c.config.Sync, c.config.Entries = stores.Never, o.entries
		c.config.Dir = filepath.Join(o.dir, fmt.Sprint(i))
		c.samples = map[string]report.Sample{}
	}
	return all
}

// fresh gives the contender an empty store.
func (c *contender) fresh() error {
	if c.child != nil {
		if err := c.child.CloseStore(); err != nil {
			return err
		}
		if err := os.RemoveAll(c.config.Dir); err != nil {
			return err
		}
	} else {
		child, err := workload.Start()
		if err != nil {
			return err
		}
		c.child = child
	}
	if err := os.MkdirAll(c.config.Dir, 0o700); err != nil {
		return err
	}
	return c.child.Open(c.config)
}
