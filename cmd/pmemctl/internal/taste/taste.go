// Package taste measures a table for some seconds on the user's own machine, beside
// the least that the machine allows. The project's bench/ does it thoroughly, and
// beside other stores.
package taste

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"pmemtable/table"
)

// Figures is how many there are.
const Figures = 9

// Options say what is measured. All must be set.
type Options struct {
	Dir        string        // where the scratch files lie
	Entries    int           // of the table
	ValueBytes int           // of each; keys have 16
	Goroutines int           // that work at once
	For        time.Duration // each figure
	// Began, if set, is told which figure comes next.
	Began func(name string)
}

// Figure is what one kind of operation took.
type Figure struct {
	Name       string  `json:"name"`
	Goroutines int     `json:"goroutines"`
	Operations int64   `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	MeanNs     float64 `json:"mean_ns"` // of one goroutine
	P50Ns      int64   `json:"p50_ns"`
	P99Ns      int64   `json:"p99_ns"`
	MaxNs      int64   `json:"max_ns"` // of those that were timed one by one
	Floor      string  `json:"floor,omitempty"`
	TimesFloor float64 `json:"times_floor,omitempty"` // the mean, in means of the floor
}

const (
	keyBytes    = 16
	recordBytes = 128
	// groupers is how many goroutines share commits in the last figure.
	groupers = 32
)

// The names of the floors.
const (
	ReadFloor    = "floor: two dependent reads"
	DurableFloor = "floor: write and sync a file"
)

// Run measures. The scratch files are gone when it returns.
func Run(ctx context.Context, o Options) (figures []Figure, err error) {
	dir, err := os.MkdirTemp(o.Dir, "pmemctl-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := runner{o: o, ctx: ctx, path: filepath.Join(dir, "t.pmt")}
	for _, step := range []func() error{r.readFloor, r.load, r.quick, func() error { return r.durableFloor(dir) }, r.durable} {
		if err := step(); err != nil {
			return r.figures, err
		}
		if err := ctx.Err(); err != nil {
			return r.figures, err
		}
	}
	return r.figures, nil
}

type runner struct {
	o       Options
	ctx     context.Context
	path    string
	figures []Figure
}

// worker is what a goroutine of a figure has to itself.
type worker struct {
	random *rand.Rand
	key    [keyBytes]byte
	value  []byte
	sum    uint64
}

// timedEvery operations one is timed by itself: the clock costs as much as a lookup.
const timedEvery = 32

// measure lets goroutines do something for the time given. Where single, every
// operation is timed.
func (r *runner) measure(name, floor string, goroutines int, single bool, do func(w *worker) error) error {
	if r.o.Began != nil {
		r.o.Began(name)
	}
	type part struct {
		count   int64
		took    time.Duration
		latency *hdrhistogram.Histogram
		err     error
	}
	parts := make([]part, goroutines)
	every := int64(timedEvery)
	if single {
		every = 1
	}
	var group sync.WaitGroup
	for g := range parts {
		p := &parts[g]
		p.latency = hdrhistogram.New(1, time.Minute.Nanoseconds(), 3)
		group.Go(func() {
			w := &worker{random: rand.New(rand.NewPCG(uint64(g), 1)), value: make([]byte, 0, r.o.ValueBytes)}
			begin := time.Now()
			for p.err == nil && (p.count%every != 0 || p.took < r.o.For && r.ctx.Err() == nil) {
				if p.count%every != 0 {
					p.err = do(w)
				} else {
					before := time.Now()
					p.err = do(w)
					_ = p.latency.RecordValue(max(1, time.Since(before).Nanoseconds()))
				}
				p.count++
				if p.count%every == 0 {
					p.took = time.Since(begin)
				}
			}
			p.took = time.Since(begin)
		})
	}
	group.Wait()
	f := Figure{Name: name, Goroutines: goroutines, Floor: floor}
	all, busy, longest := parts[0].latency, time.Duration(0), time.Duration(0)
	for g := range parts {
		if parts[g].err != nil {
			return fmt.Errorf("%s: %w", name, parts[g].err)
		}
		if g > 0 {
			all.Merge(parts[g].latency)
		}
		f.Operations += parts[g].count
		busy, longest = busy+parts[g].took, max(longest, parts[g].took)
	}
	f.MeanNs = float64(busy.Nanoseconds()) / float64(max(1, f.Operations))
	f.PerSecond = float64(f.Operations) / max(longest, time.Microsecond).Seconds()
	f.P50Ns, f.P99Ns, f.MaxNs = all.ValueAtQuantile(50), all.ValueAtQuantile(99), all.Max()
	for _, other := range r.figures {
		if other.Name == floor && other.MeanNs > 0 {
			f.TimesFloor = f.MeanNs / other.MeanNs
		}
	}
	r.figures = append(r.figures, f)
	return nil
}

// readFloor reads an index, and then the record that it names, as the plainest table
// would.
func (r *runner) readFloor() error {
	index := make([]uint32, r.o.Entries)
	records := make([]byte, r.o.Entries*recordBytes)
	for i, n := range rand.New(rand.NewPCG(1, 2)).Perm(r.o.Entries) {
		index[i] = uint32(n)
		records[n*recordBytes] = byte(n)
	}
	return r.measure(ReadFloor, "", r.o.Goroutines, false, func(w *worker) error {
		at := int(index[w.random.IntN(len(index))]) * recordBytes
		w.sum += uint64(records[at])
		return nil
	})
}

// entry makes the key of an entry.
func (w *worker) entry(n uint64) []byte {
	binary.BigEndian.PutUint64(w.key[:8], n*0x9e3779b97f4a7c15) // as spread as hashes are
	binary.BigEndian.PutUint64(w.key[8:], n)
	return w.key[:]
}

// load fills the table.
func (r *runner) load() error {
	return r.with(table.OnSync, func(t *table.Table) error {
		if r.o.Began != nil {
			r.o.Began("load")
		}
		begin := time.Now()
		var group sync.WaitGroup
		failures := make([]error, r.o.Goroutines)
		for g := range r.o.Goroutines {
			group.Go(func() {
				w, value := worker{}, make([]byte, r.o.ValueBytes)
				for n := g; n < r.o.Entries && failures[g] == nil; n += r.o.Goroutines {
					if n%1024 == g && r.ctx.Err() != nil {
						return
					}
					failures[g] = t.Put(w.entry(uint64(n)), value)
				}
			})
		}
		group.Wait()
		took := time.Since(begin)
		r.figures = append(r.figures, Figure{Name: "put new (OnSync)", Goroutines: r.o.Goroutines, Operations: int64(r.o.Entries),
			PerSecond: float64(r.o.Entries) / took.Seconds(), MeanNs: float64(took.Nanoseconds()) * float64(r.o.Goroutines) / float64(r.o.Entries)})
		return errors.Join(failures...)
	})
}

func (r *runner) with(d table.Durability, fn func(t *table.Table) error) error {
	t, err := table.Open(r.path, &table.Options{Durability: d})
	if err != nil {
		return err
	}
	return errors.Join(fn(t), t.Close())
}

// quick measures what waits for no disk.
func (r *runner) quick() error {
	return r.with(table.OnSync, func(t *table.Table) error {
		n := uint64(r.o.Entries)
		get := func(w *worker) (err error) {
			w.value, err = t.AppendGet(w.value[:0], w.entry(w.random.Uint64N(n)))
			return err
		}
		put := func(w *worker) error {
			return t.Put(w.entry(w.random.Uint64N(n)), w.value[:cap(w.value)][:r.o.ValueBytes])
		}
		return errors.Join(
			r.measure("get", ReadFloor, r.o.Goroutines, false, get),
			r.measure("get of an absent key", "", r.o.Goroutines, false, func(w *worker) error {
				_, err := t.Has(w.entry(n + w.random.Uint64N(n)))
				return err
			}),
			r.measure("put over (OnSync)", "", r.o.Goroutines, false, put),
			r.measure("95 % get, 5 % put over (OnSync)", "", r.o.Goroutines, false, func(w *worker) error {
				if w.random.IntN(20) == 0 {
					return put(w)
				}
				return get(w)
			}),
		)
	})
}

// durableFloor is what the disk takes for as many bytes, without any table.
func (r *runner) durableFloor(dir string) (err error) {
	file, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	block := make([]byte, recordBytes)
	return r.measure(DurableFloor, "", 1, true, func(*worker) error {
		if _, err := file.WriteAt(block, 0); err != nil {
			return err
		}
		return file.Sync()
	})
}

// durable measures puts that are durable when they return.
func (r *runner) durable() error {
	return r.with(table.Always, func(t *table.Table) error {
		n := uint64(r.o.Entries)
		put := func(w *worker) error {
			return t.Put(w.entry(w.random.Uint64N(n)), w.value[:cap(w.value)][:r.o.ValueBytes])
		}
		return errors.Join(
			r.measure("put over, durable (Always)", DurableFloor, 1, true, put),
			r.measure("the same, commits shared", DurableFloor, groupers, true, put),
		)
	})
}
