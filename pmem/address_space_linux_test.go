package pmem_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"pmemtable/pmem"
)

// TestAddressSpaceOfClosedPools: a mapping goes with the collector, which a
// program that only opens and closes does not run. The room that is left must
// not run out meanwhile.
func TestAddressSpaceOfClosedPools(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	path := filepath.Join(t.TempDir(), "pool")
	s := newFaulty()
	s.mapFile = func(f *os.File, n int64, readOnly, daxOnly bool) ([]byte, error) {
		maps, err := os.ReadFile("/proc/self/maps")
		if err == nil && bytes.Count(maps, []byte(path+"\n")) >= 20 {
			err = unix.ENOMEM
		}
		if err != nil {
			return nil, err
		}
		return real().Map(f, n, readOnly, daxOnly)
	}
	o := small()
	o.System = s
	for range 100 {
		var p *pmem.Pool
		// A cleanup of the cycle before may still be running.
		require.Eventually(t, func() (opened bool) {
			var err error
			p, err = pmem.Open(path, o)
			return err == nil
		}, time.Minute, time.Millisecond)
		require.NoError(t, p.Close())
	}
}

// TestLimitedAddressSpace: where the default is refused for good, half of it
// and so on is tried; a size that the caller asked for is not.
func TestLimitedAddressSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	s := newFaulty()
	s.mapFile = func(f *os.File, n int64, readOnly, daxOnly bool) ([]byte, error) {
		if n > 4<<30 {
			return nil, unix.ENOMEM
		}
		return real().Map(f, n, readOnly, daxOnly)
	}
	o := small()
	o.System, o.MaxSizeBytes = s, 0
	p, err := pmem.Open(path, o)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	o.MaxSizeBytes = 8 << 30
	_, err = pmem.Open(path, o)
	require.ErrorIs(t, err, unix.ENOMEM)
	require.ErrorContains(t, err, "8589934592 bytes of address space")
}
