package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCountsItsRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visits.pmt")
	for want := uint64(1); want <= 3; want++ {
		n, err := count(path)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}
