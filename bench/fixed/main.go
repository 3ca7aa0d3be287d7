// Fixed measures a table of fixed-size entries (table.Index: keys and values of eight
// bytes, inline in the bucket lines) beside the floor, the least that the memory takes
// for such accesses, in turn in the same run, on shared memory that passes for
// persistent memory. It prints Markdown and judges the goals.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"pmemtable/bench/floor"
	"pmemtable/bench/internal/clock"
	"pmemtable/bench/internal/report"
	"pmemtable/flush"
	"pmemtable/pmem"
	"pmemtable/table"
)

func main() {
	missed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fixed:", err)
		os.Exit(1)
	}
	if missed {
		os.Exit(2)
	}
}

type options struct {
	dir, profile         string
	entries, ops, rounds int
	byCPU, judge         bool
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("fixed", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "/dev/shm", "where the files go: shared memory")
	f.IntVar(&o.entries, "n", 10_000_000, "entries")
	f.IntVar(&o.ops, "ops", 2_000_000, "lookups and operations of the floor in a round")
	f.IntVar(&o.rounds, "rounds", 3, "rounds, each with a table of its own")
	f.BoolVar(&o.byCPU, "cpu", false, "take processor time for elapsed time: on a machine that does other things meanwhile")
	f.BoolVar(&o.judge, "judge", false, "exit with 2 when a goal is missed")
	f.StringVar(&o.profile, "profile", "", "write a CPU profile of the table's part to this file")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.entries < 1000 || o.ops < 1000 || o.rounds < 1 {
		return o, errors.New("at least 1000 entries and operations, and a round")
	}
	if !flush.Available() {
		return o, errors.New("this processor, or this build, has no instruction that writes lines back")
	}
	return o, nil
}

// The figures of the table.
const (
	insert     = "durable insert, growth included"
	hit        = "get hit"
	hitChained = "get hit, each key by the value before it"
	miss       = "get miss"
	many       = "GetMany(32) hit, a key"
	overwrite  = "durable overwrite"
	remove     = "durable delete"
	bytesEach  = "bytes of file an entry"
)

func run(args []string, out io.Writer) (missed bool, err error) {
	o, err := parse(args)
	if err != nil {
		return false, err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "pmemtable-fixed-"); err != nil {
		return false, err
	}
	defer os.RemoveAll(o.dir)
	fmt.Fprintf(out, "# A table of fixed-size entries beside the floor: %s entries of 8+8 bytes\n\n", report.Number(float64(o.entries)))
	fmt.Fprintf(out, "%s. Shared memory that passes for persistent memory (%s). %d rounds; nanoseconds an operation (%s), medians, and in parentheses (largest - smallest) / median; ratios are medians of the rounds' ratios.\n\n",
		report.Machine(), flush.Method(), o.rounds, map[bool]string{false: "elapsed time", true: "processor time"}[o.byCPU])
	samples := map[string]report.Sample{}
	note := func(what string, x float64) { samples[what] = append(samples[what], x) }
	f, err := floor.Open(o.dir, o.entries, goalBytes)
	if err != nil {
		return false, err
	}
	f.ByCPU = o.byCPU
	defer func() { err = errors.Join(err, f.Close()) }()
	stop, err := startProfile(o.profile)
	if err != nil {
		return false, err
	}
	defer stop()
	for round := range o.rounds {
		for what, x := range f.Measure(o.ops) {
			note(what, x)
		}
		if err := measure(o, filepath.Join(o.dir, fmt.Sprint(round)), note); err != nil {
			return false, err
		}
	}
	return print(o, samples, out), nil
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { pprof.StopCPUProfile(); _ = file.Close() }, nil
}

// key scatters the numbers of the entries; those from the top on are of none.
func key(i uint64) uint64 {
	i = (i ^ i>>31) * 0x9fb21c651e98df25
	return i ^ i>>28
}

