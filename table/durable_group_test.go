package table_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a call that returns before what it did, or what it
// saw, is durable; or commits that are not shared, or not needed.

// gated is a table whose syncs of the whole file wait at a gate.
type gated struct {
	disk    *disk
	tab     *table.Table
	arrived chan int // numbers of the syncs that wait
	pass    chan struct{}
	open    atomic.Bool
	early   bool // a sync has arrived already
}

func newGated(t *testing.T, o *table.Options) *gated { return newGatedOn(t, o, tiny(4)) }

func newGatedOn(t *testing.T, o *table.Options, geometry pmem.Geometry) *gated {
	g := &gated{disk: newDisk(formatted(t, geometry), 2<<20, 0), arrived: make(chan int), pass: make(chan struct{})}
	g.open.Store(true)
	g.disk.beforeSync = func(n int, whole bool) error {
		if whole && !g.open.Load() {
			g.arrived <- n
			<-g.pass
		}
		return nil
	}
	var err error
	g.tab, err = g.disk.open(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		g.open.Store(true)
		assert.NoError(t, g.tab.Close())
	})
	return g
}

func (g *gated) shut() { g.open.Store(false) }

// arrive waits until a commit has begun its first sync.
func (g *gated) arrive() {
	if !g.early {
		select {
		case <-g.arrived:
		case <-time.After(20 * time.Second):
			panic("no commit begins")
		}
	}
	g.early = false
}

// commit lets the commit that has begun go on to its end, of one sync or of two.
func (g *gated) commit() {
	want := g.tab.Stats().Checkpoints + 1
	g.pass <- struct{}{}
	for {
		select {
		case <-g.arrived:
			if g.tab.Stats().Checkpoints >= want {
				g.early = true // the next one
				return
			}
			g.pass <- struct{}{}
		case <-time.After(100 * time.Microsecond):
			if g.tab.Stats().Checkpoints >= want {
				return
			}
		}
	}
}

// waits tells that a call is still under way after it was given time to end.
func waits(t *testing.T, done <-chan error, what string) {
	t.Helper()
	select {
	case err := <-done:
		require.Fail(t, "it did not wait", "%s returned %v", what, err)
	case <-time.After(5 * time.Millisecond):
	}
}

// written waits until as many writes as given are in the table.
func (g *gated) written(t *testing.T, writes uint64) {
	t.Helper()
	require.Eventually(t, func() bool { return g.tab.Stats().Writes == writes }, 20*time.Second, 100*time.Microsecond)
}

func TestWritersShareCommits(t *testing.T) {
	g := newGated(t, nil)
	before := g.tab.Stats().Checkpoints
	g.shut()
	first := background(func() error { return g.tab.Put(key(0), nil) })
	g.arrive()
	const others = 50
	var later []<-chan error
	for i := range others {
		later = append(later, background(func() error { return g.tab.Put(key(1+i), nil) }))
	}
	g.written(t, others+1)
	waits(t, first, "the first Put")
	g.commit()
	require.NoError(t, <-first)
	for _, done := range later {
		waits(t, done, "a Put after the cut")
		break
	}
	g.arrive() // the one commit for all others
	g.commit()
	for _, done := range later {
		require.NoError(t, <-done)
	}
	require.Equal(t, before+2, g.tab.Stats().Checkpoints)
}

