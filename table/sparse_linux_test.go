package table_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// TestSparseFileTakesLittleMemory: a file of any size costs nothing to make, so that
// what an open takes must follow from what it holds.
func TestSparseFileTakesLittleMemory(t *testing.T) {
	const chunkBytes = 4096
	sizeBytes := int64(32 << 30)
	if emulated() { // an emulator may keep bytes for each page of a mapping
		sizeBytes = 1 << 30
	}
	limit := sizeBytes/chunkBytes/20 + 4<<20 // a twentieth of a byte for each chunk
	for _, closed := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "sparse.pmt")
		open := func() *table.Table {
			p, err := pmem.Open(path, pmem.Options{Geometry: withLog(2, -1), Media: pmem.Tmpfs, MaxSizeBytes: 1 << 20})
			require.NoError(t, err)
			tab, err := table.OpenPool(p, nil)
			require.NoError(t, err)
			return tab
		}
		tab := open()
		require.NoError(t, tab.Put(key(1), []byte("there")))
		if closed {
			require.NoError(t, tab.Close())
		} else {
			kill(tab)
		}
		require.NoError(t, os.Truncate(path, sizeBytes))

		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tab = open()
		<-tab.Pool().Swept()
		require.NoError(t, tab.Put(key(2), value(2, 3*chunkBytes))) // a run
		checked(t, tab)
		require.Equal(t, sizeBytes, tab.Stats().FileSizeBytes)
		require.Len(t, contents(t, tab), 2)
		require.NoError(t, tab.Close())
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(limit))
		require.NoError(t, os.Remove(path))
	}
}
