// Bench measures this module's raft log beside raft-boltdb's, in one run, on the
// same disk, in turns: A B A B.
//
//	go run ./bench -dir /path/on/the/disk
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"pmemtable/contrib/raft/store"
	"pmemtable/table"
)

// log is a raft log under measurement.
type log interface {
	raft.LogStore
	Close() error
}

// contender is one kind of log.
type contender struct {
	name string
	open func(path string) (log, error)
}

var contenders = []contender{
	{"pmemtable", func(path string) (log, error) { return store.Open(path, &options) }},
	{"raft-boltdb", func(path string) (log, error) { return raftboltdb.NewBoltStore(path) }},
}

// options are those of pmemtable.
var options table.Options

// workload is one kind of call.
type workload struct {
	name  string
	calls int
	call  func(l log, i int) error
}

func main() {
	dir := flag.String("dir", os.TempDir(), "directory for the files, on the disk to measure")
	preload := flag.Int("preload", 10_000, "entries in the log before it is measured")
	size := flag.Int("size", 256, "bytes of an entry's data")
	calls := flag.Int("calls", 500, "calls that store, a turn; 100 times as many that read")
	turns := flag.Int("turns", 5, "turns of each kind of log")
	flag.IntVar(&options.Stripes, "stripes", 0, "stripes of pmemtable, 0 for the store's default")
	flag.IntVar(&options.SegmentSize, "segment", 0, "segment size of pmemtable, 0 for the store's default")
	flag.Parse()
	if err := run(*dir, *preload, *size, *calls, *turns); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(dir string, preload, size, calls, turns int) error {
	if preload < 1 || size < 0 || calls < 1 || turns < 1 {
		return errors.New("-preload, -calls and -turns must be at least 1, -size not negative")
	}
	dir, err := os.MkdirTemp(dir, "raft-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	took := make([][][]time.Duration, len(contenders)) // of each, by workload: a call, in each turn
	var loads []workload
	for turn := range turns {
		for i, c := range contenders {
			loads = workloads(preload, size, calls)
			if took[i] == nil {
				took[i] = make([][]time.Duration, len(loads))
			}
			if err := measure(c, filepath.Join(dir, fmt.Sprint(c.name, turn)), preload, size, loads, took[i]); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	report(loads, took)
	return nil
}

// workloads are what is done to one log, in this order.
func workloads(preload, size, calls int) []workload {
	next := uint64(preload) + 1
	appends := func(n int) func(log, int) error {
		return func(l log, _ int) error {
			next += uint64(n)
			return l.StoreLogs(entries(next-uint64(n), n, size))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	return []workload{
		{"StoreLogs, 1 entry", calls, appends(1)},
		{"StoreLogs, 32 entries", calls, appends(32)},
		{"GetLog", 100 * calls, func(l log, _ int) error {
			return l.GetLog(1+random.Uint64N(uint64(preload)), new(raft.Log))
		}},
		{"DeleteRange, 64 entries", min(calls, preload/64), func(l log, i int) error {
			return l.DeleteRange(uint64(64*i+1), uint64(64*i+64))
		}},
	}
}

func entries(first uint64, n, size int) []*raft.Log {
	logs := make([]*raft.Log, n)
	for i := range logs {
		logs[i] = &raft.Log{Index: first + uint64(i), Term: 1, Data: make([]byte, size), AppendedAt: time.Now()}
	}
	return logs
}

// measure runs the workloads on a new log, and appends what a call of each took.
func measure(c contender, path string, preload, size int, loads []workload, took [][]time.Duration) (err error) {
	l, err := c.open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(), os.Remove(path)) }()
	for first := 1; first <= preload; first += 1000 {
		if err := l.StoreLogs(entries(uint64(first), min(1000, preload-first+1), size)); err != nil {
			return err
		}
	}
	for i, w := range loads {
		began := time.Now()
		for n := range w.calls {
			if err := w.call(l, n); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
		took[i] = append(took[i], time.Since(began)/time.Duration(max(w.calls, 1)))
	}
	return nil
}

// report prints the median over the turns, and the ratio of neighbouring turns.
func report(loads []workload, took [][][]time.Duration) {
	fmt.Printf("%-24s %12s %12s   %s\n", "a call", contenders[0].name, contenders[1].name, "ratio: median (lowest to highest)")
	for i, w := range loads {
		ratios := make([]float64, len(took[0][i]))
		for turn := range ratios {
			ratios[turn] = float64(took[1][i][turn]) / float64(took[0][i][turn])
		}
		slices.Sort(ratios)
		fmt.Printf("%-24s %12v %12v   %.2f (%.2f to %.2f)\n", w.name, median(took[0][i]), median(took[1][i]),
			ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	}
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	m := d[len(d)/2]
	if m > 10*time.Microsecond {
		return m.Round(100 * time.Nanosecond)
	}
	return m
}
