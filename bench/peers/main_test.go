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
	for _, want := range []string{"| get hit |", "xsync", "bbolt", "two dependent reads", "after kill -9", "by half of the processors", floor.Replaced, "## Goals"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	if strings.Contains(out.String(), "NaN") {
		t.Error("a figure is not a number")
	}
	for _, name := range []string{"throughput-1.svg", "throughput-2.svg", "floor.svg"} {
		if text, err := os.ReadFile(filepath.Join(plots, name)); err != nil || !strings.Contains(string(text), "<svg") {
			t.Errorf("%s: %v", name, err)
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
	for _, args := range [][]string{{"-key", "7"}, {"-n", "3"}, {"-nothing"}} {
		if _, err := run(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
