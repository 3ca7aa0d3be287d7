package table_test

import (
	"errors"
	"fmt"
	"io/fs"
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

// The failures looked for here: an Open that does other than its options say; a
// call after, or during, Close that does anything but return ErrClosed; a
// read-only table that writes.

// everyCall calls every method of the table that returns an error.
func everyCall(tab *table.Table) map[string]error {
	k := key(1)
	update := func([]byte, bool) ([]byte, table.Op) { return nil, table.Store }
	all := func() error {
		for range tab.All() {
			return errors.New("All yielded something")
		}
		return tab.Err()
	}
	return map[string]error{
		"Get":              second(tab.Get(k)),
		"AppendGet":        second(tab.AppendGet(nil, k)),
		"Has":              second(tab.Has(k)),
		"View":             tab.View(k, func([]byte) error { return nil }),
		"All":              all(),
		"Scan":             second(tab.Scan(0, func(_, _ []byte) error { return errors.New("Scan found something") })),
		"Put":              tab.Put(k, k),
		"Delete":           tab.Delete(k),
		"PutIfAbsent":      second(tab.PutIfAbsent(k, k)),
		"CompareAndSwap":   second(tab.CompareAndSwap(k, k, k)),
		"CompareAndDelete": second(tab.CompareAndDelete(k, k)),
		"Swap":             third(tab.Swap(k, k)),
		"GetAndDelete":     third(tab.GetAndDelete(k)),
		"Update":           tab.Update(k, update),
		"Clear":            tab.Clear(),
		"Sync":             tab.Sync(),
		"Check":            second(tab.Check()),
	}
}

var readingCalls = []string{"Get", "AppendGet", "Has", "View", "All", "Scan", "Check"}

func TestAfterClose(t *testing.T) {
	open := map[string]func(path string) (*table.Table, error){
		"writable": func(path string) (*table.Table, error) { return table.Open(path, nil) },
		"read-only": func(path string) (*table.Table, error) {
			return table.Open(path, &table.Options{ReadOnly: true})
		},
	}
	path := filepath.Join(t.TempDir(), "t.pmt")
	for _, name := range []string{"writable", "read-only"} {
		t.Run(name, func(t *testing.T) {
			tab, err := open[name](path)
			require.NoError(t, err)
			if name == "writable" {
				require.NoError(t, tab.Put(key(1), b("value")))
			}
			require.NoError(t, tab.Close())
			require.NoError(t, tab.Close())
			for call, err := range everyCall(tab) {
				assert.ErrorIs(t, err, table.ErrClosed, call)
			}
			tab.Len() // anything, but it returns
			require.Equal(t, path, tab.Stats().Path)
			require.NoError(t, tab.Close())
		})
	}
	tab, err := table.Open(path, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{string(key(1)): "value"}, contents(t, tab))
	require.NoError(t, tab.Close())
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.pmt")
	ro := &table.Options{ReadOnly: true}
	_, err := table.Open(path, ro)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoFileExists(t, path)

	tab, err := table.Open(path, nil)
	require.NoError(t, err)
	const n = 500
	for i := range n {
		require.NoError(t, tab.Put(key(i), told(uint32(i), 1, 1+i%30)))
		if i%8 == 0 {
			i := i / 2
			require.NoError(t, tab.Put(key(i), told(uint32(i), 1, 1+i%30)))
		}
	}
	require.NoError(t, tab.Close())
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	tab, err = table.Open(path, ro)
	require.NoError(t, err)
	for call, err := range everyCall(tab) {
		if !assert.Condition(t, func() bool {
			for _, r := range readingCalls {
				if call == r {
					return !errors.Is(err, table.ErrReadOnly)
				}
			}
			return errors.Is(err, table.ErrReadOnly)
		}) {
			t.Error(call, err)
		}
	}
	require.Equal(t, n, tab.Len())
	for i := range n {
		v, err := tab.Get(key(i))
		require.NoError(t, err)
		_, err = readTold(uint32(i), v)
		require.NoError(t, err)
		require.NoError(t, tab.View(key(i), func(in []byte) error {
			require.Equal(t, v, in)
			return nil
		}))
	}
	require.Len(t, contents(t, tab), n)
	require.Equal(t, n, checked(t, tab).Entries)
	require.True(t, tab.Stats().ReadOnly)
	other, err := table.Open(path, ro) // readers do not exclude each other
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NoError(t, tab.Close())
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, string(before) == string(after), "a read-only table changed the file")
}

