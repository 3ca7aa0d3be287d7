package table_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a reader that sees a block while it is filled or
// after it was reused, a value that mixes two, and, under -race, any access that
// nothing orders. The medium is a slice on the heap, which the race detector sees
// where it does not see a mapping; the geometry is tiny, so that blocks are reused,
// split and cleared all the time. Values say whose they are (see told).

// crowd is many goroutines on one table.
type crowd struct {
	t     *testing.T
	tab   *table.Table
	keys  uint32
	units int // of a value, at most; now and then more
	seed  uint64

	issued atomic.Uint32 // versions given out: none above it may be seen
	fulls  atomic.Int64
	seen   atomic.Int64 // values read
	wg     sync.WaitGroup
	left   atomic.Int64 // writers at work
}

// run starts n goroutines that call step until the writers are done.
func (c *crowd) run(n int, step func(r *rand.Rand)) {
	for i := range n {
		r := rand.New(rand.NewPCG(c.seed, c.seed<<8|uint64(i)))
		c.seed++
		c.wg.Go(func() {
			for c.left.Load() > 0 && !c.t.Failed() {
				step(r)
			}
		})
	}
}

// write starts n writers of that many operations each.
func (c *crowd) write(n, operations int, step func(r *rand.Rand) error) {
	c.left.Add(int64(n))
	for i := range n {
		r := rand.New(rand.NewPCG(c.seed, c.seed<<8|uint64(i)))
		c.seed++
		c.wg.Go(func() {
			defer c.left.Add(-1)
			for range operations {
				if err := step(r); errors.Is(err, table.ErrFull) {
					c.fulls.Add(1)
				} else if !assert.NoError(c.t, err) {
					return
				}
			}
		})
	}
}

func (c *crowd) key(r *rand.Rand) (uint32, []byte) {
	k := r.Uint32N(c.keys)
	return k, key(int(k))
}

func (c *crowd) value(k uint32, r *rand.Rand) []byte {
	units := 1 + r.IntN(c.units)
	if c.units < 100 && r.IntN(50) == 0 {
		units = 200 + r.IntN(300) // up to a run of two chunks
	}
	return told(k, c.issued.Add(1), units)
}

// check looks at a value of key k.
func (c *crowd) check(k uint32, v []byte) {
	version, err := readTold(k, v)
	if !assert.NoError(c.t, err) {
		return
	}
	assert.LessOrEqual(c.t, version, c.issued.Load(), "a value of the future")
	c.seen.Add(1)
}

// found tells whether a read succeeded; all it may fail of is the key's absence.
func (c *crowd) found(err error) bool {
	return err == nil || !assert.ErrorIs(c.t, err, table.ErrNotFound)
}

// mutate is one random write.
func (c *crowd) mutate(r *rand.Rand) error {
	k, name := c.key(r)
	switch r.IntN(10) {
	case 0:
		return c.tab.Delete(name)
	case 1:
		old, existed, err := c.tab.Swap(name, c.value(k, r))
		if err == nil && existed {
			c.check(k, old)
		}
		return err
	case 2:
		old, existed, err := c.tab.GetAndDelete(name)
		if err == nil && existed {
			c.check(k, old)
		}
		return err
	case 3:
		_, err := c.tab.PutIfAbsent(name, c.value(k, r))
		return err
	case 4:
		return c.tab.Update(name, func(old []byte, exists bool) ([]byte, table.Op) {
			if exists {
				c.check(k, old)
			}
			return c.value(k, r), table.Op(r.IntN(3))
		})
	case 5:
		old, err := c.tab.Get(name)
		if !c.found(err) || err != nil {
			return nil
		}
		_, err = c.tab.CompareAndSwap(name, old, c.value(k, r))
		return err
	}
	return c.tab.Put(name, c.value(k, r))
}

// read is one random look.
func (c *crowd) read(r *rand.Rand) {
	k, name := c.key(r)
	switch r.IntN(12) {
	case 0:
		err := c.tab.View(name, func(v []byte) error {
			c.check(k, v)
			for range r.IntN(20) {
				runtime.Gosched()
			}
			c.check(k, v)
			return nil
		})
		c.found(err)
	case 1:
		_, err := c.tab.Has(name)
		assert.NoError(c.t, err)
	case 2:
		cursor := r.Uint64()
		_, err := c.tab.Scan(cursor, func(k, v []byte) error { c.checkEntry(k, v); return nil })
		assert.NoError(c.t, err)
	case 3:
		if r.IntN(10) > 0 {
			return
		}
		seen := make(map[string]bool)
		for k, v := range c.tab.All() {
			c.checkEntry(k, v)
			assert.False(c.t, seen[string(k)], "key %x was seen twice", k)
			seen[string(k)] = true
		}
	default:
		v, err := c.tab.Get(name)
		if c.found(err) && err == nil {
			c.check(k, v)
		}
	}
}

