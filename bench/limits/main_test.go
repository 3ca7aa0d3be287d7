package main

import (
	"io"
	"strings"
	"testing"
)

func TestSmoke(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-n", "20000", "-dir", t.TempDir(), "-bound", "1h"}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"20000 entries of 8+8 bytes", "random gets", "check of the structure: 20000 entries", "opened again"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in %s", want, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-n", "0"}, {"-nothing"}} {
		if run(args, io.Discard) == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
