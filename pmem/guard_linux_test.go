package pmem_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// The failures looked for here: a page that is gone ends the process, or a panic
// that has nothing to do with the pool is swallowed.

func TestGrowthOfACutFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.Tmpfs, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	p.GiveUpSweep()
	require.NoError(t, os.Truncate(path, int64(p.SizeBytes())-4096))
	err = p.Guard(func() error {
		_, err := p.Alloc(200_000, 0, pmem.Usual)
		return err
	})
	require.ErrorIs(t, err, pmem.ErrCorrupt)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, int64(p.SizeBytes())-4096, st.Size(), "what was cut off was not made zeros")
	require.NoError(t, p.Close())
}

// TestLogOfACutFileIsNotWritten: a write would make the file longer again, with a
// hole where somebody else's data was.
func TestLogOfACutFileIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: smallGeometry, Media: pmem.PageCache, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, p.GrowLog(0, 4096))
	frames := bytes.Repeat([]byte("frame"), 100)
	require.NoError(t, p.AppendLog(3800, frames, 4096), "round the end of the ring")
	require.Equal(t, frames[:296], p.LogRing(4096)[3800:], "what is written is in the mapping")
	require.Equal(t, frames[296:], p.LogRing(4096)[:204])
	require.NoError(t, os.Truncate(path, 4096))
	require.ErrorIs(t, p.AppendLog(0, frames, 4096), pmem.ErrCorrupt)
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 4096, st.Size())
	require.NoError(t, p.Close())
}

func BenchmarkCaught(b *testing.B) {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 1<<20), small())
	require.NoError(b, err)
	for b.Loop() {
		_ = caught(p)
	}
}

//go:noinline
func caught(p *pmem.Pool) (err error) {
	defer p.Caught(debug.SetPanicOnFault(true), &err)
	return nil
}
