//go:build !race && !smallmap && !purego && (amd64 || arm64)

package pmem_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// TestPersistWritesEveryRangeBack: the simulator sees the ranges before they are put
// into vectors for the assembly. A write-back of a page that is gone faults, so one
// such range among many shows that its place in the vectors is reached.
func TestPersistWritesEveryRangeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.DAX, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	gone := p.Guard(func() error { p.PersistWord(8192); return nil }) // nil from an emulated write-back, which touches nothing
	for _, n := range []int{1, 4, 5, 32, 64, 65, 130} {
		for at := range n {
			ranges := slices.Repeat([]pmem.Range{{Offset: 64, Bytes: 8}}, n)
			ranges[at].Offset = 8192
			err := p.Guard(func() error { p.Persist(ranges...); return nil })
			require.Equal(t, gone != nil, errors.Is(err, pmem.ErrCorrupt), "%d of %d: %v", at, n, err)
		}
	}
	require.NoError(t, p.Close())
}
