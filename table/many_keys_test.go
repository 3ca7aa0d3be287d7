package table_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: PutMany or GetMany that differ from as many Puts or
// Gets, or that drain as often.

// TestManyIsAsManyPuts compares PutMany with Puts, and GetMany with Gets.
func TestManyIsAsManyPuts(t *testing.T) {
	medias := mediaHere()
	rapid.Check(t, func(rt *rapid.T) {
		media := rapid.SampledFrom(medias).Draw(rt, "medium")
		open := func() *table.Table {
			return openOn(rt, pmem.NewHeap(nil, 2<<20), pmem.Options{Geometry: tiny(2), Media: media}, &table.Options{Durability: table.OnSync})
		}
		many, single := open(), open()
		for range rapid.IntRange(1, 6).Draw(rt, "calls") {
			var keys, values [][]byte
			for range rapid.IntRange(0, 100).Draw(rt, "entries") {
				keys = append(keys, fmt.Append(nil, "key ", rapid.IntRange(0, 60).Draw(rt, "key")))
				values = append(values, value(rapid.IntRange(0, 255).Draw(rt, "value"), rapid.IntRange(0, 300).Draw(rt, "size")))
			}
			require.NoError(rt, many.PutMany(keys, values))
			for i := range keys {
				require.NoError(rt, single.Put(keys[i], values[i]))
				clear(values[i]) // they are not retained
			}
			if rapid.Bool().Draw(rt, "cut") {
				require.NoError(rt, many.Sync())
			}
			if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
				k := fmt.Append(nil, "key ", rapid.IntRange(0, 60).Draw(rt, "key"))
				require.NoError(rt, many.Delete(k))
				require.NoError(rt, single.Delete(k))
			}
			var ask [][]byte
			for range rapid.IntRange(0, 100).Draw(rt, "asked") {
				ask = append(ask, fmt.Append(nil, "key ", rapid.IntRange(0, 70).Draw(rt, "key")))
			}
			next := 0
			many.GetMany(ask, func(i int, value []byte, err error) {
				require.Equal(rt, next, i)
				want, wantErr := single.Get(ask[i])
				require.Equal(rt, wantErr, err)
				require.True(rt, bytes.Equal(want, value))
				next++
			})
			require.Equal(rt, len(ask), next)
		}
		have, err := readState(many)
		require.NoError(rt, err)
		want, err := readState(single)
		require.NoError(rt, err)
		require.Empty(rt, diffOf(want, have))
		require.NoError(rt, many.Close())
		require.NoError(rt, single.Close())
	})
}

// TestManyErrors: what is asked wrongly does nothing; an error in the middle leaves
// the groups before it, no later key, and no space lost.
func TestManyErrors(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 1, 512<<10)
			require.NoError(t, tab.PutMany(nil, nil))
			require.Error(t, tab.PutMany([][]byte{key(1)}, nil))
			require.Error(t, tab.PutMany(nil, [][]byte{key(1)}))
			require.Zero(t, tab.Len())
			require.NoError(t, tab.Put(key(-1), nil)) // takes what a first entry takes
			tab.MakeRoom()
			used := tab.Stats().UsedBytes

			var keys [][]byte
			for i := range 100 {
				keys = append(keys, key(i))
			}
			keys[70] = make([]byte, layout.MaxKeyBytes+1)
			require.ErrorIs(t, tab.PutMany(keys, make([][]byte, len(keys))), table.ErrTooLarge)
			there := tab.Len() - 1
			require.LessOrEqual(t, there, 70)
			for i := range 100 {
				has, err := tab.Has(key(i))
				require.NoError(t, err)
				require.Equal(t, i < there, has, "key %d", i)
			}
			answers := 0
			tab.GetMany(keys, func(i int, _ []byte, err error) {
				answers++
				if i == 70 {
					require.ErrorIs(t, err, table.ErrTooLarge)
				} else if i >= there {
					require.ErrorIs(t, err, table.ErrNotFound)
				} else {
					require.NoError(t, err)
				}
			})
			require.Equal(t, len(keys), answers)
			checked(t, tab)
			require.NoError(t, tab.Clear())
			require.NoError(t, tab.Put(key(-1), nil))
			tab.MakeRoom()
			require.LessOrEqual(t, tab.Stats().UsedBytes, used)

			values := make([][]byte, 60)
			for i := range values {
				values[i] = make([]byte, 20_000)
			}
			for range 10 {
				require.ErrorIs(t, tab.PutMany(keys[:60], values), table.ErrFull)
				checked(t, tab)
			}
			require.NoError(t, tab.Clear())
			require.NoError(t, tab.Put(key(-1), nil))
			tab.MakeRoom()
			require.LessOrEqual(t, tab.Stats().UsedBytes, used)
		})
	}
}

// drainCounter counts what costs time on persistent memory.
type drainCounter struct {
	throughHook
	drains atomic.Int64
}

func (d *drainCounter) Drain() { d.drains.Add(1) }

// TestManyDrains: when nothing splits and no overflow bit is set for the first
// time, a group costs two drains, whatever its size, unless more slots of a stripe are
// stored than can be in flight; single Puts cost two each.
func TestManyDrains(t *testing.T) {
	t.Run("many stripes", func(t *testing.T) {
		manyDrains(t, 256, func(n int) int { return 2 * ((n + 31) / 32) })
	})
	t.Run("one stripe", func(t *testing.T) {
		manyDrains(t, 1, func(n int) int {
			drains := n / 32 * (1 + (32+layout.InFlightSlots-1)/layout.InFlightSlots)
			if rest := n % 32; rest > 0 {
				drains += 1 + (rest+layout.InFlightSlots-1)/layout.InFlightSlots
			}
			return drains
		})
	})
}

