// Package workload runs workloads on a store, each store in a process of its own, so
// that the garbage collector, the background work and the I/O counters of one do
// not touch another. The parent says what to do, one at a time, over a pipe.
package workload

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"pmemtable/bench/internal/clock"
	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/stores"
)

// Kind of a workload.
type Kind string

// The kinds.
const (
	Load    Kind = "load"    // new keys in order, the store growing
	Over    Kind = "over"    // overwrite
	Hit     Kind = "hit"     // get a key that is there
	Miss    Kind = "miss"    // get a key that is not
	Delete  Kind = "delete"  // each key at most once
	Mix     Kind = "mix"     // ReadPercent of gets, the rest overwrites
	Latest  Kind = "latest"  // ReadPercent of gets, those put last most often, the rest new keys
	Modify  Kind = "modify"  // ReadPercent of gets, the rest a get and a put of what it got, changed
	GetMany Kind = "getmany" // groups of Group keys
	PutMany Kind = "putmany" // overwrites in groups
	GC      Kind = "gc"      // forced garbage collections
)

// Work is a workload on a store of N entries.
type Work struct {
	Kind        Kind
	N           int
	Shape       data.Shape
	Ops         int           // in all, at most
	Limit       time.Duration // stop then, 0: never. Load goes on in bulk, unmeasured
	Slow        bool          // look at the clock before each operation, not each 16th
	Goroutines  int
	ReadPercent int
	Zipf        float64 // 0: uniform
	Group       int
	Seed        uint64
	// NewFrom of Latest is the number of the first new key. Those of Miss lie below 2*N.
	NewFrom int
	// Deleted says how many keys were deleted before, by runs of Delete with the same Seed.
	Deleted int
	// SnapshotEvery so often a snapshot is made, and the one before it closed.
	SnapshotEvery time.Duration
	Latency       bool   // measure each operation
	Profile       string // write a CPU profile of the workload to this file
}

// Result of a workload.
type Result struct {
	Ops       int
	Elapsed   time.Duration
	CPU       time.Duration // of the whole process, the garbage collector included
	Snapshots int
	// WriteBytes is /proc/self/io's write_bytes: what this process dirtied in the
	// page cache or wrote directly. DeviceBytes is what the block device of the
	// store's directory wrote meanwhile, for whomever. 0 where neither is told.
	WriteBytes, DeviceBytes int64
	Latency                 *Latency           `json:",omitempty"`
	Figures                 map[string]float64 `json:",omitempty"`
}

// NsPerOp is the time of one operation of one goroutine's share: elapsed time by
// operations.
func (r Result) NsPerOp() float64 {
	if r.Ops == 0 {
		return 0
	}
	return float64(r.Elapsed.Nanoseconds()) / float64(r.Ops)
}

// Rate is operations in a second.
func (r Result) Rate() float64 { return 1e9 / r.NsPerOp() }

// Run runs w on s.
func Run(s stores.Store, w Work, dir string) (Result, error) {
	workers, err := prepare(s, &w)
	if err != nil {
		return Result{}, err
	}
	stop, err := startProfile(w.Profile)
	if err != nil {
		return Result{}, err
	}
	snaps := startSnapshots(s, w.SnapshotEvery)
	io := readIO(dir)
	var r Result
	var hiccups *control
	if w.Latency {
		hiccups = startControl()
	}
	watch := clock.Start()
	err = runAll(workers, w)
	r.Elapsed, r.CPU = watch.Stop()
	for _, k := range workers {
		r.Ops += k.done
	}
	now := readIO(dir)
	r.WriteBytes, r.DeviceBytes = now.written-io.written, now.device-io.device
	var e error
	r.Snapshots, e = snaps.stop()
	stop()
	if w.Latency {
		r.Latency = summarize(workers, hiccups.stop())
	}
	if err == nil && w.Kind == Load && r.Ops < w.Ops {
		err = loadRest(s, w, r.Ops)
	}
	return r, errors.Join(err, e)
}

// worker is one goroutine's part.
type worker struct {
	store  stores.Store
	work   Work
	picks  []uint32
	reads  []bool // of kinds with a ReadPercent
	done   int
	record *recorder
	key    [data.MaxKeyBytes]byte
	buf    []byte
	keys   [][]byte // of groups
	values [][]byte
	_      [128]byte
}

// prepare draws all that is random before the clock runs.
func prepare(s stores.Store, w *Work) ([]*worker, error) {
	if w.Goroutines == 0 {
		w.Goroutines = 1
	}
	if w.Kind == Load && w.Goroutines > 1 {
		return nil, errors.New("a load is by one goroutine")
	}
	workers := make([]*worker, w.Goroutines)
	for g := range workers {
		k := &worker{store: s, work: *w, buf: make([]byte, 0, data.MaxValueBytes)}
		k.draw(g, w.Ops/w.Goroutines)
		if w.Latency {
			k.record = newRecorder()
		}
		workers[g] = k
	}
	return workers, nil
}

