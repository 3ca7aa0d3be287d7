//go:build !race && !smallmap

// The race detector allocates, and an emulator has not the memory.

package table_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a read or a write that allocates on the Go heap,
// entries that the garbage collector has to look at, and a value of the largest
// size that does not fit where the format says it does.

func TestAllocations(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			o := &table.Options{Durability: table.OnSync, Media: media}
			tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), o)
			require.NoError(t, err)
			defer func() { require.NoError(t, tab.Close()) }()
			const n = 10_000
			keys, v, other := make([][]byte, n), value(1, 100), value(2, 100)
			for i := range keys {
				keys[i] = key(i)
				require.NoError(t, tab.Put(keys[i], v))
			}
			absent, buf := []byte("absent"), make([]byte, 0, 256)
			sum, i := 0, 0
			look := func(v []byte) error { sum += len(v); return nil }
			next := func() []byte { i++; return keys[i*7919%n] }
			for name, call := range map[string]func() error{
				"AppendGet": func() error { _, err := tab.AppendGet(buf, next()); return err },
				"AppendGet of an absent key": func() error {
					if _, err := tab.AppendGet(buf, absent); err != table.ErrNotFound {
						return err
					}
					return nil
				},
				"Has":  func() error { _, err := tab.Has(next()); return err },
				"View": func() error { return tab.View(next(), look) },
				"Put":  func() error { return tab.Put(next(), v) },
				"Put and Delete": func() error {
					if err := tab.Put(absent, v); err != nil {
						return err
					}
					return tab.Delete(absent)
				},
				"CompareAndSwap": func() error {
					k := next()
					if _, err := tab.CompareAndSwap(k, v, other); err != nil {
						return err
					}
					_, err := tab.CompareAndSwap(k, other, v)
					return err
				},
				"PutIfAbsent": func() error { _, err := tab.PutIfAbsent(next(), v); return err },
			} {
				for range 20_000 { // until lists have the length that they keep
					require.NoError(t, call(), name)
				}
				var err error
				allocs := testing.AllocsPerRun(5000, func() {
					if e := call(); e != nil {
						err = e
					}
				})
				require.NoError(t, err, name)
				require.Zero(t, allocs, name)
			}
		})
	}
}

// TestNoEntryOnTheHeap: a hundred thousand entries more in the file are hardly
// one object more for the garbage collector.
func TestNoEntryOnTheHeap(t *testing.T) {
	objects := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapObjects)
	}
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	require.NoError(t, tab.Put(key(0), nil))
	before := objects()
	const n = 100_000
	v := value(1, 100)
	for i := range n {
		require.NoError(t, tab.Put(key(i), v))
	}
	require.Less(t, objects()-before, int64(n/20))
	require.NoError(t, tab.Close())
}

// TestLargestValue stores a value of 1 GiB under a key of 65,535 bytes where just
// one of them fits.
func TestLargestValue(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 4 GiB of memory")
	}
	needMemory(t, 6<<30)
	path := filepath.Join(t.TempDir(), "t.pmt")
	o := &table.Options{MaxSize: 1<<30 + 600<<20, Media: pmem.Tmpfs}
	tab, err := table.Open(path, o)
	require.NoError(t, err)
	v := make([]byte, 1<<30)
	for i := 0; i < len(v); i += 4096 {
		v[i] = byte(i>>12) | 1
	}
	k := make([]byte, 65_535)
	require.NoError(t, tab.Put(k, v))
	require.ErrorIs(t, tab.Put(b("no room"), v), table.ErrFull)
	require.NoError(t, tab.Put(b("room"), value(1, 1000)))
	require.NoError(t, tab.View(k, func(got []byte) error {
		require.Len(t, got, len(v))
		for i := 0; i < len(v); i += 4096 {
			if got[i] != v[i] || got[i+4095] != 0 {
				t.Fatalf("differs near %d", i)
			}
		}
		return nil
	}))
	require.NoError(t, tab.Close())

	tab, err = table.Open(path, o)
	require.NoError(t, err)
	old, existed, err := tab.GetAndDelete(k)
	require.NoError(t, err)
	require.True(t, existed)
	require.True(t, bytes.Equal(v, old))
	require.NoError(t, tab.Put(b("room again"), v[:len(v)-1]))
	require.NoError(t, tab.Close())
}

// TestMapOfFixedSizesDoesNotAllocate, for the codecs of integers and arrays.
func TestMapOfFixedSizesDoesNotAllocate(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	m := table.NewMap(tab, table.ArrayCodec[[16]byte](), table.IntegerCodec[uint64]())
	var key [16]byte
	n := uint64(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		binary.LittleEndian.PutUint64(key[:], n%10)
		if m.Store(key, n) != nil {
			panic("store")
		}
		if v, ok, err := m.Load(key); v != n || !ok || err != nil {
			panic("load")
		}
	}))
}
