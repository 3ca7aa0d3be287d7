package pmem_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// TestClosedPoolLeavesItsFileAlone: what comes late, as background work may, is refused,
// and the file, which may be another's by then, is as it was.
func TestClosedPoolLeavesItsFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	o := small()
	o.Geometry.LogBytes = 16 << 10
	o.Media = pmem.PageCache
	p, err := pmem.Open(path, o)
	require.NoError(t, err)
	require.NoError(t, p.BeginSession(0))
	p.GiveUpSweep()
	require.NoError(t, p.Close())
	require.NoError(t, p.Close(), "once more")
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	require.ErrorIs(t, p.Sync(), pmem.ErrClosed)
	require.ErrorIs(t, p.GrowLog(0, 8<<10), pmem.ErrClosed)
	p.DropLog(8 << 10) // says so to the logger
	_, err = p.Alloc(100_000, 0, pmem.Usual)
	require.ErrorIs(t, err, pmem.ErrClosed)
	require.False(t, p.WriterLive())
	require.False(t, p.Refresh())

	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, before, after)
}
