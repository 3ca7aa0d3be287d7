package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoenig/test/must"
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
	svg := filepath.Join(t.TempDir(), "keydirs.svg")
	must.NoError(t, run([]string{"-dir", t.TempDir(), "-max", "10000", "-rounds", "1", "-svg", svg}, &out))
	must.Eq(t, 2, strings.Count(out.String(), kindTable), must.Sprint(out.String()))
	must.StrContains(t, out.String(), "with 10000 keys")
	must.StrNotContains(t, out.String(), "NaN")
	picture, err := os.ReadFile(svg)
	must.NoError(t, err)
	for _, want := range []string{"Opening", "Memory", "pmemtable, killed", "Go map, closed"} {
		must.StrContains(t, string(picture), want)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-max", "10"}, {"-value", "-1"}, {"-rounds", "0"}, {"-nothing"}} {
		must.Error(t, run(args, io.Discard))
	}
}