func manyDrains(t *testing.T, stripes int, want func(keys int) int) {
	hook := &drainCounter{}
	h := pmem.NewHeap(nil, 64<<20)
	tab := openOn(t, h, pmem.Options{Geometry: pmem.Geometry{Stripes: stripes}, Media: pmem.DAX, Hook: hook}, nil)
	var keys, values [][]byte
	for i := range 256 {
		keys, values = append(keys, key(i)), append(values, value(i, 40))
	}
	require.NoError(t, tab.PutMany(keys, values)) // plants the segments, opens the chunks
	count := func(what func() error) int64 {
		before := hook.drains.Load()
		require.NoError(t, what())
		return hook.drains.Load() - before
	}
	overwrite := func(n int) int64 {
		return count(func() error { return tab.PutMany(keys[:n], values[:n]) })
	}
	// A chunk that is opened on the way costs one more, so the least of some tries
	// counts.
	for _, n := range []int{1, 2, 31, 32, 33, 64, 256} {
		least := overwrite(n)
		for range 5 {
			least = min(least, overwrite(n))
		}
		require.EqualValues(t, want(n), least, "%d keys", n)
	}
	single := count(func() error {
		for i := range keys {
			if err := tab.Put(keys[i], values[i]); err != nil {
				return err
			}
		}
		return nil
	})
	require.InDelta(t, 256*2, single, 20)
	require.Zero(t, count(func() error { tab.GetMany(keys, func(int, []byte, error) {}); return nil }))
	t.Logf("256 entries: %d drains by PutMany, %d by Put", overwrite(256), single)
	require.NoError(t, tab.Close())
}

// TestGetManyCallsTheTable: fn may read, write and stop looking at what it got.
func TestGetManyCallsTheTable(t *testing.T) {
	eachTable(t, func(t *testing.T, tab *table.Table) {
		const n = 70
		var keys [][]byte
		for i := range n {
			keys = append(keys, key(i))
		}
		require.NoError(t, tab.PutMany(keys, keys))
		tab.GetMany(keys, func(i int, value []byte, err error) {
			require.NoError(t, err)
			require.Equal(t, keys[i], value)
			if i%10 != 0 {
				return
			}
			tab.GetMany(keys[1:4], func(j int, inner []byte, err error) {
				require.NoError(t, err)
				require.Equal(t, keys[1+j], inner)
			})
			require.NoError(t, tab.Delete(keys[i]))
			require.Equal(t, keys[i], value, "valid until fn returns")
		})
		require.Equal(t, n-n/10, tab.Len())
	})
}

// TestGetManyOfLargeValues: values that are too large to be read ahead of their turn come
// among others, each whole.
func TestGetManyOfLargeValues(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 4, 16<<20)
	var keys [][]byte
	sizes := []int{0, 1, 65535, 65536, 65537, 300000, 17}
	for i, size := range sizes {
		keys = append(keys, key(i))
		require.NoError(t, tab.Put(key(i), value(i, size)))
	}
	keys = append(keys, key(100), bytes.Repeat([]byte{1}, layout.MaxKeyBytes+1))
	for range 2 { // by the memory of the first call
		next := 0
		tab.GetMany(keys, func(i int, got []byte, err error) {
			require.Equal(t, next, i)
			next++
			switch i {
			case len(sizes):
				require.ErrorIs(t, err, table.ErrNotFound)
			case len(sizes) + 1:
				require.ErrorIs(t, err, table.ErrTooLarge)
			default:
				require.NoError(t, err)
				require.True(t, bytes.Equal(value(i, sizes[i]), got), "%d bytes", sizes[i])
			}
		})
		require.Equal(t, len(keys), next)
	}
}

// TestManyBesideOthers: groups of the same keys in any order end, and each key
// holds what somebody put whole.
func TestManyBesideOthers(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 4, 16<<20)
			const n = 120
			var wg sync.WaitGroup
			for w := range 4 {
				source := rand.New(rand.NewPCG(r.Uint64(), 0))
				wg.Go(func() {
					for version := range uint32(rounds(60, 15)) {
						var keys, values [][]byte
						for _, i := range source.Perm(n)[:70] {
							keys = append(keys, key(i))
							values = append(values, told(uint32(i), uint32(w)<<16|version, 1+source.IntN(6)))
						}
						assert.NoError(t, tab.PutMany(keys, values))
						tab.GetMany(keys, func(i int, value []byte, err error) {
							if assert.NoError(t, err) {
								_, err = readTold(layoutKey(keys[i]), value)
								assert.NoError(t, err)
							}
						})
						if version%10 == 9 {
							assert.NoError(t, tab.Sync())
						}
					}
				})
			}
			wg.Wait()
			require.Equal(t, tab.Len(), checked(t, tab).Entries)
		})
	}
}

// layoutKey is the number of a key that the function key made.
func layoutKey(k []byte) uint32 {
	return uint32(k[12])<<24 | uint32(k[13])<<16 | uint32(k[14])<<8 | uint32(k[15])
}
