package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"pmemtable/bench/internal/workload"
)

func TestMain(m *testing.M) {
	workload.ServeIfChild() // the test's own executable serves the stores
	os.Exit(m.Run())
}

// TestSmoke runs all of it at a tiny size.
func TestSmoke(t *testing.T) {
	var out strings.Builder
	args := []string{"-dir", t.TempDir(), "-n", "500", "-rounds", "1", "-each", "20ms", "-snapshots", "10ms", "-writers", "1,64"}
	if _, err := run(args, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"| pmemtable Always |", "| bbolt |", "| pogreb |", "Always, 1 writer, to bbolt", "Interval(1s), 2 writers", "snapshots every second"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the report", want)
		}
	}
	if strings.Contains(out.String(), "NaN") {
		t.Error("a figure is not a number")
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-writers", "0"}, {"-key", "9"}, {"-parts", "x"}, {"-nothing"}} {
		if _, err := run(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
