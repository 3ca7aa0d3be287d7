package table_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a snapshot that is not one instant, or changes, or
// keeps space for ever; or a call that waits for what never comes.

// snapState reads a snapshot in every way, and checks that all agree.
func snapState(s *table.Snapshot) (diskState, error) {
	have := diskState{entries: map[string]string{}}
	for k, v := range s.All() {
		if _, twice := have.entries[string(k)]; twice {
			return have, fmt.Errorf("key %q comes twice", k)
		}
		have.entries[string(k)] = string(v)
	}
	if err := s.Err(); err != nil {
		return have, err
	}
	n := 0
	for cursor := uint64(0); ; {
		next, err := s.Scan(cursor, func(k, v []byte) error {
			n++
			if have.entries[string(k)] != string(v) {
				return fmt.Errorf("key %q: All has %q, Scan has %q", k, have.entries[string(k)], v)
			}
			return nil
		})
		if err != nil {
			return have, err
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if n != len(have.entries) || s.Len() != n {
		return have, fmt.Errorf("All has %d, Scan %d, Len is %d", len(have.entries), n, s.Len())
	}
	var buf []byte
	for k, v := range have.entries {
		got, err := s.Get([]byte(k))
		if err != nil || string(got) != v {
			return have, fmt.Errorf("key %q: All has %q, Get has %q, %w", k, v, got, err)
		}
		if buf, err = s.AppendGet(buf[:0], []byte(k)); err != nil || string(buf) != v {
			return have, fmt.Errorf("key %q: AppendGet has %q, %w", k, buf, err)
		}
		if has, err := s.Has([]byte(k)); !has || err != nil {
			return have, fmt.Errorf("key %q: Has says %v, %w", k, has, err)
		}
	}
	meta, err := s.Metadata()
	have.meta = string(meta)
	return have, err
}

// TestSnapshotsStayAsTheyAre: many snapshots of a table that goes through
// everything, each read again and again, closed in any order.
func TestSnapshotsStayAsTheyAre(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 1<<r.IntN(3), 24<<20)
			now := diskState{entries: map[string]string{}}
			type taken struct {
				snap *table.Snapshot
				want diskState
			}
			var open []taken
			for round := range rounds(60, 20) {
				for range 1 + r.IntN(80) {
					k, v := fmt.Sprint("key ", r.IntN(300)), string(value(round, r.IntN(90)))
					switch r.IntN(12) {
					case 0, 1, 2:
						require.NoError(t, tab.Delete([]byte(k)))
						delete(now.entries, k)
					case 3:
						b := table.NewBatch()
						now.meta = fmt.Sprint("round ", round, r.Int())
						b.SetMetadata([]byte(now.meta))
						b.Put([]byte(k), []byte(v))
						require.NoError(t, tab.Apply(b))
						now.entries[k] = v
					default:
						require.NoError(t, tab.Put([]byte(k), []byte(v)))
						now.entries[k] = v
					}
				}
				switch r.IntN(8) {
				case 0:
					require.NoError(t, tab.Clear())
					clear(now.entries)
				case 1:
					require.NoError(t, tab.Sync())
				case 2:
					checked(t, tab)
				}
				if len(open) < 20 && r.IntN(3) > 0 {
					s, err := tab.Snapshot()
					require.NoError(t, err)
					open = append(open, taken{s, now.clone()})
				}
				require.Equal(t, len(open), tab.Stats().Snapshots)
				if len(open) == 0 {
					continue
				}
				i := r.IntN(len(open))
				have, err := snapState(open[i].snap)
				require.NoError(t, err)
				require.Empty(t, diffOf(open[i].want, have))
				_, err = open[i].snap.Get([]byte("no key"))
				require.Equal(t, table.ErrNotFound, err)
				if r.IntN(2) == 0 {
					require.NoError(t, open[i].snap.Close())
					open = append(open[:i], open[i+1:]...)
				}
			}
			for _, o := range open {
				have, err := snapState(o.snap)
				require.NoError(t, err)
				require.Empty(t, diffOf(o.want, have))
				require.NoError(t, o.snap.Close())
			}
			have, err := readState(tab)
			require.NoError(t, err)
			require.Empty(t, diffOf(now, have))
		})
	}
}