func TestOpenOptions(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.pmt")
	for name, o := range map[string]*table.Options{
		"negative stripes":  {Stripes: -1},
		"too many stripes":  {Stripes: 4097},
		"odd segments":      {SegmentSize: 5000},
		"small segments":    {SegmentSize: 256},
		"large segments":    {SegmentSize: 32 << 10},
		"negative segments": {SegmentSize: -4096},
		"negative size":     {MaxSize: -1},
		"size beyond links": {MaxSize: 1 << 45},
		"no such medium":    {Media: 77},
		"no room at all":    {MaxSize: 4096},
	} {
		_, err := table.Open(path, o)
		require.Error(t, err, name)
		require.ErrorContains(t, err, path, name)
		require.NoFileExists(t, path, name)
	}
	_, err := table.Open(path, &table.Options{MustExist: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, names, "an Open that failed left something behind")

	tab, err := table.Open(path, &table.Options{Stripes: 5, SegmentSize: 4096, MustCreate: true})
	require.NoError(t, err)
	require.EqualValues(t, 4096, tab.Stats().SegmentSizeBytes)
	require.Equal(t, 8, tab.Stats().Stripes)
	require.NoError(t, tab.Put(key(1), b("value")))
	_, err = table.Open(path, nil)
	require.ErrorIs(t, err, table.ErrLocked)
	require.ErrorContains(t, err, path)
	require.NoError(t, tab.Close())
	_, err = table.Open(path, &table.Options{MustCreate: true})
	require.ErrorIs(t, err, fs.ErrExist)

	tab, err = table.Open(path, &table.Options{Stripes: 64, MustExist: true, TrustMedia: true, MaxSize: 4 << 30})
	require.NoError(t, err)
	require.Equal(t, 8, tab.Stats().Stripes, "a table that exists keeps its own")
	require.EqualValues(t, 4096, tab.Stats().SegmentSizeBytes)
	require.EqualValues(t, 4<<30, tab.Stats().MaxSizeBytes)
	v, err := tab.Get(key(1))
	require.NoError(t, err)
	require.Equal(t, "value", string(v))
	require.NoError(t, tab.Close())

	if runtime.GOOS == "windows" {
		return
	}
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), st.Mode().Perm())
	path = filepath.Join(dir, "other")
	tab, err = table.Open(path, &table.Options{FileMode: 0o640})
	require.NoError(t, err)
	require.NoError(t, tab.Close())
	st, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), st.Mode().Perm()&0o670)
}

