package main

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pmemtable/bench/floor"
	"pmemtable/bench/internal/workload"
)

func TestMain(m *testing.M) {
	workload.FloorFunc = measureFloor()
	workload.ServeIfChild() // the test's own executable serves the stores
	os.Exit(m.Run())
}

// TestSmoke runs all of it at a tiny size.
func TestSmoke(t *testing.T) {
	var out strings.Builder
	plots := filepath.Join(t.TempDir(), "plots")
	args := []string{"-dir", t.TempDir(), "-n", "2000", "-ops", "1000", "-rounds", "1", "-limit", "20ms", "-plots", plots}
	if _, err := run(args, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"| get hit |", "YCSB C", "YCSB D", "there is no E", "YCSB F", "xsync", "bbolt", "two dependent reads", "after kill -9", "by half of the processors", floor.Replaced, "## Goals"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	if strings.Contains(out.String(), "NaN") {
		t.Error("a figure is not a number")
	}
	expectPlots(t, plots, "throughput-1.svg", "throughput-2.svg", "goroutines-get.svg", "floor.svg")
}

func expectPlots(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(text), "<svg") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGoroutines: each number of goroutines has its table and its plot, and goals of
// another number are not judged.
func TestGoroutines(t *testing.T) {
	var out strings.Builder
	plots := filepath.Join(t.TempDir(), "plots")
	args := []string{"-dir", t.TempDir(), "-n", "2000", "-ops", "1000", "-rounds", "1", "-goroutines", "5, 2,5", "-peers", "xsync", "-plots", plots}
	if _, err := run(args, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	one, rest, _ := strings.Cut(out.String(), "## 2 goroutines")
	two, five, found := strings.Cut(rest, "## 5 goroutines")
	if !found || strings.Count(five, "## 5 goroutines") != 0 {
		t.Fatalf("not one table of 2 goroutines and then one of 5:\n%s", out.String())
	}
	if !strings.Contains(one, "| "+load) || strings.Contains(one, "| "+hit) {
		t.Errorf("1 goroutine loads, and nothing else:\n%s", one)
	}
	for _, row := range workloads(options{goroutines: []int{1}}) {
		for _, table := range []string{two, five} {
			if strings.Count(table, "| "+row.name+" | ") != 1 {
				t.Errorf("%q is not in the table once:\n%s", row.name, table)
			}
		}
	}
	for goal, judged := range map[string]bool{
		"get hit, TrustMedia, xsync's time":                     false,
		"get hit, checked, 2 goroutines: own rate with 1":       false,
		"get hit, checked, 2 goroutines: xsync's time":          true,
		"put new, xsync's time":                                 true,
		"50R/50W Zipf, 2 goroutines: fastest persistent peer's": false,
	} {
		_, line, found := strings.Cut(out.String(), "| "+goal)
		line, _, _ = strings.Cut(line, "\n")
		if !found || strings.Contains(line, "not measured") == judged {
			t.Errorf("%s: judged should be %v: %s", goal, judged, line)
		}
	}
	expectPlots(t, plots, "throughput-2.svg", "throughput-5.svg", "goroutines-get.svg", "goroutines-put.svg", "goroutines-mix.svg")
}

// TestTurnsShareKeys: no run of YCSB D puts a key as new that another put, loaded or
// missed, and within a round no key is deleted twice.
func TestTurnsShareKeys(t *testing.T) {
	o, err := parse([]string{"-n", "10000", "-ops", "4000", "-goroutines", "1,2,8,64"})
	if err != nil {
		t.Fatal(err)
	}
	nextNew := 2 * o.entries
	for round := range 3 {
		deleted := 0
		for _, row := range workloads(o) {
			for i, goroutines := range o.goroutines {
				w := o.turn(row.w, round, i)
				if w.Goroutines != goroutines || w.Ops < goroutines {
					t.Errorf("%s: %+v", row.name, w)
				}
				switch w.Kind {
				case workload.Latest:
					if w.NewFrom < nextNew {
						t.Errorf("round %d, %d goroutines: new keys from %d, and %d was one already", round, goroutines, w.NewFrom, nextNew-1)
					}
					nextNew = w.NewFrom + w.Ops
				case workload.Delete:
					if w.Deleted != deleted || w.Seed != uint64(round+1) {
						t.Errorf("round %d, %d goroutines: %+v after %d deletes", round, goroutines, w, deleted)
					}
					deleted += w.Ops
				}
			}
		}
		if deleted == 0 || deleted > o.entries/2 {
			t.Errorf("%d of %d keys are deleted", deleted, o.entries)
		}
	}
}

// TestMarkingIsJudgedByTheGoroutine: those are half of the processors, and at least
// one.
func TestMarkingIsJudgedByTheGoroutine(t *testing.T) {
	for _, c := range []struct {
		processors, markers int
	}{{1, 1}, {2, 1}, {3, 1}, {8, 4}} {
		was := runtime.GOMAXPROCS(c.processors)
		if got := markers(); got != c.markers {
			t.Errorf("%d processors: %d goroutines mark, not %d", c.processors, got, c.markers)
		}
		runtime.GOMAXPROCS(was)
	}
	if g := markingGoal(19e6); !g.Known || g.Reached {
		t.Errorf("19 M: %+v", g)
	}
	if g := markingGoal(20e6); !g.Known || !g.Reached {
		t.Errorf("20 M: %+v", g)
	}
	if markingGoal(0).Known {
		t.Error("nothing marked is judged")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-key", "7"}, {"-n", "3"}, {"-value", "-1"}, {"-rounds", "0"}, {"-nothing"},
		{"-goroutines", ""}, {"-goroutines", "0"}, {"-goroutines", "1,x"}, {"-goroutines", "1,,2"}, {"-goroutines", "1001"},
		{"-goroutines", "64", "-ops", "2000"}, {"-goroutines", "64", "-n", "100"},
	} {
		if _, err := run(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
