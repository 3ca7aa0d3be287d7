//go:build !race

// The race detector allocates.

package table_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestIndexAllocations: lookups and writes allocate nothing.
func TestIndexAllocations(t *testing.T) {
	for _, media := range mediaHere() {
		x, err := table.OpenIndex(filepath.Join(t.TempDir(), "x.pmt"), &table.Options{Durability: table.OnSync, Media: media})
		require.NoError(t, err)
		keys, values, found := []uint64{1, 2, 1 << 40}, make([]uint64, 3), make([]bool, 3)
		n := uint64(0)
		for name, call := range map[string]func() error{
			"Get":            func() error { _, _, err := x.Get(n % 100); return err },
			"GetMany":        func() error { return x.GetMany(keys, values, found) },
			"Put":            func() error { n++; return x.Put(n%100, n) },
			"Delete":         func() error { n++; return x.Delete(n % 100) },
			"CompareAndSwap": func() error { _, err := x.CompareAndSwap(1, 2, 3); return err },
			"PutMany":        func() error { return x.PutMany(keys, values) },
		} {
			for range 300 {
				require.NoError(t, call())
			}
			require.Zero(t, testing.AllocsPerRun(1000, func() { _ = call() }), "%s on %v", name, media)
		}
		require.NoError(t, x.Close())
	}
}