func runAll(workers []*worker, w Work) error {
	deadline := time.Time{}
	if w.Limit > 0 {
		deadline = time.Now().Add(w.Limit)
	}
	errs := make([]error, len(workers))
	var group sync.WaitGroup
	for g, k := range workers {
		group.Go(func() { errs[g] = k.run(deadline) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// run goes through the picks, once, or again and again until the deadline when
// operations are slow enough that looking at the clock does not matter; at least the
// first, however late it comes.
func (k *worker) run(deadline time.Time) error {
	if k.work.Group > 0 {
		return k.runGroups(deadline)
	}
	op, err := k.operation()
	if err != nil {
		return err
	}
	seldom := 15
	if k.work.Slow {
		seldom = 0
	}
	for i, p := range k.picks {
		if i > 0 && i&seldom == seldom && !deadline.IsZero() && time.Now().After(deadline) {
			break
		}
		if k.record != nil {
			began := time.Now()
			err = op(i, int(p))
			k.record.add(began)
		} else {
			err = op(i, int(p))
		}
		if err != nil {
			return fmt.Errorf("%s %d: %w", k.work.Kind, p, err)
		}
		k.done++
	}
	return nil
}

// operation is what one step of the workload does with pick p.
func (k *worker) operation() (func(i, p int) error, error) {
	get := func(_, p int) error {
		_, err := k.get(p)
		return err
	}
	put := func(i, p int) error { return k.store.Put(k.keyOf(p), k.work.Shape.Value(i)) }
	switch k.work.Kind {
	case Load, Over:
		return put, nil
	case Hit:
		return get, nil
	case Miss:
		return func(_, p int) error {
			_, err := k.store.Get(k.buf[:0], k.keyOf(k.work.N+p))
			if err == stores.ErrNotFound {
				return nil
			}
			return fmt.Errorf("absent key: %v", err)
		}, nil
	case Delete:
		return func(_, p int) error { return k.store.Delete(k.keyOf(p)) }, nil
	case Mix, Latest:
		return k.mixed(get, put), nil
	case Modify:
		return k.mixed(get, k.modify), nil
	}
	return nil, fmt.Errorf("workload %q", k.work.Kind)
}

// mixed does the one where the worker drew a read, else the other.
func (k *worker) mixed(read, other func(i, p int) error) func(i, p int) error {
	return func(i, p int) error {
		if k.reads[i] {
			return read(i, p)
		}
		return other(i, p)
	}
}

func (k *worker) keyOf(p int) []byte { return k.work.Shape.Key(&k.key, p) }

// get returns a value that is good until the next get.
func (k *worker) get(p int) ([]byte, error) {
	got, err := k.store.Get(k.buf[:0], k.keyOf(p))
	if err == nil && len(got) != k.work.Shape.ValueBytes {
		err = fmt.Errorf("%d bytes", len(got))
	}
	return got, err
}

// modify changes the first bytes of a value.
func (k *worker) modify(i, p int) error {
	got, err := k.get(p)
	if err != nil {
		return err
	}
	copy(got[:min(8, len(got))], k.work.Shape.Value(i))
	return k.store.Put(k.keyOf(p), got)
}

// runGroups is run for GetMany and PutMany.
func (k *worker) runGroups(deadline time.Time) error {
	many, ok := k.store.(stores.Many)
	if !ok {
		return errors.New("the store takes no groups")
	}
	n := k.work.Group
	bufs := make([][data.MaxKeyBytes]byte, n)
	k.keys, k.values = make([][]byte, n), make([][]byte, n)
	var failed error
	check := func(_ int, v []byte, err error) {
		if k.buf = append(k.buf[:0], v...); err != nil || len(v) != k.work.Shape.ValueBytes {
			failed = fmt.Errorf("%d bytes: %w", len(v), err)
		}
	}
	for at := 0; at+n <= len(k.picks); at += n {
		if !deadline.IsZero() && time.Now().After(deadline) {
			break
		}
		for i := range n {
			p := int(k.picks[at+i])
			k.keys[i], k.values[i] = k.work.Shape.Key(&bufs[i], p), k.work.Shape.Value(at+i)
		}
		if k.work.Kind == GetMany {
			many.GetMany(k.keys, check)
		} else {
			failed = many.PutMany(k.keys, k.values)
		}
		if failed != nil {
			return failed
		}
		k.done += n
	}
	return nil
}

// loadRest brings a store that is too slow for the whole load to its size.
func loadRest(s stores.Store, w Work, from int) error {
	bulk, _ := s.(stores.Bulk)
	const group = 10_000
	keys, values := make([][]byte, 0, group), make([][]byte, 0, group)
	for i := from; i < w.Ops; i++ {
		var buf [data.MaxKeyBytes]byte
		key := w.Shape.Key(&buf, i)
		if bulk == nil {
			if err := s.Put(key, w.Shape.Value(i)); err != nil {
				return err
			}
			continue
		}
		keys, values = append(keys, key), append(values, w.Shape.Value(i))
		if len(keys) == group || i == w.Ops-1 {
			if err := bulk.PutBulk(keys, values); err != nil {
				return err
			}
			keys, values = keys[:0], values[:0]
		}
	}
	return nil
}

// forcedGC is the shortest of several forced collections.
func forcedGC() Result {
	best := time.Hour
	for range 7 {
		began := time.Now()
		runtime.GC()
		best = min(best, time.Since(began))
	}
	return Result{Ops: 1, Elapsed: best}
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}
