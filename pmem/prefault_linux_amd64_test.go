package pmem

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestPrefaultedPagesTakeNoFaults: what is stored to prefaulted pages costs hardly a
// fault. (Not where the kernel's calls are emulated: hence amd64.)
func TestPrefaultedPagesTakeNoFaults(t *testing.T) {
	const pages, pageBytes = 1024, 4096
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(pages*pageBytes))
	mem, err := unix.Mmap(int(f.Fd()), 0, pages*pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer unix.Munmap(mem)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	faults := func() int64 {
		var u unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &u))
		return u.Minflt + u.Majflt
	}
	prefault(mem)
	before := faults()
	for at := 0; at < len(mem); at += pageBytes {
		mem[at] = 1
	}
	require.Less(t, faults()-before, int64(pages/8))
}
