package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"pmemtable/bench/internal/report"
	"pmemtable/bench/internal/stores"
	"pmemtable/bench/internal/workload"
)

// pass lets every contender write once, with the given number of writers. Slow
// ones may take so long for a write that each looks at the clock.
func pass(o options, all []*contender, writers, entries, round int, what string, slow bool) error {
	for i := range all {
		c := all[(i+round)%len(all)] // nobody always comes first
		w := workload.Work{
			Kind: workload.Over, N: entries, Shape: o.shape, Slow: slow,
			Ops: 1<<12 + int(3e6*o.each.Seconds()), Limit: o.each, Goroutines: writers, Seed: uint64(round*100 + writers),
		}
		if o.profile != "" && i == 0 && round == 0 && c.config.Name == "pmemtable" {
			w.Profile = filepath.Join(o.profile, fmt.Sprintf("%s-%d.pprof", c.config.Sync, writers))
		}
		r, err := c.child.Run(w)
		if err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
		put := float64(r.Ops * o.shape.Payload())
		c.add(what, r.Rate())
		c.add(what+" written", float64(r.WriteBytes)/put)
		c.add(what+" device", float64(r.DeviceBytes)/put)
		if n := r.Figures["checkpoints"] - c.commits; n > 0 {
			c.add(what+" shared", float64(r.Ops)/n)
			c.commits += n
		}
	}
	return nil
}

func writersOf(n int) string {
	if n == 1 {
		return "1 writer"
	}
	return fmt.Sprintf("%d writers", n)
}

// always is the part on writes that are durable when they return.
func always(o options, out io.Writer) (goals []report.Goal, err error) {
	most := o.writers[len(o.writers)-1]
	all, err := field(o, "always", o.entries, []stores.Config{
		{Name: "pmemtable", Sync: stores.Always},
		{Name: "pmemtable", Sync: stores.Always, SegmentBytes: 4096},
		{Name: "bbolt", Sync: stores.Always},
		{Name: "bbolt Batch", Sync: stores.Always, Writers: most},
		{Name: "Pebble", Sync: stores.Always},
		{Name: "Badger", Sync: stores.Always},
		{Name: "pogreb", Sync: stores.Always},
		{Name: "LMDB", Sync: stores.Always},
		{Name: "raw page", Sync: stores.Always},
	})
	defer func() { err = errors.Join(err, retire(all)) }()
	if err != nil {
		return nil, err
	}
	for round := range o.rounds {
		for _, writers := range o.writers {
			if err := setBatch(all, writers); err != nil {
				return nil, err
			}
			if err := pass(o, all, writers, o.entries, round, writersOf(writers), true); err != nil {
				return nil, err
			}
		}
	}
	var columns []string
	for _, n := range o.writers {
		columns = append(columns, writersOf(n))
	}
	fmt.Fprintf(out, "## Durable when the call returns: puts a second\n\n")
	printRates(out, all, columns)
	fmt.Fprintf(out, "\"raw page\" is no store: one page of a file is written and synced by one call (pwritev2 with RWF_DSYNC), one writer at a time. Its ratio to bbolt is the most that a store can reach which writes one page for a put.\n\n")
	fmt.Fprintf(out, "## Bytes written for each byte put (keys and values), durable when the call returns\n\n")
	printAmplification(out, all, columns)
	self := find(all, "pmemtable Always")
	var shared []string
	for _, what := range columns {
		shared = append(shared, report.Number(self.samples[what+" shared"].Median())+" with "+what)
	}
	fmt.Fprintf(out, "Puts that share a commit of pmemtable: %s.\n\n", strings.Join(shared, ", "))
	for _, n := range o.writers {
		what := writersOf(n)
		switch n {
		case 1:
			goals = append(goals, against(self, find(all, "bbolt"), what, "Always, 1 writer, to bbolt", 4))
		case 64:
			goals = append(goals, against(self, find(all, "Pebble"), what, "Always, 64 writers, to Pebble (Sync)", 1.2))
		}
	}
	return goals, nil
}

// setBatch tells bbolt's Batch how many will join.
func setBatch(all []*contender, writers int) error {
	for _, c := range all {
		if c.config.Name != "bbolt Batch" || c.config.Writers == writers {
			continue
		}
		c.config.Writers = writers
		if err := c.child.Open(c.config); err != nil {
			return err
		}
	}
	return nil
}

