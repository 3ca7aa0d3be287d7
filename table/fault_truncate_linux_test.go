//go:build !race && !smallmap

// No error can be made of a fault here by an emulator in user mode, which passes a bus
// error on without its address: nobody can tell whose memory it was. Nor under the race
// detector, which makes atomic accesses in C code on another stack, from which the
// runtime unwinds by luck: one time in some dozens it ends the process.

package table_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: somebody cuts a file off, or writes over it, under
// an open table, and the process dies, hangs or answers wrongly.

// cutter cuts a file off between two growths of it, and lets no growth follow: one
// that had looked at the file's size before the cut would make zeros of what is gone.
type cutter struct {
	pmem.System
	mu  sync.Mutex
	cut bool
}

func (c *cutter) Allocate(f *os.File, from, to int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return os.NewSyscallError("fallocate", noSpace)
	}
	return c.System.Allocate(f, from, to)
}

func (c *cutter) truncate(path string, left int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	return os.Truncate(path, left)
}

// cutTable is an open table in a file of its own, with something in it.
func cutTable(t *testing.T, media pmem.Media, durability table.Durability) (*table.Table, string, *cutter) {
	path, system := filepath.Join(t.TempDir(), "t.pmt"), &cutter{System: pmem.RealSystem()}
	p, err := pmem.Open(path, pmem.Options{Media: media, Geometry: tiny(2), System: system, MaxSizeBytes: 8 << 20})
	require.NoError(t, err)
	tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 100 {
		require.NoError(t, tab.Put(key(i), value(i, 100)))
	}
	if durability == table.OnSync {
		return tab, path, system
	}
	require.NoError(t, tab.Close())
	p, err = pmem.Open(path, pmem.Options{Media: media, System: system, MaxSizeBytes: 8 << 20})
	require.NoError(t, err)
	tab, err = table.OpenPool(p, &table.Options{Durability: durability})
	require.NoError(t, err)
	return tab, path, system
}

// everyCallOn makes every call of a table and of a snapshot of it, and returns the
// errors.
func everyCallOn(tab *table.Table, snap *table.Snapshot) map[string]error {
	errs := everyCall(tab)
	errs["Sync"] = tab.Sync()
	errs["PutMany"] = tab.PutMany([][]byte{key(1), key(2), key(300)}, [][]byte{nil, nil, nil})
	b := table.NewBatch()
	b.Put(key(3), []byte("batch"))
	b.Delete(key(4))
	errs["Apply"] = tab.Apply(b)
	errs["Backup"] = tab.Backup(discard{})
	errs["Compact"] = tab.Compact()
	errs["Clear"] = tab.Clear()
	_, errs["Metadata"] = tab.Metadata()
	_, errs["Check"] = tab.Check()
	tab.GetMany([][]byte{key(5), key(6)}, func(_ int, _ []byte, err error) { errs["GetMany"] = err })
	_, errs["Get of a snapshot"] = snap.Get(key(1))
	_, errs["Has of a snapshot"] = snap.Has(key(1))
	errs["Backup of a snapshot"] = snap.Backup(discard{})
	for i := range 100 {
		_, errs[fmt.Sprint("Get ", i)] = tab.Get(key(i))
		errs[fmt.Sprint("Put ", i)] = tab.Put(key(i), value(i, 120))
	}
	_ = tab.Stats()
	_ = tab.Len()
	return errs
}

func TestFileCutOffWhileOpen(t *testing.T) {
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, durability := range []table.Durability{table.OnSync, table.Always} {
			for _, left := range []int64{0, 4096, 12288, 16384, 30000, 57344} {
				t.Run(fmt.Sprint(media, " ", durability, " ", left), func(t *testing.T) {
					testCutOff(t, media, durability, left)
				})
			}
		}
	}
}

