package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
	require.NoError(t, run([]string{"-dir", t.TempDir(), "-max", "10000", "-rounds", "1", "-svg", svg}, &out))
	require.Equal(t, 2, strings.Count(out.String(), kindTable), out.String())
	require.Contains(t, out.String(), "with 10000 keys")
	require.NotContains(t, out.String(), "NaN")
	picture, err := os.ReadFile(svg)
	require.NoError(t, err)
	for _, want := range []string{"Opening", "Memory", "pmemtable, killed", "Go map, closed"} {
		require.Contains(t, string(picture), want)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-max", "10"}, {"-value", "-1"}, {"-rounds", "0"}, {"-nothing"}} {
		require.Error(t, run(args, io.Discard))
	}
}
