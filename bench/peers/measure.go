package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"pmemtable/bench/internal/report"
	"pmemtable/bench/internal/workload"
)

// run of the program: who took part, and what the floor is.
type results struct {
	o         options
	all       []*contender
	floorWork *workload.Child
	floor     map[string]report.Sample
	hiccups   *workload.Latency // of the load with latencies
}

// row is one of the tables' rows: a workload by its name.
type row struct {
	name       string
	w          workload.Work
	tablesOnly bool
}

// Names of rows.
const (
	load  = "load: put new, growth included"
	over  = "put over"
	hit   = "get hit"
	miss  = "get miss"
	gone  = "delete"
	group = 32
)

// workloads are the rows but the load, in the order in which they run: what adds and
// deletes entries comes last. YCSB E has none: it scans ranges of keys, and a hash
// table keeps them in no order.
func workloads(o options) []row {
	const theta = 0.99
	mix := func(name string, kind workload.Kind, reads int, zipf float64) row {
		return row{name: name, w: workload.Work{Kind: kind, ReadPercent: reads, Zipf: zipf}}
	}
	rows := []row{
		{name: over, w: workload.Work{Kind: workload.Over}},
		{name: hit, w: workload.Work{Kind: workload.Hit}},
		{name: miss, w: workload.Work{Kind: workload.Miss}},
		mix("95R/5W uniform", workload.Mix, 95, 0),
		mix("95R/5W Zipf (YCSB B)", workload.Mix, 95, theta),
		mix("50R/50W uniform", workload.Mix, 50, 0),
		mix(half, workload.Mix, 50, theta),
		mix("100R Zipf (YCSB C)", workload.Mix, 100, theta),
		mix("50R/50RMW Zipf (YCSB F)", workload.Modify, 50, theta),
		{name: getMany, w: workload.Work{Kind: workload.GetMany, Group: group}, tablesOnly: true},
		{name: putMany, w: workload.Work{Kind: workload.PutMany, Group: group}, tablesOnly: true},
		mix("95R/5 new, latest (YCSB D)", workload.Latest, 95, theta),
		{name: gone, w: workload.Work{Kind: workload.Delete}},
	}
	for i := range rows {
		w := &rows[i].w
		w.N, w.Shape, w.Ops, w.Limit = o.entries, o.shape, o.ops, o.limit
		if w.Kind == workload.Delete {
			w.Ops = o.deletes()
		}
	}
	return rows
}

// turn is a row's workload in a round by the i-th number of goroutines: with new keys
// that nobody put before, and keys to delete that nobody deleted.
func (o options) turn(w workload.Work, round, i int) workload.Work {
	w.Goroutines, w.Seed = o.goroutines[i], uint64(round+1)
	w.NewFrom = 2*w.N + (round*len(o.goroutines)+i)*w.Ops
	w.Deleted = i * w.Ops
	return w
}

const (
	half    = "50R/50W Zipf (YCSB A)"
	getMany = "GetMany(32), a key"
	putMany = "PutMany(32) over, a key"
)

// cell names a workload by its goroutines.
func cell(name string, goroutines int) string { return fmt.Sprintf("%s, %d", name, goroutines) }

// measure runs all rounds.
func measure(o options) (*results, error) {
	r := &results{o: o, all: contenders(o), floor: map[string]report.Sample{}}
	var err error
	if r.floorWork, err = workload.Start(); err != nil {
		return r, err
	}
	for round := range o.rounds {
		if err := r.round(round); err != nil {
			return r, err
		}
	}
	return r, nil
}

// round loads every store anew and lets it do all workloads. The persistent peers
// are loaded once, and so delete in the last round only.
func (r *results) round(round int) error {
	if err := r.measureFloor(); err != nil {
		return err
	}
	w := workload.Work{Kind: workload.Load, N: r.o.entries, Ops: r.o.entries, Shape: r.o.shape}
	for _, c := range r.inTurn(round) {
		if c.persistentPeer() && round > 0 {
			continue
		}
		if err := c.fresh(); err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
		w.Limit = 0
		if c.persistentPeer() {
			w.Limit = r.o.limit
		}
		if err := r.one(c, load, w, round); err != nil {
			return err
		}
	}
	for _, row := range workloads(r.o) {
		for i := range r.o.goroutines {
			w := r.o.turn(row.w, round, i)
			for _, c := range r.inTurn(round) {
				if row.tablesOnly && c.config.Name != "pmemtable" || c.persistentPeer() && w.Kind == workload.Delete && round < r.o.rounds-1 {
					continue
				}
				if err := r.one(c, row.name, w, round); err != nil {
					return err
				}
			}
		}
	}
	return r.measureFloor()
}

// inTurn rotates the order, so that nobody always comes after the same.
func (r *results) inTurn(round int) []*contender {
	n := round % len(r.all)
	return append(append([]*contender(nil), r.all[n:]...), r.all[:n]...)
}

// one runs one workload on one store.
func (r *results) one(c *contender, name string, w workload.Work, round int) error {
	w.Goroutines = max(1, w.Goroutines)
	if r.o.profile != "" && round == 0 && c.config.Name == "pmemtable" {
		file := strings.NewReplacer(" ", "", ",", "", ":", "", "/", "", "(", "", ")", "").Replace(fmt.Sprintf("%s-%s-%d", c.label, name, w.Goroutines))
		w.Profile = filepath.Join(r.o.profile, file+".pprof")
	}
	res, err := c.child.Run(w)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.label, name, err)
	}
	at := cell(name, w.Goroutines)
	ns := res.NsPerOp()
	if r.o.byCPU && res.CPU > 0 {
		ns = float64(res.CPU.Nanoseconds()) / float64(res.Ops*w.Goroutines)
	}
	c.samples[at] = append(c.samples[at], ns)
	return nil
}

// measureFloor measures the floor once more: at both ends of each round.
func (r *results) measureFloor() error {
	got, err := r.floorWork.Floor(workload.FloorWork{Dir: r.o.dir, Entries: r.o.entries, Ops: r.o.ops, ByCPU: r.o.byCPU})
	for name, ns := range got {
		r.floor[name] = append(r.floor[name], ns)
	}
	return err
}

func (r *results) stop() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.floorWork != nil {
		errs = append(errs, r.floorWork.Stop())
	}
	for _, c := range r.all {
		if c.child != nil {
			errs = append(errs, c.child.Stop())
		}
	}
	return errors.Join(errs...)
}

func (r *results) find(label string) *contender {
	for _, c := range r.all {
		if c.label == label {
			return c
		}
	}
	return nil
}