// TestCloseBesideCallers closes a table that goroutines are using: every call
// returns as it should or with ErrClosed, and what was acknowledged is there at
// the next open.
func TestCloseBesideCallers(t *testing.T) {
	for _, media := range mediaHere() {
		for round := range 10 {
			h := pmem.NewHeap(nil, 8<<20)
			po := pmem.Options{Geometry: tiny(2), Media: media}
			tab := openOn(t, h, po, nil)
			const writers = 4
			var (
				wg           sync.WaitGroup
				begun        sync.WaitGroup
				acknowledged [writers]uint32
			)
			begun.Add(writers)
			for w := range uint32(writers) {
				wg.Go(func() {
					for version := uint32(1); ; version++ {
						if version == 2 {
							begun.Done()
						}
						err := tab.Put(key(int(w)), told(w, version, 4))
						if err == nil {
							acknowledged[w] = version
							_, err = tab.Get(key(int(w)))
						}
						if err == nil && version%8 == 0 {
							err = tab.Sync()
						}
						if err == nil && version%16 == 0 {
							for range tab.All() {
							}
							err = tab.Err()
						}
						if err != nil {
							assert.ErrorIs(t, err, table.ErrClosed)
							return
						}
					}
				})
			}
			begun.Wait()
			for range round * 10 {
				runtime.Gosched()
			}
			closed := make(chan error, 3)
			for range cap(closed) {
				go func() { closed <- tab.Close() }()
			}
			for range cap(closed) {
				require.NoError(t, <-closed)
			}
			wg.Wait()

			tab = openOn(t, h, po, nil)
			require.Contains(t, tab.Stats().OpenedFrom, "closed in order")
			for w := range uint32(writers) {
				v, err := tab.Get(key(int(w)))
				require.NoError(t, err)
				version, err := readTold(w, v)
				require.NoError(t, err)
				require.Equal(t, acknowledged[w], version)
			}
			require.Equal(t, writers, checked(t, tab).Entries)
			require.NoError(t, tab.Close())
		}
	}
}

// TestCloseFromWithin: a function that the table calls may close it.
func TestCloseFromWithin(t *testing.T) {
	for name, call := range map[string]func(tab *table.Table) error{
		"View": func(tab *table.Table) error {
			return tab.View(key(1), func(v []byte) error {
				if err := tab.Close(); err != nil {
					return err
				}
				_, err := readTold(1, v) // still there
				return err
			})
		},
		"Update": func(tab *table.Table) error {
			err := tab.Update(key(1), func([]byte, bool) ([]byte, table.Op) {
				assert.NoError(t, tab.Close())
				return nil, table.Store
			})
			if !errors.Is(err, table.ErrClosed) {
				return fmt.Errorf("not ErrClosed but %w", err)
			}
			return nil
		},
		"All": func(tab *table.Table) error {
			for range tab.All() {
				if err := tab.Close(); err != nil {
					return err
				}
			}
			return tab.Err() // ErrClosed, unless all was in one step
		},
		"Scan": func(tab *table.Table) error {
			_, err := tab.Scan(0, func(_, _ []byte) error { return tab.Close() })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Durability: table.OnSync})
			require.NoError(t, err)
			require.NoError(t, tab.Put(key(1), told(1, 1, 8)))
			err = call(tab)
			if err != nil && !(name == "All" && errors.Is(err, table.ErrClosed)) {
				require.NoError(t, err)
			}
			_, err = tab.Get(key(1))
			require.ErrorIs(t, err, table.ErrClosed)
		})
	}
}

func TestStats(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		const n = 300
		for i := range n {
			require.NoError(t, tab.Put(key(i), value(i, 50)))
		}
		require.NoError(t, tab.Delete(key(0)))
		require.NoError(t, tab.Sync())
		s := tab.Stats()
		require.EqualValues(t, n-1, s.Entries)
		require.True(t, s.EntriesKnown)
		require.EqualValues(t, n+1, s.Writes)
		require.Equal(t, s.FileSizeBytes, s.UsedBytes+s.FreeBytes)
		require.Greater(t, s.UsedBytes, int64(n*(16+50)))
		require.LessOrEqual(t, s.FileSizeBytes, s.MaxSizeBytes)
		require.NotEmpty(t, s.UUID)
		require.Empty(t, s.Damage)
		require.NotEmpty(t, s.OpenedFrom)
		require.EqualValues(t, 1, s.Generation)
		if s.Medium == pmem.PageCache {
			require.Positive(t, s.Checkpoints)
			require.GreaterOrEqual(t, s.CommittedEpoch+1, s.Epoch)
		}
		if s.Medium == pmem.DAX {
			require.NotEqual(t, "none", s.FlushMethod)
			require.Equal(t, t.Name() != "TestStats/file", s.Forced) // that one lies on real DAX
		}
	})
}
