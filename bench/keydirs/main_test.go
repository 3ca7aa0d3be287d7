package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if serveIfChild() { // the test's own executable is the child
		return
	}
	os.Exit(m.Run())
}

// TestSmoke runs all of it at a small size.
func TestSmoke(t *testing.T) {
	var out strings.Builder
	plots := t.TempDir()
	if err := run([]string{"-dir", t.TempDir(), "-max", "10000", "-rounds", "1", "-plots", plots}, &out); err != nil {
		t.Fatal(err)
	}
	if strings.Count(out.String(), kindTable) != 2 || !strings.Contains(out.String(), "with 10000 keys") || strings.Contains(out.String(), "NaN") {
		t.Error(out.String())
	}
	for name, words := range map[string][]string{
		"keydirs-open.svg": {"<svg", "Opening", "pmemtable, killed", "Go map, closed", ">10000<"},
		"keydirs-heap.svg": {"<svg", "Memory", "pmemtable", "Go map"},
	} {
		picture, err := os.ReadFile(filepath.Join(plots, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if !strings.Contains(string(picture), word) {
				t.Errorf("%s: no %q", name, word)
			}
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-max", "10"}, {"-value", "-1"}, {"-rounds", "0"}, {"-nothing"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
