package table_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a table without room that changes something when
// it refuses, refuses what needs no room, or still refuses when there is room.

// scarce is the operating system with a disk that is full while it says so.
type scarce struct {
	pmem.System
	full atomic.Bool
}

func (s *scarce) Allocate(f *os.File, from, to int64) error {
	if s.full.Load() {
		return os.NewSyscallError("fallocate", noSpace)
	}
	return s.System.Allocate(f, from, to)
}

// brim puts entries until there is no room for one more, and returns how many fit.
func brim(t *testing.T, tab *table.Table, want map[string]string, from, size int) int {
	for i := from; ; i++ {
		err := tab.Put(key(i), value(i, size))
		if err != nil {
			require.ErrorIs(t, err, table.ErrFull)
			require.ErrorContains(t, err, tab.Stats().Path)
			return i - from
		}
		want[string(key(i))] = string(value(i, size))
	}
}

// pour tries to put n entries, and returns how many found room: one that would
// split its segment may not where others still do.
func pour(t *testing.T, tab *table.Table, want map[string]string, from, n, size int) (stored int) {
	for i := range n {
		err := tab.Put(key(from+i), value(from+i, size))
		if errors.Is(err, table.ErrFull) {
			continue
		}
		require.NoError(t, err)
		want[string(key(from+i))] = string(value(from+i, size))
		stored++
	}
	return stored
}

func TestFull(t *testing.T) {
	t.Parallel()
	for _, media := range mediaHere() {
		for name, c := range map[string]struct {
			geometry pmem.Geometry
			size     int
			maxSize  int64
			disk     bool // the disk is full; else the maximum size is reached
		}{
			"tiny, disk":                     {tiny(2), 100, 1 << 20, true},
			"tiny, maximum":                  {tiny(2), 100, 256 << 10, false},
			"tiny, runs, disk":               {tiny(1), 9000, 1 << 20, true},
			"tiny, runs, maximum":            {tiny(1), 9000, 1 << 20, false},
			"default, disk":                  {pmem.Geometry{Stripes: 4}, 100, 8 << 20, true},
			"default, large values, maximum": {pmem.Geometry{Stripes: 4}, 30_000, 4 << 20, false},
		} {
			if c.maxSize > 1<<20 && media != mediaHere()[0] && alone(3, 3, 1) == 1 {
				continue // the large ones on one medium
			}
			t.Run(fmt.Sprint(media, ", ", name), func(t *testing.T) {
				t.Parallel()
				sys := &scarce{System: pmem.RealSystem()}
				po := pmem.Options{Geometry: c.geometry, Media: media, System: sys, MaxSizeBytes: c.maxSize}
				path := filepath.Join(t.TempDir(), "t.pmt")
				open := func() *table.Table {
					p, err := pmem.Open(path, po)
					require.NoError(t, err)
					tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
					require.NoError(t, err)
					return tab
				}
				tab := open()
				want := make(map[string]string)
				verify := func() {
					t.Helper()
					require.Equal(t, len(want), tab.Len())
					require.Equal(t, want, contents(t, tab))
					for k, v := range want {
						got, err := tab.Get(b(k))
						require.NoError(t, err)
						require.Equal(t, v, string(got))
					}
				}
				if c.disk {
					for i := range 2000 { // so that it has grown once or twice
						k := key(1_000_000 + i)
						require.NoError(t, tab.Put(k, k))
						want[string(k)] = string(k)
					}
					sys.full.Store(true)
				}
				n := brim(t, tab, want, 0, c.size)
				verify()
				size := tab.Stats().FileSizeBytes

				// Every call that would store is refused, and changes nothing. What a refused
				// one gave back may serve the next: then that one stores, and another key is
				// tried.
				v := value(7, c.size)
				for call, store := range map[string]func(k []byte) error{
					"Put":         func(k []byte) error { return tab.Put(k, v) },
					"PutIfAbsent": func(k []byte) error { return second(tab.PutIfAbsent(k, v)) },
					"Swap":        func(k []byte) error { return third(tab.Swap(k, v)) },
					"Update": func(k []byte) error {
						return tab.Update(k, func([]byte, bool) ([]byte, table.Op) { return v, table.Store })
					},
				} {
					err := store(key(n))
					for ; err == nil; err = store(key(n)) {
						want[string(key(n))] = string(v)
						n++
					}
					require.ErrorIs(t, err, table.ErrFull, call)
					if c.disk {
						require.ErrorIs(t, err, noSpace)
					}
				}
				verify()
				require.Equal(t, size, tab.Stats().FileSizeBytes)
				if media == pmem.PageCache {
					require.NoError(t, tab.Sync()) // a commit needs no room
				}
				kill(tab)
				tab = open()
				verify()
				checked(t, tab)

				// Deletes go on, and what they free can be used, again and again.
				for round := range 3 {
					i := 0
					for k := range want {
						if i++; i%2 == 0 {
							require.NoError(t, tab.Delete(b(k)))
							delete(want, k)
						}
						if i%100 == 0 {
							require.NoError(t, tab.Sync()) // each cut makes deletes copy segments
						}
					}
					verify()
					require.GreaterOrEqual(t, pour(t, tab, want, 100_000*(1+round), n, c.size), n/4)
					verify()
				}
				require.LessOrEqual(t, tab.Stats().FileSizeBytes, c.maxSize)
				checked(t, tab)
				for k := range want {
					require.NoError(t, tab.Delete(b(k)))
				}
				clear(want)
				require.Zero(t, tab.Len())
				require.GreaterOrEqual(t, pour(t, tab, want, 0, n, c.size), n*3/4)

				// A disk with room again; a larger maximum at the next open.
				if c.disk {
					sys.full.Store(false)
				} else {
					require.NoError(t, tab.Close())
					po.MaxSizeBytes = 4 * c.maxSize
					tab = open()
				}
				for i := range max(2, n/8) {
					k := key(500_000 + i)
					require.NoError(t, tab.Put(k, v))
					want[string(k)] = string(v)
				}
				verify()
				checked(t, tab)
				require.NoError(t, tab.Close())
			})
		}
	}
}