// bank is accounts of several clerks, who transfer by batches: each keeps the sum
// of his, and the number of his last transfer, and the first that of his own in
// the metadata too.
type bank struct {
	tab    *table.Table
	clerks int
	stop   atomic.Bool
	done   atomic.Int64 // transfers
}

const bankAccounts, bankSum = 10, 1000

func bankKey(clerk, account int) []byte {
	return fmt.Appendf(nil, "clerk %d account %d", clerk, account)
}

func newBank(t require.TestingT, tab *table.Table, clerks int) *bank {
	b := &bank{tab: tab, clerks: clerks}
	for c := range clerks {
		batch := table.NewBatch()
		for a := range bankAccounts {
			batch.Put(bankKey(c, a), binary.LittleEndian.AppendUint64(nil, bankSum/bankAccounts))
		}
		batch.Put(bankKey(c, -1), binary.LittleEndian.AppendUint64(nil, 0))
		if c == 0 {
			batch.SetMetadata(binary.LittleEndian.AppendUint64(nil, 0))
		}
		require.NoError(t, tab.Apply(batch))
	}
	return b
}

// work transfers until stop; between the transfers it writes something else, so
// that segments split and values move.
func (b *bank) work(clerk int, r *rand.Rand) error {
	var money [bankAccounts]uint64
	for a := range money {
		money[a] = bankSum / bankAccounts
	}
	batch := table.NewBatch()
	for n := uint64(1); !b.stop.Load(); n++ {
		from, to := r.IntN(bankAccounts), r.IntN(bankAccounts)
		amount := min(money[from], uint64(r.IntN(50)))
		money[from] -= amount
		money[to] += amount
		batch.Reset()
		for _, a := range []int{from, to} {
			v := binary.LittleEndian.AppendUint64(nil, money[a])
			batch.Put(bankKey(clerk, a), append(v, make([]byte, r.IntN(40))...))
		}
		batch.Put(bankKey(clerk, -1), binary.LittleEndian.AppendUint64(nil, n))
		if clerk == 0 {
			batch.SetMetadata(binary.LittleEndian.AppendUint64(nil, n))
		}
		if err := b.tab.Apply(batch); err != nil {
			return err
		}
		b.done.Add(1)
		noise := fmt.Appendf(nil, "noise %d %d", clerk, r.IntN(200))
		var err error
		switch r.IntN(4) {
		case 0:
			err = b.tab.Delete(noise)
		case 1:
			err = b.tab.PutMany([][]byte{noise, append(noise, 'x')}, [][]byte{make([]byte, r.IntN(200)), nil})
		default:
			err = b.tab.Put(noise, make([]byte, r.IntN(60)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// audit checks that what get reads is one instant.
func (b *bank) audit(get func(key []byte) ([]byte, error), metadata func() ([]byte, error)) error {
	for c := range b.clerks {
		sum := uint64(0)
		for a := range bankAccounts {
			v, err := get(bankKey(c, a))
			if err != nil {
				return fmt.Errorf("account %d of clerk %d: %w", a, c, err)
			}
			sum += binary.LittleEndian.Uint64(v)
		}
		if sum != bankSum {
			return fmt.Errorf("the accounts of clerk %d have %d", c, sum)
		}
	}
	v, err := get(bankKey(0, -1))
	if err != nil {
		return err
	}
	meta, err := metadata()
	if err != nil {
		return err
	}
	if n, m := binary.LittleEndian.Uint64(v), binary.LittleEndian.Uint64(meta); n != m {
		return fmt.Errorf("the metadata say %d, the entry beside them %d", m, n)
	}
	return nil
}

func TestSnapshotsUnderLoad(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			tab := onHeap(t, media, 4, 24<<20)
			const clerks = 3
			b := newBank(t, tab, clerks)
			var wg sync.WaitGroup
			for c := range clerks {
				source := rand.New(rand.NewPCG(r.Uint64(), 0))
				wg.Go(func() { assert.NoError(t, b.work(c, source)) })
			}
			wg.Go(func() { // commits come in between
				for !b.stop.Load() {
					assert.NoError(t, tab.Sync())
					time.Sleep(time.Millisecond)
				}
			})
			var open []*table.Snapshot
			last := uint64(0)
			for n := range rounds(60, 15) {
				before := b.done.Load()
				for b.done.Load() < before+5 && !t.Failed() {
					time.Sleep(10 * time.Microsecond)
				}
				s, err := tab.Snapshot()
				require.NoError(t, err)
				require.NoError(t, b.audit(s.Get, s.Metadata), "snapshot %d", n)
				meta, err := s.Metadata()
				require.NoError(t, err)
				require.GreaterOrEqual(t, binary.LittleEndian.Uint64(meta), last)
				last = binary.LittleEndian.Uint64(meta)
				if open = append(open, s); len(open) > 6 {
					i := r.IntN(len(open))
					require.NoError(t, b.audit(open[i].Get, open[i].Metadata), "an old snapshot")
					if n%5 == 0 {
						_, err := snapState(open[i])
						require.NoError(t, err)
					}
					require.NoError(t, open[i].Close())
					open = append(open[:i], open[i+1:]...)
				}
			}
			b.stop.Store(true)
			wg.Wait()
			for _, s := range open {
				require.NoError(t, b.audit(s.Get, s.Metadata))
				require.NoError(t, s.Close())
			}
			require.NoError(t, b.audit(tab.Get, tab.Metadata))
			checked(t, tab)
		})
	}
}

// TestSnapshotSpaceComesBack: what only a snapshot holds is free when it is closed,
// so rounds of snapshots and rewrites do not let the file grow.
func TestSnapshotSpaceComesBack(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 2, 8<<20)
			const n = 400
			round := func(v int) {
				for i := range n {
					require.NoError(t, tab.Put(key(i), value(v, 60)))
				}
			}
			size := int64(0)
			for v := range 40 {
				first, err := tab.Snapshot()
				require.NoError(t, err)
				round(v)
				second, err := tab.Snapshot()
				require.NoError(t, err)
				if v > 0 {
					require.Positive(t, tab.Stats().ProtectedBlocks)
				}
				if v%8 == 5 {
					require.NoError(t, tab.Clear())
				}
				round(v)
				if v%2 == 0 {
					first, second = second, first
				}
				require.NoError(t, first.Close())
				require.NoError(t, second.Close())
				require.NoError(t, tab.Sync())
				tab.MakeRoom()
				s := tab.Stats()
				require.Zero(t, s.Snapshots)
				if media != pmem.PageCache { // where the committed root holds some
					require.Zero(t, s.ProtectedBlocks)
				}
				if v <= 15 {
					size = max(size, s.FileSizeBytes)
				} else { // an extent may have been added ahead of need
					require.LessOrEqual(t, s.FileSizeBytes, size+4*s.ChunkSizeBytes)
				}
			}
		})
	}
}

