package store_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/store"
	"pmemtable/table"
)

// These are the checks that raft-boltdb's store is tested with
// (github.com/hashicorp/raft-boltdb/v2, bolt_store_test.go), and more.

// quick is for tests that do not look at durability.
var quick = &table.Options{Durability: table.OnSync, MaxSize: 1 << 30}

func open(t testing.TB, path string, opts *table.Options) *store.Store {
	t.Helper()
	s, err := store.Open(path, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func fresh(t testing.TB) *store.Store {
	return open(t, filepath.Join(t.TempDir(), "raft.pmt"), quick)
}

// entries are the entries at from to to, both included.
func entries(from, to uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1 + i/10, Data: fmt.Appendf(nil, "log%d", i)})
	}
	return logs
}

// requireRange checks the ends of the log, and what is in it.
func requireRange(t testing.TB, s *store.Store, logs []*raft.Log) {
	t.Helper()
	var first, last uint64
	if len(logs) > 0 {
		first, last = logs[0].Index, logs[len(logs)-1].Index
	}
	got, err := s.FirstIndex()
	require.NoError(t, err)
	require.Equal(t, first, got, "first index")
	got, err = s.LastIndex()
	require.NoError(t, err)
	require.Equal(t, last, got, "last index")
	for _, want := range logs {
		var l raft.Log
		require.NoError(t, s.GetLog(want.Index, &l))
		require.Equal(t, want, &l)
	}
	for _, i := range []uint64{first - 1, last + 1, math.MaxUint64} {
		require.Equal(t, raft.ErrLogNotFound, s.GetLog(i, new(raft.Log)), "index %d", i)
	}
}

// requireNothingElse: the table has the entries, and so many stable keys.
func requireNothingElse(t require.TestingT, s *store.Store, logs []*raft.Log, stable int) {
	var want []uint64
	for _, l := range logs {
		want = append(want, l.Index)
	}
	indices, values, err := s.Held()
	require.NoError(t, err)
	require.Equal(t, want, indices)
	require.Equal(t, values+stable, s.Table().Len())
}

func TestEmptyLog(t *testing.T) {
	s := fresh(t)
	requireRange(t, s, nil)
	require.NoError(t, s.StoreLogs(nil))
	require.NoError(t, s.DeleteRange(1, 100))
	requireRange(t, s, nil)
	require.True(t, s.IsMonotonic())
}

func TestEntriesComeBackWhole(t *testing.T) {
	logs := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("extension")},
		{Index: 2, Term: math.MaxUint64, Type: raft.LogNoop},
		{Index: 3, Term: 7, Data: []byte{0}, AppendedAt: time.Now().UTC().Round(0)},
		{Index: 4, Term: 7, Extensions: []byte{1, 2}, AppendedAt: time.Unix(0, 1).In(time.FixedZone("", 3600))},
		{Index: 5, Type: raft.LogBarrier, Data: make([]byte, 1<<20)},
	}
	path := filepath.Join(t.TempDir(), "raft.pmt")
	s := open(t, path, quick)
	require.NoError(t, s.StoreLog(logs[0]))
	require.NoError(t, s.StoreLogs(logs[1:]))
	requireRange(t, s, logs)

	var l raft.Log
	require.NoError(t, s.GetLog(1, &l))
	_ = append(l.Data, "over the end"...)
	require.Equal(t, []byte("extension"), l.Extensions, "data and extensions do not share room")

	require.NoError(t, s.Close())
	requireRange(t, open(t, path, quick), logs)
}

func TestStoreReplacesTheEntryAtItsIndex(t *testing.T) {
	s := fresh(t)
	logs := entries(1, 5)
	require.NoError(t, s.StoreLogs(logs))
	logs[2] = &raft.Log{Index: 3, Term: 9, Data: []byte("again")}
	require.NoError(t, s.StoreLogs([]*raft.Log{{Index: 3, Term: 8}, logs[2]}))
	requireRange(t, s, logs)
	require.NoError(t, s.DeleteRange(1, 5))
	requireRange(t, s, nil)
}