func testCutOff(t *testing.T, media pmem.Media, durability table.Durability, left int64) {
	goroutines := runtime.NumGoroutine()
	tab, path, system := cutTable(t, media, durability)
	snap, err := tab.Snapshot()
	require.NoError(t, err)
	require.NoError(t, system.truncate(path, left))
	met := 0
	for name, err := range everyCallOn(tab, snap) {
		if err == nil || errors.Is(err, table.ErrNotFound) || name == "All" || name == "Scan" {
			continue // those two say by an error that they found something
		}
		assert.True(t, errors.Is(err, table.ErrCorrupt), "%s: %v", name, err)
		if errors.Is(err, table.ErrCorrupt) {
			var ce *table.CorruptError
			require.ErrorAs(t, err, &ce)
			require.Equal(t, path, ce.Path)
			met++
		}
	}
	require.Positive(t, met)
	_ = snap.Close()
	if err := tab.Close(); media == pmem.PageCache { // elsewhere Close need not touch what is gone
		require.Error(t, err)
	}
	_, err = tab.Get(key(1))
	require.ErrorIs(t, err, table.ErrClosed)
	eventually(t, "a goroutine was left behind", func() bool { return runtime.NumGoroutine() <= goroutines })

	_, err = table.Open(path, &table.Options{MustExist: true})
	if left < int64(tiny(2).Regions().Arena) {
		require.Error(t, err)
	}
}

// TestFileCutOffInAGroup: of a group of GetMany the keys whose records are still there
// have their values, whichever key the fault comes at, and the others ErrCorrupt.
func TestFileCutOffInAGroup(t *testing.T) {
	tab, path, system := cutTable(t, pmem.Tmpfs, table.OnSync)
	info, err := os.Stat(path)
	require.NoError(t, err)
	var keys [][]byte
	for i := range 100 {
		keys = append(keys, key(i))
	}
	met := map[bool]int{}
	for left := info.Size() - 4096; left > info.Size()/2; left -= 4096 {
		require.NoError(t, system.truncate(path, left))
		clear(met)
		tab.GetMany(keys, func(i int, got []byte, err error) {
			met[err == nil]++
			if err == nil {
				require.Equal(t, value(i, 100), got)
			} else {
				require.ErrorIs(t, err, table.ErrCorrupt)
			}
		})
		require.Equal(t, len(keys), met[true]+met[false])
		if met[true] > 0 && met[false] > 0 {
			break
		}
	}
	require.Positive(t, met[true])
	require.Positive(t, met[false])
	_ = tab.Close()
}

// TestFileCutOffWhileReading is a reader's table.
func TestFileCutOffWhileReading(t *testing.T) {
	tab, path, _ := cutTable(t, pmem.PageCache, table.OnSync)
	require.NoError(t, tab.Close())
	tab, err := table.Open(path, &table.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, 0))
	for name, err := range everyCall(tab) {
		assert.True(t, errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrReadOnly), "%s: %v", name, err)
	}
	_ = tab.Len()
	_ = tab.Stats()
	_, err = tab.Check()
	require.ErrorIs(t, err, table.ErrCorrupt)
	require.NoError(t, tab.Close())
}

// TestFileWrittenOverWhileOpen: what is answered is right, or an error.
func TestFileWrittenOverWhileOpen(t *testing.T) {
	for _, filler := range []byte{0, 0xff, 0x5a} {
		for from := int64(0); from < 60000; from += 12288 {
			tab, path, _ := cutTable(t, pmem.PageCache, table.OnSync)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			require.NoError(t, err)
			junk := make([]byte, 12288)
			for i := range junk {
				junk[i] = filler
			}
			_, err = f.WriteAt(junk, from)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			for i := range 100 {
				got, err := tab.Get(key(i))
				switch {
				case err == nil:
					require.Equal(t, value(i, 100), got)
				case !errors.Is(err, table.ErrNotFound):
					require.ErrorIs(t, err, table.ErrCorrupt)
				}
			}
			for i := range 100 {
				_ = tab.Put(key(i), value(i, 50))
			}
			_, _ = tab.Check()
			_ = tab.Sync()
			_ = tab.Close()
		}
	}
}
