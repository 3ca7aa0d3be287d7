package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRun measures next to nothing, but all of it.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run(dir, 100, 10, 2, 2))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Error(t, run(dir, 0, 10, 2, 2))
	require.ErrorIs(t, run(dir+"/absent", 100, 10, 2, 2), os.ErrNotExist)
}