func TestDeleteRange(t *testing.T) {
	for name, test := range map[string]struct{ min, max, first, last uint64 }{
		"the first":              {1, 2, 3, 9},
		"from before the first":  {0, 2, 3, 9},
		"the last":               {8, 9, 1, 7},
		"to behind the last":     {8, math.MaxUint64, 1, 7},
		"all":                    {1, 9, 0, 0},
		"more than all":          {0, math.MaxUint64, 0, 0},
		"none, behind":           {10, 20, 1, 9},
		"none, the wrong way":    {5, 4, 1, 9},
		"none, before the first": {0, 0, 1, 9},
	} {
		for _, limit := range []int{1024, 1, 2, 3} {
			t.Run(fmt.Sprintf("%s, %d a batch", name, limit), func(t *testing.T) {
				s := fresh(t)
				s.LimitChanges(limit)
				require.NoError(t, s.StoreLogs(entries(1, 9)))
				require.NoError(t, s.DeleteRange(test.min, test.max))
				want := entries(test.first, test.last)
				if test.first == 0 {
					want = nil
				}
				requireRange(t, s, want)
				requireNothingElse(t, s, want, 0)
				require.NoError(t, s.StoreLogs(entries(test.last+1, test.last+3)))
				requireRange(t, s, append(want, entries(test.last+1, test.last+3)...))
			})
		}
	}
}

func TestGaps(t *testing.T) {
	s := fresh(t)
	require.NoError(t, s.StoreLogs([]*raft.Log{{Index: 10}, {Index: 20}, {Index: 1 << 60}}))
	require.Equal(t, raft.ErrLogNotFound, s.GetLog(15, new(raft.Log)))
	requireRange(t, s, []*raft.Log{{Index: 10}, {Index: 20}, {Index: 1 << 60}})
	require.NoError(t, s.DeleteRange(20, 20))
	requireRange(t, s, []*raft.Log{{Index: 10}, {Index: 1 << 60}})
	require.NoError(t, s.DeleteRange(0, 11)) // finds its way over 2^60 indices
	requireRange(t, s, []*raft.Log{{Index: 1 << 60}})
	require.NoError(t, s.StoreLog(&raft.Log{Index: 5}))
	requireRange(t, s, []*raft.Log{{Index: 5}, {Index: 1 << 60}})
	require.NoError(t, s.DeleteRange(6, math.MaxUint64))
	requireRange(t, s, []*raft.Log{{Index: 5}})
}

// TestMoreThanABatch takes many batches for one call.
func TestMoreThanABatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.pmt")
	s := open(t, path, quick)
	logs := entries(1, 10_000)
	require.NoError(t, s.StoreLogs(logs))
	requireRange(t, s, logs)
	require.ErrorIs(t, s.StoreLogs(entries(5_000, 15_000)), table.ErrTooLarge)
	requireRange(t, s, logs)
	require.NoError(t, s.DeleteRange(1, 9_000))
	requireRange(t, s, logs[9_000:])
	requireNothingElse(t, s, logs[9_000:], 0)
	require.NoError(t, s.Close())
	requireRange(t, open(t, path, quick), logs[9_000:])
}

func TestIndexOutOfRange(t *testing.T) {
	s := fresh(t)
	require.ErrorContains(t, s.StoreLog(&raft.Log{Index: math.MaxUint64}), "must be less")
	requireRange(t, s, nil)
}

func TestStableKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.pmt")
	s := open(t, path, quick)
	_, err := s.Get([]byte("absent"))
	require.EqualError(t, err, "not found") // as raft compares
	require.ErrorIs(t, err, table.ErrNotFound)
	_, err = s.GetUint64([]byte("absent"))
	require.EqualError(t, err, "not found")

	require.NoError(t, s.Set([]byte("hello"), []byte("world")))
	require.NoError(t, s.Set(nil, nil))
	require.NoError(t, s.SetUint64([]byte("number"), math.MaxUint64-1))
	check := func() {
		value, err := s.Get([]byte("hello"))
		require.NoError(t, err)
		require.Equal(t, []byte("world"), value)
		value, err = s.Get(nil)
		require.NoError(t, err)
		require.Empty(t, value)
		n, err := s.GetUint64([]byte("number"))
		require.NoError(t, err)
		require.Equal(t, uint64(math.MaxUint64-1), n)
	}
	check()
	_, err = s.GetUint64([]byte("hello"))
	require.ErrorIs(t, err, table.ErrCorrupt)
	require.ErrorIs(t, s.Set(make([]byte, 1<<16), nil), table.ErrTooLarge)

	require.NoError(t, s.StoreLogs(entries(1, 3)))
	require.NoError(t, s.DeleteRange(1, 3)) // touches the log only
	require.NoError(t, s.Close())
	s = open(t, path, quick)
	check()
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.pmt")
	s := open(t, path, quick)
	require.NoError(t, s.StoreLogs(entries(1, 3)))
	require.NoError(t, s.Set([]byte("k"), []byte("v")))
	_, err := store.Open(path, quick)
	require.ErrorIs(t, err, table.ErrLocked)
	require.NoError(t, s.Close())

	r := open(t, path, &table.Options{ReadOnly: true})
	requireRange(t, r, entries(1, 3))
	require.ErrorIs(t, r.StoreLogs(entries(4, 4)), table.ErrReadOnly)
	require.ErrorIs(t, r.DeleteRange(1, 1), table.ErrReadOnly)
	require.ErrorIs(t, r.Set([]byte("k"), nil), table.ErrReadOnly)
	requireRange(t, r, entries(1, 3))
}

// TestReadOnlyBesideAWriter: a reader follows the log.
func TestReadOnlyBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.pmt")
	w := open(t, path, quick)
	r := open(t, path, &table.Options{ReadOnly: true})
	requireRange(t, r, nil)
	for i := uint64(1); i < 100; i += 10 {
		require.NoError(t, w.StoreLogs(entries(i, i+9)))
		requireRange(t, r, entries(max(i, 4)-3, i+9))
		require.NoError(t, w.DeleteRange(1, i+6))
		requireRange(t, r, entries(i+7, i+9))
	}
	var stop atomic.Bool
	var changes sync.WaitGroup
	changes.Go(func() {
		for i := uint64(101); !stop.Load(); i++ {
			err := errors.Join(w.StoreLogs(entries(i, i)), w.DeleteRange(1, i-3),
				w.DeleteRange(i, i), w.StoreLogs(entries(i, i))) // the same range as before
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 2000 {
		last, err := r.LastIndex()
		require.NoError(t, err)
		var l raft.Log
		if err := r.GetLog(last, &l); err != raft.ErrLogNotFound {
			require.NoError(t, err)
			require.Equal(t, entries(last, last)[0], &l)
		}
	}
	stop.Store(true)
	changes.Wait()
}

func TestClosed(t *testing.T) {
	s := fresh(t)
	require.NoError(t, s.StoreLogs(entries(1, 3)))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.GetLog(1, new(raft.Log)), table.ErrClosed)
	require.ErrorIs(t, s.StoreLogs(entries(4, 4)), table.ErrClosed)
	require.ErrorIs(t, s.DeleteRange(1, 1), table.ErrClosed)
	require.ErrorIs(t, s.Set([]byte("k"), nil), table.ErrClosed)
	_, err := s.Get([]byte("k"))
	require.ErrorIs(t, err, table.ErrClosed)
}

// TestForeignTables: a file of something else is refused, and left as it was.
func TestForeignTables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.pmt")
	other, err := table.Open(path, quick)
	require.NoError(t, err)
	require.NoError(t, other.Put([]byte("some"), []byte("thing")))
	require.NoError(t, other.Close())
	_, err = store.Open(path, quick)
	require.ErrorContains(t, err, "entries of something else")

	for name, meta := range map[string]string{
		"another program's":  "hello",
		"a later version's":  "pmtraft9" + string(make([]byte, 48)),
		"a shorter one":      "pmtraft1" + string(make([]byte, 40)),
		"impossible numbers": "pmtraft1" + string(make([]byte, 7)) + "\x01" + string(make([]byte, 40)),
	} {
		other, err = table.Open(path, quick)
		require.NoError(t, err)
		b := table.NewBatch()
		b.SetMetadata([]byte(meta))
		require.NoError(t, other.Apply(b))
		require.NoError(t, other.Close())
		_, err = store.Open(path, quick)
		require.ErrorContains(t, err, "metadata record", name)
	}

	require.NoError(t, os.WriteFile(path, []byte("no table at all"), 0o600))
	_, err = store.Open(path, quick)
	require.ErrorIs(t, err, table.ErrNotPool)
}