// TestLoneWriterPaysOneCommit, of one sync.
func TestLoneWriterPaysOneCommit(t *testing.T) {
	d := newDisk(formatted(t, tiny(4)), 2<<20, 0)
	tab, err := d.open(nil)
	require.NoError(t, err)
	b := table.NewBatch()
	b.Put(key(1), nil)
	b.SetMetadata([]byte("meta"))
	require.NoError(t, tab.Put(key(1), nil))
	for name, call := range map[string]func() error{ // each a few blocks: one sync is enough
		"Put":            func() error { return tab.Put(key(1), nil) },
		"PutMany":        func() error { return tab.PutMany([][]byte{key(1), key(2), key(3)}, make([][]byte, 3)) },
		"Apply":          func() error { return tab.Apply(b) },
		"Swap":           func() error { _, _, err := tab.Swap(key(1), nil); return err },
		"CompareAndSwap": func() error { _, err := tab.CompareAndSwap(key(1), nil, nil); return err },
		"Update": func() error {
			return tab.Update(key(7), func([]byte, bool) ([]byte, table.Op) { return nil, table.Store })
		},
	} {
		checkpoints, syncs := tab.Stats().Checkpoints, d.syncs
		require.NoError(t, call(), name)
		require.Equal(t, checkpoints+1, tab.Stats().Checkpoints, name)
		require.Equal(t, syncs+1, d.syncs, name)
	}
	// What changes nothing, and saw nothing that is not durable, costs nothing.
	for name, call := range map[string]func() error{
		"Delete of an absent key":   func() error { return tab.Delete(key(99)) },
		"PutIfAbsent":               func() error { _, err := tab.PutIfAbsent(key(2), nil); return err },
		"CompareAndSwap that fails": func() error { _, err := tab.CompareAndSwap(key(2), []byte("no"), nil); return err },
		"CompareAndDelete":          func() error { _, err := tab.CompareAndDelete(key(2), []byte("no")); return err },
		"Update that keeps": func() error {
			return tab.Update(key(2), func([]byte, bool) ([]byte, table.Op) { return nil, table.Keep })
		},
		"Sync":           tab.Sync,
		"an empty batch": func() error { return tab.Apply(table.NewBatch()) },
		"PutMany of none": func() error {
			return tab.PutMany(nil, nil)
		},
		"Get": func() error { _, err := tab.Get(key(2)); return err },
	} {
		syncs := d.syncs
		require.NoError(t, call(), name)
		require.Equal(t, syncs, d.syncs, name)
	}
	require.NoError(t, tab.Close())
}

// TestCallsWaitForWhatTheySaw: a call that changes nothing returns when what it
// observed is durable: so nobody acts on what a power cut takes back.
func TestCallsWaitForWhatTheySaw(t *testing.T) {
	absentBatch := func() *table.Batch { b := table.NewBatch(); b.Delete(key(2)); return b }
	for name, c := range map[string]struct {
		write, see func(tab *table.Table) error
	}{
		"CompareAndSwap that fails": {
			func(tab *table.Table) error { return tab.Put(key(1), []byte("new")) },
			func(tab *table.Table) error {
				_, err := tab.CompareAndSwap(key(1), []byte("old"), []byte("other"))
				return err
			}},
		"PutIfAbsent of a present key": {
			func(tab *table.Table) error { return tab.Put(key(1), []byte("new")) },
			func(tab *table.Table) error { _, err := tab.PutIfAbsent(key(1), nil); return err }},
		"CompareAndDelete that fails": {
			func(tab *table.Table) error { return tab.Put(key(1), []byte("new")) },
			func(tab *table.Table) error { _, err := tab.CompareAndDelete(key(1), []byte("old")); return err }},
		"Update that keeps": {
			func(tab *table.Table) error { return tab.Put(key(1), []byte("new")) },
			func(tab *table.Table) error {
				return tab.Update(key(1), func([]byte, bool) ([]byte, table.Op) { return nil, table.Keep })
			}},
		"Delete of a deleted key": {
			func(tab *table.Table) error { return tab.Delete(key(2)) },
			func(tab *table.Table) error { return tab.Delete(key(2)) }},
		"GetAndDelete of a deleted key": {
			func(tab *table.Table) error { return tab.Delete(key(2)) },
			func(tab *table.Table) error { _, _, err := tab.GetAndDelete(key(2)); return err }},
		"a batch that deletes a deleted key": {
			func(tab *table.Table) error { return tab.Delete(key(2)) },
			func(tab *table.Table) error { return tab.Apply(absentBatch()) }},
		"Delete after a Clear": {
			func(tab *table.Table) error { return tab.Clear() },
			func(tab *table.Table) error { return tab.Delete(key(2)) }},
		"Sync": {
			func(tab *table.Table) error { return tab.Put(key(1), []byte("new")) },
			func(tab *table.Table) error { return tab.Sync() }},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, nil)
			prepare := func() {
				g.open.Store(true)
				require.NoError(t, g.tab.Put(key(1), []byte("old")))
				require.NoError(t, g.tab.Put(key(2), []byte("old")))
				g.shut()
			}
			prepare()
			write := background(func() error { return c.write(g.tab) })
			g.arrive() // the write is cut, and being synced
			see := background(func() error { return c.see(g.tab) })
			waits(t, see, name)
			g.commit()
			require.NoError(t, <-write)
			require.NoError(t, <-see)

			// The same when the write comes after the cut: then the next commit counts.
			prepare()
			other := background(func() error { return g.tab.Put(key(3), nil) })
			g.arrive()
			write = background(func() error { return c.write(g.tab) })
			require.Eventually(t, func() bool { // readers see it before it is durable
				v, _ := g.tab.Get(key(1))
				has, _ := g.tab.Has(key(2))
				return string(v) != "old" || !has
			}, 20*time.Second, 100*time.Microsecond)
			see = background(func() error { return c.see(g.tab) })
			g.commit()
			require.NoError(t, <-other)
			g.arrive()
			waits(t, see, name)
			waits(t, write, name)
			g.commit()
			require.NoError(t, <-write)
			require.NoError(t, <-see)
		})
	}
}