// noSync is the part on writes that need not be durable yet.
func noSync(o options, out io.Writer) (goals []report.Goal, err error) {
	all, err := field(o, "nosync", o.entries, []stores.Config{
		{Name: "pmemtable", Sync: stores.Interval},
		{Name: "pmemtable", Sync: stores.Never},
		{Name: "bbolt", Sync: stores.Never},
		{Name: "Pebble", Sync: stores.Never},
		{Name: "Badger", Sync: stores.Never},
		{Name: "pogreb", Sync: stores.Never},
		{Name: "LMDB", Sync: stores.Never},
	})
	defer func() { err = errors.Join(err, retire(all)) }()
	if err != nil {
		return nil, err
	}
	// Long enough that Interval's commits fall into it.
	o.each = max(o.each, min(3*o.each, 3*time.Second))
	columns := []string{writersOf(1), writersOf(2)}
	for round := range o.rounds {
		for i, what := range columns {
			if err := pass(o, all, i+1, o.entries, round, what, false); err != nil {
				return nil, err
			}
		}
	}
	fmt.Fprintf(out, "## Durable within a second, beside no sync at all: puts a second\n\n")
	printRates(out, all, columns)
	printAmplification(out, all, columns)
	self := find(all, "pmemtable Interval(1s)")
	for _, what := range columns {
		var best *contender
		for _, c := range all {
			if c.config.Name != "pmemtable" && (best == nil || c.samples[what].Median() > best.samples[what].Median()) {
				best = c
			}
		}
		goals = append(goals, against(self, best, what, "Interval(1s), "+what+", to the fastest peer without sync ("+best.label+")", 3))
	}
	return goals, nil
}

// snapshots is the part on what a snapshot a second costs. The two runs of a round
// are on the same table.
func snapshots(o options, out io.Writer) (goals []report.Goal, err error) {
	entries := o.entries * 10
	all, err := field(o, "snapshots", entries, []stores.Config{
		{Name: "pmemtable", Sync: stores.Never},
		{Name: "pmemtable", Sync: stores.Interval},
	})
	defer func() { err = errors.Join(err, retire(all)) }()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "## A snapshot every %v (the one before it is closed), %d entries: puts a second\n\n", o.every, entries)
	t := report.Table{Head: []string{"", "without", "with", "lost", "snapshots in all"}}
	for _, c := range all {
		for _, writers := range []int{1, 2} {
			made, err := snapshotRounds(o, c, writers, entries)
			if err != nil {
				return nil, err
			}
			what := writersOf(writers)
			with, without := c.samples[what+" with"], c.samples[what+" without"]
			lost := 1 - report.Ratio(with, without)
			t.Add(c.label+", "+what, rate(without), rate(with), fmt.Sprintf("%.0f %%", lost*100), fmt.Sprint(made))
			goals = append(goals, report.Goal{
				What: "snapshots every second, " + c.label + ", " + what, Want: "< 25 % lost",
				Got: fmt.Sprintf("%.0f %%", lost*100), Known: made > 0, Reached: lost < 0.25,
			})
		}
	}
	t.Print(out)
	return goals, nil
}

func snapshotRounds(o options, c *contender, writers, entries int) (made int, err error) {
	for round := range 2 * o.rounds {
		w := workload.Work{
			Kind: workload.Over, N: entries, Shape: o.shape, Ops: 1<<12 + int(9e6*o.each.Seconds()), Limit: 3 * o.each,
			Goroutines: writers, Seed: uint64(round + 1),
		}
		what := writersOf(writers) + " without"
		if (round+round/2)%2 == 1 { // A B, B A, A B, ...
			what = writersOf(writers) + " with"
			w.SnapshotEvery = o.every
		}
		r, err := c.child.Run(w)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", c.label, err)
		}
		made += r.Snapshots
		c.add(what, r.Rate())
	}
	return made, nil
}

func find(all []*contender, label string) *contender {
	for _, c := range all {
		if c.label == label {
			return c
		}
	}
	return nil
}

// against judges self's rate as a multiple of a peer's.
func against(self, peer *contender, what, text string, want float64) report.Goal {
	if peer == nil {
		return report.AtLeast(text, 0, want)
	}
	return report.AtLeast(text, report.Ratio(self.samples[what], peer.samples[what]), want)
}

func rate(s report.Sample) string {
	return fmt.Sprintf("%s (%.0f %%)", report.Number(s.Median()), s.Spread()*100)
}

// printRates prints the rates, and how many times a peer's pmemtable's first is.
func printRates(out io.Writer, all []*contender, columns []string) {
	t := report.Table{Head: append([]string{""}, columns...)}
	self := all[0]
	for _, c := range all {
		row := []string{c.label}
		for _, what := range columns {
			cell := rate(c.samples[what])
			if c != self {
				cell += fmt.Sprintf(", 1 : %.2f", report.Ratio(self.samples[what], c.samples[what]))
			}
			row = append(row, cell)
		}
		t.Add(row...)
	}
	t.Print(out)
	fmt.Fprintf(out, "1 : x says that %s is x times as fast, by the median of the rounds' ratios.\n\n", self.label)
}

// printAmplification prints bytes written for each byte put.
func printAmplification(out io.Writer, all []*contender, columns []string) {
	t := report.Table{Head: append([]string{"written by the process / by the device"}, columns...)}
	for _, c := range all {
		row := []string{c.label}
		for _, what := range columns {
			row = append(row, report.Number(c.samples[what+" written"].Median())+" / "+report.Number(c.samples[what+" device"].Median()))
		}
		t.Add(row...)
	}
	t.Print(out)
	fmt.Fprintf(out, "By the process: write_bytes of /proc/self/io, pages that it dirtied in the page cache, each again after it was written. By the device: sectors that the block device of the directory wrote in that time, the file system's journal included, and what else the machine wrote there.\n\n")
}