// TestLostEntry: an entry that the log must have is not quietly "not found".
func TestLostEntry(t *testing.T) {
	s := fresh(t)
	require.NoError(t, s.StoreLogs(entries(1, 3)))
	page := []byte("p\x00\x00\x00\x00\x00\x00\x00\x00")
	intact, err := s.Table().Get(page)
	require.NoError(t, err)
	damaged := func(value string) {
		t.Helper()
		require.NoError(t, s.Table().Put(page, []byte(value)))
		require.ErrorIs(t, s.GetLog(2, new(raft.Log)), table.ErrCorrupt, "%q", value)
	}
	for _, bad := range []string{"\x02\x01", "\x02\x80", "\x10\x00", "\x01", "\x02\x01\x02\x01"} {
		damaged(bad)
	}
	for _, bad := range []string{"\x01", "\x02\x00\x00\x00\x00", "\x01\x00", "\x01\x00\x05", "\x01\x00\x05\x09123",
		"\x01\x00\x05\x03123\x00", "\x01\x00\x05\x00", "\x01\x00\x05\x00\x09short", "\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		damaged("\x02" + string(rune(len(bad))) + bad)
	}
	damaged("\x01\x00\x03\x00")                                    // without the entry
	damaged("\x02\x00")                                            // which has a value of its own, but has not
	for _, bad := range []string{"\x02\x01\x01\x00", "\x11\x00"} { // entries out of order, of another page
		require.NoError(t, s.Table().Put(page, []byte(bad)))
		require.ErrorIs(t, s.StoreLog(&raft.Log{Index: 4}), table.ErrCorrupt)
		require.ErrorIs(t, s.DeleteRange(1, 1), table.ErrCorrupt)
	}
	require.NoError(t, s.Table().Put(page, intact))
	requireRange(t, s, entries(1, 3))
}

// TestFull: a disk without room is an error that leaves the log as it was.
func TestFull(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "raft.pmt"), &table.Options{Durability: table.OnSync, MaxSize: 4 << 20})
	var have []*raft.Log
	for i := uint64(1); ; i++ {
		l := &raft.Log{Index: i, Data: make([]byte, 100_000)}
		if err := s.StoreLog(l); err != nil {
			require.ErrorIs(t, err, table.ErrFull)
			break
		}
		have = append(have, l)
	}
	require.NotEmpty(t, have)
	requireRange(t, s, have)
	half := uint64(len(have) / 2)
	require.NoError(t, s.DeleteRange(1, half))
	require.NoError(t, s.StoreLog(&raft.Log{Index: have[len(have)-1].Index + 1, Data: make([]byte, 100_000)}))
}

// TestBackup: the table's own backup is one of the log.
func TestBackup(t *testing.T) {
	s := fresh(t)
	require.NoError(t, s.StoreLogs(entries(1, 100)))
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.Table().Backup(w)) }()
	path := filepath.Join(t.TempDir(), "restored.pmt")
	require.NoError(t, table.Restore(r, path, nil))
	requireRange(t, open(t, path, quick), entries(1, 100))
}
