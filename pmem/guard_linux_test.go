package pmem_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/flush"
	"pmemtable/internal/race"
	"pmemtable/pmem"
)

// The failures looked for here: a page that is gone ends the process, or a panic
// that has nothing to do with the pool is swallowed.

func TestGuardMakesAnErrorOfAFault(t *testing.T) {
	if os.Getenv("PMEMTABLE_TEST_EXEC") != "" {
		t.Skip("an emulator tells no address of a bus error")
	}
	if race.Enabled {
		t.Skip("the race detector faults on a stack of its own")
	}
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.PageCache, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	for _, touch := range []func(){func() { p.Load(8192) }, func() { p.Store(8192, 1) }} {
		err = p.Guard(func() error { touch(); return nil })
		var ce *pmem.CorruptError
		require.ErrorAs(t, err, &ce)
		require.Equal(t, path, ce.Path)
		require.EqualValues(t, 8192, ce.Offset)
	}
	mine := errors.New("mine")
	require.Equal(t, mine, p.Guard(func() error { return mine }))
	require.PanicsWithError(t, "mine", func() { _ = p.Guard(func() error { panic(mine) }) })
	before := debug.SetPanicOnFault(false)
	require.False(t, before, "it is as it was before the Guard")
	require.Error(t, p.Sync(), "a sync of a file that was cut off does not pass")
	require.NoError(t, p.Close())
}

// TestPersistWritesEveryRangeBack: the simulator sees the ranges before they are put
// into vectors for the assembly. A write-back of a page that is gone faults, so one
// such range among many shows that its place in the vectors is reached.
func TestPersistWritesEveryRangeBack(t *testing.T) {
	if os.Getenv("PMEMTABLE_TEST_EXEC") != "" || !flush.Available() {
		t.Skip("no write-back whose fault has an address")
	}
	path := filepath.Join(t.TempDir(), "p")
	p, err := pmem.Open(path, pmem.Options{Geometry: small().Geometry, Media: pmem.DAX, MaxSizeBytes: 1 << 20})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 4096))
	if p.Guard(func() error { p.PersistWord(8192); return nil }) == nil {
		t.Skip("an emulated write-back, which touches nothing")
	}
	for _, n := range []int{1, 4, 5, 32, 64, 65, 130} {
		for gone := range n {
			ranges := slices.Repeat([]pmem.Range{{Offset: 64, Bytes: 8}}, n)
			ranges[gone].Offset = 8192
			require.ErrorIs(t, p.Guard(func() error { p.Persist(ranges...); return nil }), pmem.ErrCorrupt, "%d of %d", gone, n)
		}
	}
	require.NoError(t, p.Close())
}

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