// background runs a call and returns where its error comes.
func background(call func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	return done
}

// TestSyncsShareCommits: OnSync writers do not wait, and Syncs that come together
// pay one commit.
func TestSyncsShareCommits(t *testing.T) {
	g := newGated(t, &table.Options{Durability: table.OnSync})
	before := g.tab.Stats().Checkpoints
	g.shut()
	for i := range 20 {
		require.NoError(t, g.tab.Put(key(i), nil)) // no sync, so no gate
	}
	first := background(g.tab.Sync)
	g.arrive()
	for i := range 20 {
		require.NoError(t, g.tab.Put(key(i), []byte("again"))) // writers go on while a commit syncs
	}
	var later []<-chan error
	for range 30 {
		later = append(later, background(g.tab.Sync))
	}
	for _, done := range later {
		waits(t, done, "Sync")
		break
	}
	g.commit()
	require.NoError(t, <-first)
	g.arrive()
	g.commit()
	// A Sync that came when all was durable already needed none.
	for _, done := range later {
		require.NoError(t, <-done)
	}
	require.Equal(t, before+2, g.tab.Stats().Checkpoints)
}

// TestOnSyncNeverSyncsByItself, nor does Interval when nothing is written.
func TestOnSyncNeverSyncsByItself(t *testing.T) {
	for _, o := range []table.Options{{Durability: table.OnSync}, {Durability: table.Interval(time.Millisecond)}} {
		d := newDisk(formatted(t, tiny(4)), 2<<20, 0)
		tab, err := d.open(&o)
		require.NoError(t, err)
		<-tab.Pool().Swept()
		before := d.syncs
		if o.Durability == table.OnSync {
			for i := range 500 {
				require.NoError(t, tab.Put(key(i%50), value(i, i%100)))
			}
		}
		time.Sleep(5 * time.Millisecond)
		require.Equal(t, before, d.syncs)
		require.NoError(t, tab.Close())
	}
}

