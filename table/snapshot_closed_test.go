package table_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a closed snapshot that still reads, a Close that
// does not wait for those who read, or waits for what never comes.

// snapCalls is every method of a snapshot that returns an error.
func snapCalls(s *table.Snapshot) map[string]error {
	m := map[string]error{
		"Get":       second(s.Get(key(1))),
		"AppendGet": second(s.AppendGet(nil, key(1))),
		"Has":       second(s.Has(key(1))),
		"Metadata":  second(s.Metadata()),
		"Scan":      second(s.Scan(0, func(_, _ []byte) error { return fmt.Errorf("found something") })),
		"Backup":    s.Backup(discard{}),
	}
	for range s.All() {
		m["All"] = fmt.Errorf("found something")
	}
	if m["All"] == nil {
		m["All"] = s.Err()
	}
	return m
}

func TestClosedSnapshot(t *testing.T) {
	tab, err := table.OpenPool(poolOn(t, pmem.Tmpfs), nil)
	require.NoError(t, err)
	require.NoError(t, tab.Put(key(1), nil))
	closed, err := tab.Snapshot()
	require.NoError(t, err)
	leaked, err := tab.Snapshot()
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close())
	for name, err := range snapCalls(closed) {
		require.ErrorIs(t, err, table.ErrClosed, name)
	}
	require.Equal(t, 1, closed.Len(), "what needs no reading stays")
	time.Sleep(time.Millisecond)
	s := tab.Stats()
	require.Equal(t, 1, s.Snapshots)
	require.GreaterOrEqual(t, s.SnapshotAge, time.Millisecond)
	require.NoError(t, tab.Close()) // a leaked snapshot does not keep it
	for name, err := range snapCalls(leaked) {
		require.ErrorIs(t, err, table.ErrClosed, name)
	}
	require.NoError(t, leaked.Close())
	_, err = tab.Snapshot()
	require.ErrorIs(t, err, table.ErrClosed)
}

func poolOn(t *testing.T, media pmem.Media) *pmem.Pool {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 4<<20), pmem.Options{Geometry: tiny(2), Media: media})
	require.NoError(t, err)
	return p
}

// TestSnapshotCloseWaitsForReaders: its own Close, and the table's, return only
// when no call reads the snapshot any more, since then its blocks are reused.
func TestSnapshotCloseWaitsForReaders(t *testing.T) {
	for _, closes := range []string{"snapshot", "table"} {
		t.Run(closes, func(t *testing.T) {
			var block atomic.Bool
			reached, release := make(chan struct{}), make(chan struct{})
			hash := func(key []byte) uint64 { // a scan hashes the keys that it reads
				if block.CompareAndSwap(true, false) {
					close(reached)
					<-release
				}
				return xxh3.Hash(key)
			}
			tab, err := table.OpenColliding(poolOn(t, pmem.Tmpfs), nil, hash)
			require.NoError(t, err)
			for i := range 50 {
				require.NoError(t, tab.Put(key(i), told(uint32(i), 1, 2)))
			}
			snap, err := tab.Snapshot()
			require.NoError(t, err)
			block.Store(true)
			scanned := background(func() error {
				_, err := snap.Scan(0, func(k, v []byte) error {
					_, err := readTold(uint32(binary.BigEndian.Uint64(k[8:])), v)
					return err
				})
				return err
			})
			<-reached
			closed := background(func() error {
				if closes == "table" {
					return tab.Close()
				}
				return snap.Close()
			})
			waits(t, closed, "Close")
			if closes == "snapshot" {
				for i := range 50 { // would reuse what the scan looks at
					require.NoError(t, tab.Put(key(i), told(uint32(i), 2, 2)))
				}
				tab.MakeRoom()
			}
			close(release)
			require.NoError(t, <-scanned)
			require.NoError(t, <-closed)
			require.NoError(t, tab.Close())
		})
	}
}

// TestSnapshotWhileMarking: after an unclean end nobody knows the count until the
// marking is done; a snapshot waits for it, and so does Close.
func TestSnapshotWhileMarking(t *testing.T) {
	for _, closes := range []bool{false, true} {
		g := newGated(t, &table.Options{Durability: table.OnSync})
		want := diskState{entries: map[string]string{}}
		for i := range 300 {
			require.NoError(t, g.tab.Put(key(i), value(i, i%50)))
			want.entries[string(key(i))] = string(value(i, i%50))
			if i == 100 {
				require.NoError(t, g.tab.Sync())
			}
		}
		kill(g.tab)
		hold, held := make(chan struct{}), make(chan struct{})
		var once sync.Once
		g.disk.beforePiece = func(from uint64) {
			if from >= g.disk.geometry.Regions().Superblock[0] { // not a session record
				once.Do(func() { close(held) })
				<-hold
			}
		}
		var err error
		g.tab, err = g.disk.open(&table.Options{Durability: table.OnSync})
		require.NoError(t, err)
		<-held // the marking is at the sync that ends it
		v, err := g.tab.Get(key(299))
		require.NoError(t, err)
		require.Equal(t, value(299, 49), v)
		var snap *table.Snapshot
		got := background(func() (err error) { snap, err = g.tab.Snapshot(); return err })
		waits(t, got, "Snapshot")
		if closes {
			closed := background(g.tab.Close)
			waits(t, closed, "Close")
			close(hold)
			<-got // with a snapshot or not
			require.NoError(t, <-closed)
			continue
		}
		close(hold)
		require.NoError(t, <-got)
		require.NoError(t, g.tab.Put(key(1001), nil))
		have, err := snapState(snap)
		require.NoError(t, err)
		require.Empty(t, diffOf(want, have))
		require.NoError(t, snap.Close())
	}
}
