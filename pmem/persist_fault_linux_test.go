//go:build !race && !smallmap && !purego && amd64

package pmem_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// TestPersistWritesEveryRangeBack: the simulator sees the ranges before they are put
// into vectors for the assembly. A write-back of a page that is gone faults, so one
// such range among many shows that its place in the vectors is reached. (The vectors are
// the same on arm64. There an emulator may take a write-back for nothing, which shows
// nothing.)
func TestPersistWritesEveryRangeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.DAX, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	for _, n := range []int{1, 4, 5, 32, 64, 65, 130} {
		for at := range n {
			ranges := slices.Repeat([]pmem.Range{{Offset: 64, Bytes: 8}}, n)
			ranges[at].Offset = 8192
			err := p.Guard(func() error { p.Persist(ranges...); return nil })
			require.ErrorIs(t, err, pmem.ErrCorrupt, "%d of %d", at, n)
		}
	}
	require.NoError(t, p.Close())
}
