package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
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

// The failure looked for here: many snapshots that many goroutines read and close
// at the same time, while others write: one that shows another instant than when it
// was first read, that reads on after its Close, or keeps what it held.

// shared is a snapshot with what it was found to hold at first.
type shared struct {
	snap *table.Snapshot
	len  int
	sum  uint64 // of all entries, in any order
}

// snapCrowd is a set of snapshots that everybody takes from.
type snapCrowd struct {
	t    *testing.T
	bank *bank
	seed maphash.Seed

	mu    sync.Mutex
	snaps []*shared

	audits, walks, late atomic.Int64
}

// sumAll sums the entries of a snapshot up.
func (c *snapCrowd) sumAll(s *table.Snapshot) (sum uint64, n int, err error) {
	for k, v := range s.All() {
		var h maphash.Hash
		h.SetSeed(c.seed)
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(k))))
		_, _ = h.Write(k)
		_, _ = h.Write(v)
		sum += h.Sum64()
		n++
	}
	return sum, n, nil
}

// take adds a snapshot, and notes what it holds.
func (c *snapCrowd) take() error {
	snap, err := c.bank.tab.Snapshot()
	if err != nil {
		return err
	}
	s := &shared{snap: snap, len: snap.Len()}
	var n int
	if s.sum, n, err = c.sumAll(snap); err != nil || snap.Err() != nil || n != s.len {
		return fmt.Errorf("%d entries, Len is %d, %w", n, s.len, errors.Join(err, snap.Err()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snaps = append(c.snaps, s)
	return nil
}

// pick is any of the snapshots, nil if there is none; gone: it is taken out.
func (c *snapCrowd) pick(r *rand.Rand, gone bool) *shared {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.snaps) == 0 {
		return nil
	}
	i := r.IntN(len(c.snaps))
	s := c.snaps[i]
	if gone {
		c.snaps = append(c.snaps[:i], c.snaps[i+1:]...)
	}
	return s
}

// read looks at a snapshot that others read and may close: it is as it was, or closed.
func (c *snapCrowd) read(r *rand.Rand, s *shared) error {
	var err error
	switch r.IntN(4) {
	case 0:
		if err = c.bank.audit(s.snap.Get, s.snap.Metadata); err == nil {
			c.audits.Add(1)
		}
	case 1:
		var has bool
		if has, err = s.snap.Has(bankKey(0, r.IntN(bankAccounts))); err == nil && !has {
			return errors.New("an account is not there")
		}
	case 2:
		var sum uint64
		var n int
		if sum, n, err = c.sumAll(s.snap); err == nil {
			// Err is of the last All of all goroutines: an iteration that was cut off
			// by a Close has fewer entries.
			if n == s.len && sum != s.sum {
				return errors.New("the entries are not what they were")
			}
			if n != s.len {
				_, err = s.snap.Has(nil)
				if err == nil {
					return fmt.Errorf("%d entries, %d at first", n, s.len)
				}
			} else {
				c.walks.Add(1)
			}
		}
	default:
		if n := s.snap.Len(); n != s.len {
			return fmt.Errorf("Len is %d, %d at first", n, s.len)
		}
	}
	if errors.Is(err, table.ErrClosed) {
		c.late.Add(1)
		return nil
	}
	return err
}

// step is one thing that one of the crowd does.
func (c *snapCrowd) step(r *rand.Rand) error {
	switch n := r.IntN(20); {
	case n < 2:
		c.mu.Lock()
		many := len(c.snaps) > 30
		c.mu.Unlock()
		if !many {
			return c.take()
		}
	case n < 4:
		if s := c.pick(r, true); s != nil {
			var twice sync.WaitGroup
			if r.IntN(2) == 0 {
				twice.Go(func() { assert.NoError(c.t, s.snap.Close()) })
			}
			err := s.snap.Close()
			twice.Wait()
			if _, e := s.snap.Get(nil); !errors.Is(e, table.ErrClosed) {
				return fmt.Errorf("a Get after Close: %w", e)
			}
			return err
		}
	default:
		if s := c.pick(r, false); s != nil {
			return c.read(r, s)
		}
		runtime.Gosched()
	}
	return nil
}

func TestSnapshotCrowd(t *testing.T) {
	steps := 600
	if testing.Short() || race.Enabled {
		steps = 60
	}
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 4, 24<<20)
			c := &snapCrowd{t: t, bank: newBank(t, tab, 2), seed: maphash.MakeSeed()}
			var writers, crowd sync.WaitGroup
			for clerk := range 2 {
				source := rand.New(rand.NewPCG(r.Uint64(), 0))
				writers.Go(func() { assert.NoError(t, c.bank.work(clerk, source)) })
			}
			for range 4 {
				source := rand.New(rand.NewPCG(r.Uint64(), 1))
				crowd.Go(func() {
					for range steps {
						if !assert.NoError(t, c.step(source)) {
							return
						}
					}
				})
			}
			crowd.Wait()
			c.bank.stop.Store(true)
			writers.Wait()
			require.Equal(t, len(c.snaps), tab.Stats().Snapshots)
			for _, s := range c.snaps {
				require.NoError(t, s.snap.Close())
			}
			require.Zero(t, tab.Stats().Snapshots)
			require.NoError(t, tab.Sync())
			tab.MakeRoom()
			if media != pmem.PageCache { // where the committed root holds some
				require.Zero(t, tab.Stats().ProtectedBlocks)
			}
			checked(t, tab)
			t.Logf("%d transfers, %d audits, %d walks, %d reads came after a Close", c.bank.done.Load(), c.audits.Load(), c.walks.Load(), c.late.Load())
		})
	}
}

// TestLeakedSnapshotIsReported: one that nobody closes shows in Stats, with its age,
// and in the space that is used, however often the collector runs; the table works
// on, and closes.
func TestLeakedSnapshotIsReported(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 2, 8<<20)
			write := func(v int) {
				for i := range 300 {
					require.NoError(t, tab.Put(key(i), value(v, 80)))
				}
			}
			write(0)
			func() {
				_, err := tab.Snapshot()
				require.NoError(t, err)
			}()
			write(1)
			runtime.GC()
			runtime.GC()
			age := tab.Stats().SnapshotAge
			write(2)
			s := tab.Stats()
			require.Equal(t, 1, s.Snapshots)
			require.Positive(t, age)
			require.Greater(t, s.SnapshotAge, age)
			require.Positive(t, s.ProtectedBlocks)
			used := s.UsedBytes
			for v := range rounds(30, 10) { // what it holds stays; more does not come
				write(3 + v)
				require.NoError(t, tab.Sync())
			}
			tab.MakeRoom()
			require.LessOrEqual(t, tab.Stats().UsedBytes, 2*used)
			var stream bytes.Buffer
			require.NoError(t, tab.Backup(&stream)) // a second one beside it
			require.Equal(t, 1, tab.Stats().Snapshots)
			checked(t, tab)
		})
	}
}