func (c *crowd) checkEntry(k, v []byte) {
	if assert.Len(c.t, k, 16) {
		i := uint32(k[12])<<24 | uint32(k[13])<<16 | uint32(k[14])<<8 | uint32(k[15])
		assert.Equal(c.t, key(int(i)), k)
		c.check(i, v)
	}
}

func TestCrowd(t *testing.T) {
	operations := 10_000
	if race.Enabled {
		operations = 3000
	}
	if testing.Short() {
		operations = 1000
	}
	for _, media := range mediaHere() {
		for _, s := range []struct {
			name     string
			geometry pmem.Geometry
			maxBytes int
			keys     uint32
			clears   bool
			units    int
			hook     pmem.Hook
		}{
			{"few keys", tiny(1), 1 << 20, 8, false, 8, nil},
			{"many keys", tiny(2), 4 << 20, 500, false, 8, nil},
			{"clearing", tiny(2), 4 << 20, 200, true, 8, nil},
			{"full", tiny(1), 128 << 10, 100, true, 8, nil},
			{"default geometry", pmem.Geometry{Stripes: 2}, 8 << 20, 300, true, 8, nil},
			{"few keys, writers interrupted", tiny(1), 1 << 20, 8, false, 8, new(interrupter)},
			{"clearing, writers interrupted", tiny(2), 2 << 20, 100, true, 8, new(interrupter)},
			// Reading one takes as long as overwriting it, and each one that is
			// overwritten is reused at once.
			{"large values", tiny(1), 4 << 20, 2, false, 8000, nil},
		} {
			operations := operations
			if s.units > 100 {
				operations /= 20
			}
			t.Run(fmt.Sprint(s.name, " on ", media), func(t *testing.T) {
				h := pmem.NewHeap(nil, s.maxBytes)
				tab := openOn(t, h, pmem.Options{Geometry: s.geometry, Media: media, Hook: s.hook}, &table.Options{Durability: table.OnSync})
				c := &crowd{t: t, tab: tab, keys: s.keys, units: s.units, seed: seeded(t).Uint64()}
				c.write(3, operations, c.mutate)
				c.run(3, c.read)
				c.run(1, func(r *rand.Rand) {
					switch n := r.IntN(40); {
					case n == 0 && s.clears:
						if err := tab.Clear(); !errors.Is(err, table.ErrFull) {
							assert.NoError(t, err)
						}
					case n < 10:
						assert.NoError(t, tab.Sync())
					case n < 12:
						_, err := tab.Check()
						assert.NoError(t, err)
					case n < 14:
						_, _ = tab.Len(), tab.Stats()
					default:
						c.read(r)
					}
				})
				c.wg.Wait()
				require.Positive(t, c.seen.Load())
				n := 0
				for k, v := range tab.All() {
					c.checkEntry(k, v)
					n++
				}
				require.NoError(t, tab.Err())
				require.Equal(t, n, tab.Len())
				require.Equal(t, n, checked(t, tab).Entries)
				st := tab.Stats()
				t.Logf("%d values read, %d reads repeated, %d splits, %d copies, %d times full", c.seen.Load(), st.Conflicts, st.Splits, st.Copies, c.fulls.Load())
				require.NoError(t, tab.Close())
				tab = openOn(t, h, pmem.Options{Media: media}, nil)
				require.Equal(t, n, checked(t, tab).Entries)
				require.NoError(t, tab.Close())
			})
		}
	}
}

// TestClearBesideWriters fills and clears: the tree that was cleared is walked
// and given back while writers already use its blocks again.
func TestClearBesideWriters(t *testing.T) {
	rounds := 60
	if testing.Short() || race.Enabled {
		rounds = 15
	}
	for _, media := range mediaHere() {
		tab := onHeap(t, media, 1, 1<<20) // what was cleared must be used again
		for round := range rounds {
			for i := range uint32(1500) {
				require.NoError(t, tab.Put(key(int(i)), told(i, uint32(round), 1)), "round %d", round)
			}
			require.NoError(t, tab.Clear())
			if round%10 == 0 {
				checked(t, tab)
			}
		}
	}
}