// measure makes a table of its own and measures it.
func measure(o options, path string, note func(what string, x float64)) (err error) {
	x, err := table.OpenIndex(path, &table.Options{Media: pmem.DAX, MustCreate: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close(), os.Remove(path)) }()
	runtime.GC()
	n := uint64(o.entries)
	timed := func(what string, ops int, do func(i uint64) error) {
		watch := clock.Start()
		for i := range uint64(ops) {
			if e := do(i); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", what, e))
				break
			}
		}
		took, cpu := watch.Stop()
		if o.byCPU && cpu > 0 {
			took = cpu
		}
		note(what, float64(took.Nanoseconds())/float64(ops))
	}
	timed(insert, o.entries, func(i uint64) error { return x.Put(key(i), i) })
	note(bytesEach, float64(x.Stats().FileSizeBytes)/float64(n))
	random := uint64(1)
	pick := func() uint64 {
		random = random*6364136223846793005 + 1442695040888963407
		return (random >> 11) % n
	}
	timed(hit, o.ops, func(uint64) error {
		i := pick()
		value, ok, err := x.Get(key(i))
		return expect(ok && value == i, err)
	})
	at := uint64(0)
	timed(hitChained, o.ops, func(i uint64) error {
		value, ok, err := x.Get(key(at))
		at = (value*0xd1342543de82ef95>>7 + i) % n
		return expect(ok, err)
	})
	timed(miss, o.ops, func(uint64) error {
		_, ok, err := x.Get(key(pick() | 1<<63))
		return expect(!ok, err)
	})
	keys, values, found := make([]uint64, 32), make([]uint64, 32), make([]bool, 32)
	timed(many, o.ops, func(i uint64) error {
		if keys[i%32] = key(pick()); i%32 != 31 {
			return nil
		}
		return x.GetMany(keys, values, found)
	})
	timed(overwrite, o.ops, func(uint64) error { i := pick(); return x.Put(key(i), i) })
	timed(remove, min(o.ops, o.entries/2), func(i uint64) error { return x.Delete(key(i)) })
	return err
}

func expect(right bool, err error) error {
	if err == nil && !right {
		err = errors.New("the table gave a wrong answer")
	}
	return err
}

// The goals: ratios to the floor, and bytes.
const (
	goalInsert = 1.125
	goalHit    = 1.1
	goalBytes  = 26
)

func print(o options, samples map[string]report.Sample, out io.Writer) (missed bool) {
	figure := func(what string) string {
		s := samples[what]
		return fmt.Sprintf("%s (%.0f %%)", report.Number(s.Median()), 100*s.Spread())
	}
	t := report.Table{Head: []string{"floor", "ns"}}
	for _, what := range []string{floor.Line, floor.Cached, floor.Again} {
		t.Add(what, figure(what))
	}
	t.Print(out)
	t = report.Table{Head: []string{"table", "ns", "to the floor", "which"}}
	for _, row := range [][2]string{{insert, floor.Cached}, {overwrite, floor.Cached}, {remove, floor.Cached},
		{hit, floor.Line}, {hitChained, floor.Line}, {miss, floor.Line}, {many, floor.Line}} {
		t.Add(row[0], figure(row[0]), report.Times(report.Ratio(samples[row[0]], samples[row[1]])), row[1])
	}
	t.Add(bytesEach, figure(bytesEach), "-", "-")
	t.Print(out)
	size := samples[bytesEach].Median()
	goals := []report.Goal{
		report.AtMost("durable insert, to record and word persisted", report.Ratio(samples[insert], samples[floor.Cached]), goalInsert),
		report.AtMost("get hit, to one dependent read of memory of that size", report.Ratio(samples[hit], samples[floor.Line]), goalHit),
		{What: "bytes of file an entry", Want: fmt.Sprintf("<= %d", goalBytes), Got: report.Number(size), Known: true, Reached: size <= goalBytes},
	}
	return report.PrintGoals(out, goals) > 0 && o.judge
}