// TestSnapshotAndNoRoom: with a snapshot that holds everything, a full table says
// so, to the one who has the snapshot too, and works again when it is closed.
func TestSnapshotAndNoRoom(t *testing.T) {
	for _, media := range mediaHere() {
		for _, clears := range []bool{false, true} {
			t.Run(fmt.Sprint(media, ", cleared ", clears), func(t *testing.T) {
				tab := onHeap(t, media, 1, 256<<10)
				fill := func() (n int) {
					for ; ; n++ {
						if err := tab.Put(key(n), value(n, 300)); err != nil {
							require.ErrorIs(t, err, table.ErrFull)
							return n
						}
					}
				}
				n := fill()
				require.Greater(t, n, 200)
				snap, err := tab.Snapshot()
				require.NoError(t, err)
				if clears {
					require.NoError(t, tab.Clear())
				} else {
					for i := 0; i < n && err == nil; i++ { // as far as deletes find room for copies
						err = tab.Delete(key(i))
					}
					if err != nil {
						require.ErrorIs(t, err, table.ErrFull)
					}
				}
				full := make(chan int)
				go func() { full <- fill() }()
				select {
				case again := <-full:
					require.Less(t, again, n)
				case <-time.After(20 * time.Second):
					require.Fail(t, "a Put waits for the room that a snapshot holds")
				}
				have, err := snapState(snap)
				require.NoError(t, err)
				require.Len(t, have.entries, n)
				require.Equal(t, 1, tab.Stats().Snapshots)
				require.NoError(t, snap.Close())
				require.NoError(t, tab.Clear())
				require.InDelta(t, n, fill(), float64(n)/8)
				checked(t, tab)
			})
		}
	}
}