// TestReserveLasts: the room that is kept for deletes is not used up by what is
// stored between them, however often the table is full, committed and made room in.
func TestReserveLasts(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		for _, stripes := range []int{1, 4} {
			t.Run(fmt.Sprint(media, ", stripes ", stripes), func(t *testing.T) {
				tab := onHeap(t, media, stripes, 256<<10)
				want := make(map[string]string)
				brim(t, tab, want, 0, 60)
				r := seeded(t)
				least := len(want)
				for round := range alone(150, 30, 10) {
					require.NoError(t, tab.Sync())
					var keys []string
					for k := range want {
						keys = append(keys, k)
					}
					slices.Sort(keys)
					for range 1 + r.IntN(20) {
						k := keys[r.IntN(len(keys))]
						require.NoError(t, tab.Delete(b(k)), "round %d", round)
						delete(want, k)
					}
					brim(t, tab, want, 1000*(round+1), 30+r.IntN(300))
					least = min(least, len(want))
				}
				require.Equal(t, want, contents(t, tab))
				checked(t, tab)
				for k := range want {
					require.NoError(t, tab.Delete(b(k)))
				}
				t.Logf("at least %d entries at any time", least)
			})
		}
	}
}

// TestFullAtOnce: many writers meet the end of the medium at the same time; each
// gets room or ErrFull, and none waits for another one for ever.
func TestFullAtOnce(t *testing.T) {
	for _, media := range mediaHere() {
		h := pmem.NewHeap(nil, 256<<10)
		tab := openOn(t, h, pmem.Options{Geometry: tiny(4), Media: media}, &table.Options{Durability: table.OnSync})
		var stored, refused atomic.Int64
		errs := make(chan error, 8)
		for w := range cap(errs) {
			go func() {
				for i := range 400 {
					k := key(w*1000 + i)
					err := tab.Put(k, value(i, 60+i))
					if errors.Is(err, table.ErrFull) {
						refused.Add(1)
						// What one makes free, seven others are after.
						for range 100 {
							if err = tab.Delete(key(w*1000 + i/2)); !errors.Is(err, table.ErrFull) {
								break
							}
						}
						if err == nil {
							continue
						}
					}
					if err != nil {
						errs <- err
						return
					}
					stored.Add(1)
				}
				errs <- nil
			}()
		}
		for range cap(errs) {
			assert.NoError(t, <-errs)
		}
		require.Positive(t, stored.Load())
		require.Positive(t, refused.Load())
		checked(t, tab)
		require.NoError(t, tab.Close())
	}
}