// TestIntervalCommitsByItself, also what a session left that was killed; and
// writers wait when a sync takes so long that more than the interval would be lost.
func TestIntervalCommitsByItself(t *testing.T) {
	const d = 20 * time.Millisecond
	g := newGated(t, &table.Options{Durability: table.Interval(d)})
	commits := func(n uint64) {
		t.Helper()
		require.Eventually(t, func() bool { return g.tab.Stats().Checkpoints >= n }, 20*time.Second, time.Millisecond)
	}
	require.NoError(t, g.tab.Put(key(1), nil))
	commits(1)
	require.NoError(t, g.tab.Put(key(1), []byte("again")))
	commits(2)

	g.shut()
	var count atomic.Int64
	var stop atomic.Bool
	writer := background(func() error {
		for !stop.Load() {
			if err := g.tab.Put(key(2), nil); err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	})
	g.arrive() // and stays there
	time.Sleep(2 * d)
	// Now the oldest write that is not durable is older than the interval, so that
	// no call that begins may return; one may have been past its check.
	before := count.Load()
	time.Sleep(d)
	require.LessOrEqual(t, count.Load(), before+1)
	stop.Store(true)
	g.open.Store(true)
	g.pass <- struct{}{}
	require.NoError(t, <-writer)

	require.NoError(t, g.tab.Put(key(3), []byte("left")))
	kill(g.tab)
	var err error
	g.tab, err = g.disk.open(&table.Options{Durability: table.Interval(d)})
	require.NoError(t, err)
	commits(1)
	after := g.disk.after(g.disk.cutNow(seeded(t)))
	kill(g.tab)
	g.disk = after
	g.tab, err = g.disk.open(nil)
	require.NoError(t, err)
	v, err := g.tab.Get(key(3))
	require.NoError(t, err)
	require.Equal(t, "left", string(v))
}

// TestIntervalHoldsUpChangesAlone: while a commit is late, a call that changes
// nothing, and saw nothing that is not durable, returns. So that it returned says
// nothing of what is committed.
func TestIntervalHoldsUpChangesAlone(t *testing.T) {
	const d = time.Millisecond
	g := newGated(t, &table.Options{Durability: table.Interval(d)})
	there, absent := 1, 1
	for g.tab.StripeOf(key(absent)) == g.tab.StripeOf(key(there)) {
		absent++
	}
	g.shut()
	first := background(func() error { return g.tab.Put(key(there), nil) })
	g.arrive() // and stays there
	time.Sleep(d)
	require.NoError(t, g.tab.Delete(key(absent)))
	second := background(func() error { return g.tab.Put(key(absent), nil) })
	waits(t, second, "a Put")
	g.open.Store(true)
	g.pass <- struct{}{}
	require.NoError(t, <-first)
	require.NoError(t, <-second)
}

// TestWritersGoOnDuringSync: a commit that syncs for long holds no lock that a
// writer, a reader or a snapshot waits for.
func TestWritersGoOnDuringSync(t *testing.T) {
	g := newGated(t, &table.Options{Durability: table.OnSync})
	for i := range 200 {
		require.NoError(t, g.tab.Put(key(i), told(uint32(i), 1, 2)))
	}
	g.shut()
	sync1 := background(g.tab.Sync)
	g.arrive()
	for i := range 200 {
		require.NoError(t, g.tab.Put(key(i), told(uint32(i), 2, 2)))
		v, err := g.tab.Get(key(i))
		require.NoError(t, err)
		require.Equal(t, told(uint32(i), 2, 2), v)
	}
	snap, err := g.tab.Snapshot()
	require.NoError(t, err)
	b := table.NewBatch()
	b.Put(key(0), nil)
	require.NoError(t, g.tab.Apply(b))
	require.Equal(t, 200, snap.Len())
	require.NoError(t, snap.Close())
	require.NoError(t, g.tab.Clear())
	require.Zero(t, g.tab.Len())
	waits(t, sync1, "Sync")
	g.open.Store(true)
	g.pass <- struct{}{}
	require.NoError(t, <-sync1)
}

// TestManyWritersFewCommits: without any gate, many writers cost fewer commits than
// writes, and all are acknowledged.
func TestManyWritersFewCommits(t *testing.T) {
	d := newDisk(formatted(t, tiny(8)), 4<<20, 0)
	d.beforeSync = func(int, bool) error { time.Sleep(100 * time.Microsecond); return nil }
	tab, err := d.open(nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	const writers, each = 16, 20
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				assert.NoError(t, tab.Put(key(w*each+i), nil))
			}
		})
	}
	wg.Wait()
	s := tab.Stats()
	require.EqualValues(t, writers*each, s.Writes)
	require.Less(t, s.Checkpoints, uint64(writers*each/2))
	t.Logf("%d writes, %d commits", s.Writes, s.Checkpoints)
	require.NoError(t, tab.Close())
}
