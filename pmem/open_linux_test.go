package pmem_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"pmemtable/pmem"
)

// TestOddFiles: an open must not wait for the other end of a FIFO, read a device
// without end, or create through a link.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	fifo, dangling, circle := filepath.Join(dir, "fifo"), filepath.Join(dir, "dangling"), filepath.Join(dir, "circle")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "nothing"), dangling))
	require.NoError(t, os.Symlink(circle, circle))
	for _, path := range []string{fifo, "/dev/null", "/dev/zero", dangling, circle} {
		for _, readOnly := range []bool{false, true} {
			o := small()
			o.ReadOnly = readOnly
			_, err := pmem.Open(path, o)
			require.Error(t, err, path)
			require.ErrorContains(t, err, path)
			if path == fifo || path == "/dev/zero" {
				require.ErrorIs(t, err, pmem.ErrNotPool)
			}
		}
	}
	only(t, dir, "fifo", "dangling", "circle")

	// A link to a pool is as good as its name.
	path, link := filepath.Join(dir, "pool"), filepath.Join(dir, "link")
	p, err := pmem.Open(path, small())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, os.Symlink(path, link))
	p, err = pmem.Open(link, small())
	require.NoError(t, err)
	_, err = pmem.Open(path, small())
	require.ErrorIs(t, err, pmem.ErrLocked)
	require.NoError(t, p.Close())
}
