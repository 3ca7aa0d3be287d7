// Cuts measures how long a cut of the epoch holds the locks of the stripes, which
// is how long a commit or a snapshot can hold up a writer: on a table of many small
// entries, while writers overwrite them without a pause. First cuts for snapshots,
// which are closed at once, then cuts for commits, whose syncs go on beside the
// writers. Between two cuts it times as many locks that nobody else wants: what the
// machine does to a piece of work of that kind, whoever else uses it.
//
// It prints Markdown. Nothing is judged: the bound that the design sets is
// "microseconds".
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/report"
	"pmemtable/table"
)

// options of a run.
type options struct {
	dir     string
	entries int
	writers int
	lasts   time.Duration // each of the two parts
	every   time.Duration // the pause between two cuts
	shape   data.Shape
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cuts:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("cuts", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "", "where the table goes (default: a temporary directory); it should lie on a disk")
	f.IntVar(&o.entries, "n", 10_000_000, "entries, of 8-byte keys and 8-byte values")
	f.IntVar(&o.writers, "writers", 1, "goroutines that write meanwhile")
	f.DurationVar(&o.lasts, "for", 10*time.Second, "how long each of the two kinds of cut goes on")
	f.DurationVar(&o.every, "every", time.Millisecond, "pause between two cuts")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.entries < 1 || o.writers < 1 || o.lasts <= 0 {
		return o, errors.New("at least one entry, one writer and some time")
	}
	o.shape = data.Shape{KeyBytes: 8, ValueBytes: 8}
	return o, nil
}

func run(args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "pmemtable-cuts-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t, err := table.Open(filepath.Join(dir, "cuts.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := load(t, o); err != nil {
		return err
	}
	s := t.Stats()
	fmt.Fprintf(out, "# How long a cut holds the stripe locks\n\n%s.\n\n", report.Machine())
	fmt.Fprintf(out, "%d entries of %d+%d bytes in %d stripes on %s; %d goroutines overwrite in random order meanwhile.\n\n",
		t.Len(), o.shape.KeyBytes, o.shape.ValueBytes, s.Stripes, s.Medium, o.writers)
	rows := report.Table{Head: []string{"microseconds", "cuts", "p50", "p99", "p99.9", "max", "writes/s meanwhile"}}
	for _, part := range []struct {
		name string
		cut  func(*table.Table) error
	}{{"for a snapshot", snapshot}, {"for a commit", (*table.Table).Sync}} {
		if err := measure(t, o, part.name, part.cut, &rows); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	rows.Print(out)
	return nil
}

func snapshot(t *table.Table) error {
	s, err := t.Snapshot()
	if err != nil {
		return err
	}
	return s.Close()
}

func load(t *table.Table, o options) error {
	const group = 10_000
	var bufs [group][data.MaxKeyBytes]byte
	keys, values := make([][]byte, 0, group), make([][]byte, 0, group)
	for i := range o.entries {
		keys = append(keys, o.shape.Key(&bufs[len(keys)], i))
		values = append(values, o.shape.Value(i))
		if len(keys) == group || i == o.entries-1 {
			if err := t.PutMany(keys, values); err != nil {
				return err
			}
			keys, values = keys[:0], values[:0]
		}
	}
	return t.Sync()
}

// measure cuts again and again while writers go on.
func measure(t *table.Table, o options, name string, cut func(*table.Table) error, rows *report.Table) error {
	held, free := hdrhistogram.New(1, int64(time.Minute), 3), hdrhistogram.New(1, int64(time.Minute), 3)
	w := startWriters(t, o)
	writesBefore := t.Stats().Writes
	began := time.Now()
	var err error
	for time.Since(began) < o.lasts && err == nil {
		if err = cut(t); err != nil {
			break
		}
		_ = held.RecordValue(t.Stats().LastCut.Nanoseconds())
		time.Sleep(o.every)
		_ = free.RecordValue(lockIdle(t.Stats().Stripes).Nanoseconds())
	}
	rate := float64(t.Stats().Writes-writesBefore) / time.Since(began).Seconds()
	err = errors.Join(err, w.stop())
	addRow(rows, name, held, report.Number(rate))
	addRow(rows, "as many locks that nobody wants", free, "")
	return err
}

func addRow(rows *report.Table, name string, h *hdrhistogram.Histogram, rate string) {
	us := func(ns int64) string { return report.Number(float64(ns) / 1e3) }
	rows.Add(name, fmt.Sprint(h.TotalCount()), us(h.ValueAtQuantile(50)), us(h.ValueAtQuantile(99)),
		us(h.ValueAtQuantile(99.9)), us(h.Max()), rate)
}

// lockIdle takes and leaves as many locks as a cut, each on cache lines of its own.
func lockIdle(n int) time.Duration {
	locks := make([]struct {
		mu sync.Mutex
		_  [120]byte
	}, n)
	began := time.Now()
	for i := range locks {
		locks[i].mu.Lock()
	}
	for i := range locks {
		locks[i].mu.Unlock()
	}
	return time.Since(began)
}

// writers overwrite entries until they are stopped.
type writers struct {
	quit  atomic.Bool
	group sync.WaitGroup
	errs  []error
}

func startWriters(t *table.Table, o options) *writers {
	w := &writers{errs: make([]error, o.writers)}
	for g := range o.writers {
		w.group.Go(func() {
			var key [data.MaxKeyBytes]byte
			order := data.Uniform(o.entries, uint64(g+1))
			for i := 0; !w.quit.Load() && w.errs[g] == nil; i++ {
				w.errs[g] = t.Put(o.shape.Key(&key, order()), o.shape.Value(i))
			}
		})
	}
	return w
}

func (w *writers) stop() error {
	w.quit.Store(true)
	w.group.Wait()
	return errors.Join(w.errs...)
}
