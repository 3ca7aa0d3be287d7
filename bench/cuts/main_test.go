package main

import (
	"io"
	"strings"
	"testing"
)

// TestSmoke runs all of it at a tiny size.
func TestSmoke(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-dir", t.TempDir(), "-n", "500", "-for", "20ms", "-writers", "2"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(line, "| for a ") && (strings.Contains(line, "| 0 |") || strings.Contains(line, "| - |")) {
			t.Errorf("nothing was measured: %s", line)
		}
	}
	for _, want := range []string{"500 entries", "| for a snapshot |", "| for a commit |", "| as many locks that nobody wants |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the report:\n%s", want, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-writers", "0"}, {"-n", "0"}, {"-nothing"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
