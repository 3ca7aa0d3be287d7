package main

import (
	"fmt"
	"io"

	"pmemtable/bench/floor"
	"pmemtable/bench/internal/report"
)

func nanoseconds(s report.Sample) string {
	if len(s) == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%.0f %%)", report.Number(s.Median()), s.Spread()*100)
}

// printThroughput prints each workload, and how many times pmemtable's time a
// peer's is, a table for each number of goroutines.
func (r *results) printThroughput(out io.Writer) {
	counts := r.o.goroutines
	if counts[0] != 1 {
		counts = append([]int{1}, counts...) // the load's
	}
	for _, goroutines := range counts {
		fmt.Fprintf(out, "## %s: ns an operation; x says how many times pmemtable's time that is\n\n", counted(goroutines))
		t := report.Table{Head: []string{""}}
		for _, c := range r.all {
			t.Head = append(t.Head, c.label)
		}
		for _, row := range append([]row{{name: load}}, workloads(r.o)...) {
			if at := cell(row.name, goroutines); len(r.find(checked).samples[at]) > 0 {
				t.Add(append([]string{row.name}, r.throughputCells(at)...)...)
			}
		}
		t.Print(out)
	}
}

func counted(goroutines int) string {
	if goroutines == 1 {
		return "1 goroutine"
	}
	return fmt.Sprintf("%d goroutines", goroutines)
}

func (r *results) throughputCells(at string) (cells []string) {
	self := r.find(checked)
	for _, c := range r.all {
		text := nanoseconds(c.samples[at])
		if c != self && len(c.samples[at]) > 0 {
			text += ", " + report.Times(report.Ratio(c.samples[at], self.samples[at]))
		}
		cells = append(cells, text)
	}
	return cells
}

// reference is the figure of the floor that a workload is held against.
func (r *results) reference(name string) string {
	switch name {
	case hit, getMany:
		return floor.LineRecord
	case miss:
		return floor.Line
	case load, over, putMany:
		if s := r.floor[floor.Streamed]; len(s) > 0 && s.Median() < r.floor[floor.Cached].Median() {
			return floor.Streamed
		}
		return floor.Cached
	}
	return ""
}

// references are the figures of the floor that a workload is held against: first the
// one that decides.
func (r *results) references(name string) []string {
	switch first := r.reference(name); {
	case first == "":
		return nil
	case name == over:
		return []string{first, floor.Replaced}
	default:
		return []string{first}
	}
}

// ratioToFloor compares with the figure that decides.
func (r *results) ratioToFloor(c *contender, name string) float64 {
	return r.ratioTo(c, name, r.reference(name))
}

// ratioTo compares with a figure of the floor around the same rounds: it is measured
// at both ends of each.
func (r *results) ratioTo(c *contender, name, figure string) float64 {
	ends := r.floor[figure]
	var around report.Sample
	for i := 0; i+1 < len(ends); i += 2 {
		around = append(around, (ends[i]+ends[i+1])/2)
	}
	return report.Ratio(c.samples[cell(name, 1)], around)
}

func (r *results) printFloor(out io.Writer) {
	fmt.Fprintf(out, "## The floor, on a mapping of the table's size\n\n")
	t := report.Table{Head: []string{"", "ns"}}
	for _, name := range floor.Names {
		if len(r.floor[name]) > 0 {
			t.Add(name, nanoseconds(r.floor[name]))
		}
	}
	t.Print(out)
	t = report.Table{Head: []string{"1 goroutine, ratio to the floor", "held against", checked, trusted}}
	for _, row := range append([]row{{name: load}}, workloads(r.o)...) {
		for _, against := range r.references(row.name) {
			if len(r.find(checked).samples[cell(row.name, 1)]) == 0 {
				continue
			}
			t.Add(row.name, against, report.Times(r.ratioTo(r.find(checked), row.name, against)), report.Times(r.ratioTo(r.find(trusted), row.name, against)))
		}
	}
	t.Print(out)
}

// times is how many times self's time the peer's is, 0 if it did not take part.
func (r *results) times(peer, self, at string) float64 {
	p, s := r.find(peer), r.find(self)
	if p == nil || s == nil {
		return 0
	}
	return report.Ratio(p.samples[at], s.samples[at])
}

// fastestPersistent is the persistent peer with the least time.
func (r *results) fastestPersistent(at string) string {
	best := ""
	for _, c := range r.all {
		if c.persistentPeer() && len(c.samples[at]) > 0 && (best == "" || c.samples[at].Median() < r.find(best).samples[at].Median()) {
			best = c.label
		}
	}
	return best
}

// throughputGoals are those that the workloads decide. Those of a number of goroutines
// that was not measured are not judged.
func (r *results) throughputGoals() []report.Goal {
	one, two := func(name string) string { return cell(name, 1) }, func(name string) string { return cell(name, 2) }
	self, trust := r.find(checked), r.find(trusted)
	within := func(c *contender, a, b string) float64 { return report.Ratio(c.samples[a], c.samples[b]) }
	goals := []report.Goal{
		report.AtMost("get hit, TrustMedia, to the floor (two dependent reads)", r.ratioToFloor(trust, hit), 1.1),
		report.AtLeast("get hit, TrustMedia, xsync's time", r.times("xsync", trusted, one(hit)), 3),
		report.AtLeast("get hit, TrustMedia, sync.Map's time", r.times("sync.Map", trusted, one(hit)), 5),
		report.AtMost("get hit, checked, to TrustMedia", r.times(checked, trusted, one(hit)), 1.15),
		report.AtLeast("get hit, checked, xsync's time", r.times("xsync", checked, one(hit)), 2.2),
		report.AtLeast("get hit, TrustMedia, 2 goroutines: own rate with 1", within(trust, one(hit), two(hit)), 1.9),
		report.AtLeast("get hit, checked, 2 goroutines: own rate with 1", within(self, one(hit), two(hit)), 1.9),
		report.AtLeast("get hit, TrustMedia, 2 goroutines: xsync's time", r.times("xsync", trusted, two(hit)), 3),
		report.AtLeast("get hit, checked, 2 goroutines: xsync's time", r.times("xsync", checked, two(hit)), 2.2),
		report.AtMost("get miss, to the floor (one dependent read)", r.ratioToFloor(self, miss), 1.1),
		report.AtLeast("get miss, xsync's time", r.times("xsync", checked, one(miss)), 2),
		report.AtMost("put new, growth included, to the better floor", r.ratioToFloor(self, load), 1.3),
		report.AtLeast("put new, xsync's time", r.times("xsync", checked, one(load)), 1.5),
		report.AtMost("put over, to the better floor", r.ratioToFloor(self, over), 1.3),
		report.AtLeast("put over, xsync's time", r.times("xsync", checked, one(over)), 1.5),
		report.AtMost("GetMany(32), a key, to Get", within(self, one(getMany), one(hit)), 0.4),
		report.AtMost("PutMany(32), a key, to Put over", within(self, one(putMany), one(over)), 0.6),
		report.AtLeast("50R/50W Zipf, 2 goroutines: sync.Map's time", r.times("sync.Map", checked, two(half)), 3),
		report.AtLeast("50R/50W Zipf, 2 goroutines: xsync's time", r.times("xsync", checked, two(half)), 2),
	}
	best := r.fastestPersistent(two(half))
	what := "50R/50W Zipf, 2 goroutines: fastest persistent peer's time"
	if best != "" {
		what += " (" + best + ")"
	}
	return append(goals, report.AtLeast(what, r.times(best, checked, two(half)), 5))
}
