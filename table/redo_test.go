package table_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here, of the log: a call that returns before what it did or
// saw is in it, or before the root is durable that its frames go on from; a frame that
// takes up room which a root still needs; an open after a power cut, or a read of what
// a failed sync left, without what the log holds, or with more than that.

// newLogged is a gated table of Always whose log is open: a first commit was made.
func newLogged(t *testing.T, logBytes int) *gated {
	g := newGatedOn(t, nil, withLog(4, logBytes))
	require.NoError(t, g.tab.Put(key(0), []byte("first")))
	return g
}

// afterCut is the content of the table that a power cut now leaves.
func (g *gated) afterCut(t *testing.T, r *rand.Rand) map[string]string {
	t.Helper()
	after := g.disk.after(g.disk.cutNow(r))
	tab, err := after.open(nil)
	require.NoError(t, err)
	defer kill(tab)
	checked(t, tab)
	return contents(t, tab)
}

// returns waits for a call that nothing holds up.
func returns(t *testing.T, done <-chan error, what string) {
	t.Helper()
	select {
	case err := <-done:
		require.NoError(t, err, what)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it does not return", what)
	}
}

// TestLogSparesCommits: a call of each kind costs one sync of a piece of the file, and
// no commit.
func TestLogSparesCommits(t *testing.T) {
	g := newLogged(t, 64<<10)
	tab, d := g.tab, g.disk
	g.shut() // a sync of the whole file would not return
	b := table.NewBatch()
	b.Put(key(1), []byte("batch"))
	b.Delete(key(2))
	b.SetMetadata([]byte("meta"))
	for i, call := range []func() error{
		func() error { return tab.Put(key(1), []byte("put")) },
		func() error { return tab.PutMany([][]byte{key(1), key(2), key(3)}, make([][]byte, 3)) },
		func() error { return tab.Apply(b) },
		func() error { _, _, err := tab.Swap(key(1), []byte("swapped")); return err },
		func() error { return second(tab.CompareAndSwap(key(1), []byte("swapped"), []byte("compared"))) },
		func() error { return second(tab.CompareAndDelete(key(3), nil)) },
		func() error { _, _, err := tab.GetAndDelete(key(0)); return err },
		func() error {
			return tab.Update(key(7), func([]byte, bool) ([]byte, table.Op) { return []byte("updated"), table.Store })
		},
	} {
		checkpoints, syncs, flushes := tab.Stats().Checkpoints, d.syncs, tab.Stats().LogFlushes
		returns(t, background(call), fmt.Sprint("call ", i))
		require.Equal(t, checkpoints, tab.Stats().Checkpoints, "call %d", i)
		require.Equal(t, syncs+1, d.syncs, "call %d", i)
		require.Equal(t, flushes+1, tab.Stats().LogFlushes, "call %d", i)
	}
	syncs := d.syncs
	require.NoError(t, tab.Sync())
	require.NoError(t, second(tab.CompareAndSwap(key(1), []byte("no"), nil)))
	require.Equal(t, syncs, d.syncs, "what was seen is durable")
	want := map[string]string{string(key(1)): "compared", string(key(7)): "updated"}
	require.Equal(t, want, contents(t, tab))
	r := seeded(t)
	for range 20 {
		require.Equal(t, want, g.afterCut(t, r))
	}
}

// TestLogClosesForWhatItDoesNotHold: a change that is not logged, and every call after
// it, waits for the commit that holds it, and no part of them is there before.
func TestLogClosesForWhatItDoesNotHold(t *testing.T) {
	r := seeded(t)
	for name, call := range map[string]func(tab *table.Table) error{
		"a large value": func(tab *table.Table) error { return tab.Put(key(1), value(1, 40_000)) },
		"Clear":         func(tab *table.Table) error { return tab.Clear() },
		"a large batch": func(tab *table.Table) error {
			b := table.NewBatch()
			for i := range 40 {
				b.Put(key(100+i), value(i, 1000))
			}
			return tab.Apply(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newLogged(t, 16<<10)
			before := contents(t, g.tab)
			g.shut()
			unlogged := background(func() error { return call(g.tab) })
			g.arrive() // its commit has cut
			inCommit := contents(t, g.tab)
			require.NotEqual(t, before, inCommit)
			after := background(func() error { return g.tab.Put(key(2), []byte("after")) })
			require.Eventually(t, func() bool { has, _ := g.tab.Has(key(2)); return has }, 20*time.Second, 100*time.Microsecond)
			waits(t, unlogged, name)
			waits(t, after, "the Put after it")
			saw := background(func() error { return second(g.tab.CompareAndSwap(key(2), []byte("other"), nil)) })
			waits(t, saw, "a call that saw the Put")
			everything := contents(t, g.tab)
			for range 20 {
				require.Contains(t, []map[string]string{before, inCommit}, g.afterCut(t, r))
			}
			g.commit()
			returns(t, unlogged, name)
			returns(t, after, "the Put after it: the log is open again")
			returns(t, saw, "the call that saw it")
			for range 20 {
				require.Equal(t, everything, g.afterCut(t, r))
			}
		})
	}
}

// TestLogKeepsWhatARootNeeds: while a commit cannot end, a writer fills the log up and
// then waits; nothing of it is overwritten that the old root needs.
func TestLogKeepsWhatARootNeeds(t *testing.T) {
	g := newLogged(t, 4<<10)
	r := seeded(t)
	state := func(puts int64) map[string]string {
		m := map[string]string{string(key(0)): "first"}
		for i := range int(puts) {
			m[string(key(i%5))] = string(value(i, 50))
		}
		return m
	}
	g.shut()
	var puts atomic.Int64
	var stop atomic.Bool
	writer := background(func() error {
		for i := 0; !stop.Load(); i++ {
			if err := g.tab.Put(key(i%5), value(i, 50)); err != nil {
				return err
			}
			puts.Add(1)
		}
		return nil
	})
	g.arrive() // the commit that makes room, or that of the Put that found none
	require.Eventually(t, func() bool { return !g.tab.LogOpen() }, 20*time.Second, 100*time.Microsecond)
	for range 30 {
		before := puts.Load()
		have := g.afterCut(t, r)
		require.Contains(t, []map[string]string{state(before), state(before + 1)}, have)
	}
	require.Greater(t, puts.Load(), int64(20), "the log holds some")
	g.open.Store(true)
	g.pass <- struct{}{}
	require.Eventually(t, func() bool { return puts.Load() > 1000 }, 60*time.Second, time.Millisecond) // many times around the ring
	stop.Store(true)
	returns(t, writer, "the writer")
	for range 10 {
		require.Equal(t, state(puts.Load()), g.afterCut(t, r))
	}
}

// TestLogGrows up to its room where much is written, in a table that is not small.
func TestLogGrows(t *testing.T) {
	g := newLogged(t, 64<<10)
	require.EqualValues(t, 4<<10, g.tab.Stats().LogSizeBytes)
	for i := range 3000 {
		require.NoError(t, g.tab.Put(key(i%1000), value(i, 60)))
	}
	s := g.tab.Stats()
	require.EqualValues(t, 64<<10, s.LogSizeBytes)
	require.Less(t, s.Checkpoints, uint64(100))
	require.Equal(t, contents(t, g.tab), g.afterCut(t, seeded(t)))
}

// TestOpenTakesTheLogUpWhereThereIsNoRoom: what the committed root still holds is more
// than the medium has beside it, so the changes of the log are committed in parts.
func TestOpenTakesTheLogUpWhereThereIsNoRoom(t *testing.T) {
	r := seeded(t)
	const keys = 150
	d := newDisk(formatted(t, withLog(1, 256<<10)), 2<<20, 0)
	tab, err := d.open(nil)
	require.NoError(t, err)
	for i := range keys {
		require.NoError(t, tab.Put(key(i), value(i, 800)))
	}
	require.NoError(t, tab.Compact()) // commits, with a log that has grown
	for i := range 60 {
		require.NoError(t, tab.Put(key(i), value(i+1, 800)))
	}
	want := contents(t, tab)
	before := tab.Stats().Checkpoints
	kill(tab)
	image := d.cutNow(r)
	for len(image) > d.durableSize { // what the file had grown by is lost
		image = d.cutNow(r)
	}
	d = d.after(image)
	d.heap.LimitBytes = int64(len(image))
	var cuts [][]byte // at the syncs of the open
	d.beforeSync = func(int, bool) error {
		cuts = append(cuts, d.cutNow(r))
		return nil
	}
	open := func(d *disk) *table.Table {
		tab, err := d.open(nil)
		require.NoError(t, err, "%d commits before", before)
		require.Equal(t, want, contents(t, tab))
		checked(t, tab)
		return tab
	}
	tab = open(d)
	s := tab.Stats()
	require.NotZero(t, s.LogReplayed)
	require.Greater(t, s.Checkpoints, uint64(1), "one for the room")
	d.beforeSync = nil
	require.NoError(t, tab.Close())
	for _, image := range cuts {
		again := d.after(image)
		again.heap.LimitBytes = d.heap.LimitBytes
		kill(open(again))
	}
}

// TestClosedTableHasNoLog: its space is a hole again, so that nothing of it is found in
// the file, and a session that follows begins with an empty one.
func TestClosedTableHasNoLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.pmt")
	for round := range 3 {
		tab, err := table.Open(path, &table.Options{Media: pmem.PageCache})
		require.NoError(t, err)
		for i := range 100 {
			require.NoError(t, tab.Put(key(i), fmt.Appendf(nil, "[round %d of key %d]", round, i)))
		}
		require.NotZero(t, tab.Stats().LogFlushes)
		require.NoError(t, tab.Close())
		for range 2 { // the second after a session that ended before its first commit
			tab, err = table.Open(path, &table.Options{Media: pmem.PageCache})
			require.NoError(t, err)
			require.Zero(t, tab.Stats().LogSizeBytes, "the hole is no ring")
			kill(tab)
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		if runtime.GOOS == "linux" {
			for i := range 100 {
				require.Equal(t, 1, bytes.Count(content, fmt.Appendf(nil, "[round %d of key %d]", round, i)), "key %d", i)
			}
		}
	}
}

// TestPoisonKeepsTheLog: after a failed sync, of the log or of a commit, readers see
// what was acknowledged through the log, and nothing else; so does the next open, and
// the one after a power cut before that one has committed anything.
func TestPoisonKeepsTheLog(t *testing.T) {
	r := seeded(t)
	for _, inLog := range []bool{true, false} {
		for _, reboot := range []bool{true, false} {
			t.Run(fmt.Sprintf("in the log %v, reboot %v", inLog, reboot), func(t *testing.T) {
				const maxBytes = 512 << 10
				image := formatted(t, withLog(4, 64<<10))
				d := newDisk(append(image, make([]byte, maxBytes-len(image))...), maxBytes, 0)
				d.dropping(t, r)
				tab, err := d.open(nil)
				require.NoError(t, err)
				for i := range 20 {
					require.NoError(t, tab.Put(key(i), []byte("root")))
				}
				require.NoError(t, tab.Compact()) // commits
				b := table.NewBatch()
				b.Put(key(1), []byte("log"))
				b.Delete(key(2))
				b.Put(key(30), []byte("log"))
				b.SetMetadata([]byte("log"))
				require.NoError(t, tab.Apply(b))
				want, length := contents(t, tab), tab.Len()
				require.Equal(t, 20, length)

				failed := false
				d.beforeSync = func(_ int, whole bool) error {
					if whole != inLog && !failed { // the record of the failure comes through
						failed = true
						return errMedium
					}
					return nil
				}
				if inLog {
					require.ErrorIs(t, tab.Put(key(3), []byte("lost")), table.ErrPoisoned)
				} else {
					require.ErrorIs(t, tab.Put(key(3), value(3, 60_000)), table.ErrPoisoned)
				}
				d.beforeSync = nil
				answers := func(tab *table.Table) {
					t.Helper()
					require.Equal(t, want, contents(t, tab))
					require.Equal(t, length, tab.Len())
					meta, err := tab.Metadata()
					require.NoError(t, err)
					require.Equal(t, "log", string(meta))
					for i := range 31 {
						v, err := tab.Get(key(i))
						w, there := want[string(key(i))]
						require.Equal(t, there, err == nil)
						require.Equal(t, w, string(v))
						has, err := tab.Has(key(i))
						require.NoError(t, err)
						require.Equal(t, there, has)
						seen := ""
						err = tab.View(key(i), func(v []byte) error { seen = string(v); return nil })
						require.Equal(t, there, err == nil)
						require.Equal(t, w, seen)
					}
				}
				answers(tab)
				require.ErrorIs(t, tab.Put(key(4), nil), table.ErrPoisoned)
				require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
				if reboot {
					d = d.after(d.cutNow(r))
				}
				tab, err = d.open(nil)
				require.NoError(t, err)
				require.Contains(t, tab.Stats().OpenedFrom, "a sync failed")
				answers(tab)
				kill(tab)
				for range 5 {
					after := d.after(d.cutNow(r))
					tab, err := after.open(nil)
					require.NoError(t, err)
					answers(tab)
					checked(t, tab)
					kill(tab)
				}
			})
		}
	}
}

// TestReadOnlyOpenSeesTheLog of a table that lost its power, also while and after
// another process takes it up.
func TestReadOnlyOpenSeesTheLog(t *testing.T) {
	r := seeded(t)
	g := newLogged(t, 64<<10)
	for i := range 300 {
		require.NoError(t, g.tab.Put(key(i), value(i, 20)))
	}
	require.NoError(t, g.tab.Compact())
	for i := range 100 {
		require.NoError(t, g.tab.Delete(key(3*i)))
		require.NoError(t, g.tab.Put(key(3*i+1), value(i, 30)))
		require.NoError(t, g.tab.Put(key(1000+i), nil))
	}
	b := table.NewBatch()
	b.SetMetadata([]byte("meta"))
	require.NoError(t, g.tab.Apply(b))
	var want map[string]string
	var h *pmem.Heap
	var tab *table.Table
	var image []byte
	for n := 0; ; n++ {
		want = contents(t, g.tab)
		h = g.disk.after(g.disk.cutNow(r)).heap
		image = h.Image()
		tab = openOn(t, h, pmem.Options{ReadOnly: true}, nil)
		if strings.Contains(tab.Stats().OpenedFrom, "the log behind it") {
			break
		}
		// A checkpoint to make room in the log ended behind the last change.
		require.Less(t, n, 10)
		require.NoError(t, tab.Close())
		require.NoError(t, g.tab.Put(key(1100+n), nil))
	}
	look := func() {
		t.Helper()
		require.Equal(t, want, contents(t, tab))
		require.Equal(t, len(want), tab.Len())
		meta, err := tab.Metadata()
		require.NoError(t, err)
		require.Equal(t, "meta", string(meta))
		for i := range 1100 {
			v, err := tab.Get(key(i))
			w, there := want[string(key(i))]
			require.Equal(t, there, err == nil, "key %d: %v", i, err)
			require.Equal(t, w, string(v))
		}
	}
	look()
	require.Equal(t, image, h.Image(), "nothing is written")
	looking := &lookOn{look: look, every: 97}
	p, err := pmem.OpenHeap(h, pmem.Options{Hook: looking})
	require.NoError(t, err)
	writer, err := table.OpenPool(p, nil)
	require.NoError(t, err)
	looking.stop()
	look()
	require.NoError(t, writer.Put(key(5), []byte("newer")))
	want[string(key(5))] = "newer"
	look()
	require.NoError(t, tab.Close())
	require.NoError(t, writer.Close())
}

// lookOn is a hook that runs look at every so many stores of an open, whichever
// goroutine they are of.
type lookOn struct {
	crashPassHook
	mu       sync.Mutex // guards what follows, and lets one look at a time
	look     func()
	n, every int
}

func (h *lookOn) Store(_, _ uint64, apply func()) {
	apply()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n++; h.n%h.every == 0 && h.look != nil {
		h.look()
	}
}

// stop lets no look begin any more.
func (h *lookOn) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.look = nil
}

// TestLogOfAHostileFile: whatever a slot says of its log, an open ends with an answer
// or an error.
func TestLogOfAHostileFile(t *testing.T) {
	t.Parallel()
	g := newLogged(t, 4<<10)
	for i := range 10 {
		require.NoError(t, g.tab.Put(key(i), value(i, 20)))
	}
	r := seeded(t)
	image := g.disk.cutNow(r)
	regions := g.disk.geometry.Regions()
	for range rounds(3000, 300) {
		bad := append([]byte(nil), image...)
		for range 1 + r.IntN(4) {
			bad[regions.Log+r.Uint64N(regions.Arena-regions.Log)] ^= byte(1 << r.IntN(8))
		}
		for _, readOnly := range []bool{true, false} {
			h := pmem.NewHeap(bad, 2<<20)
			h.Reboot()
			p, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: readOnly})
			require.NoError(t, err)
			tab, err := table.OpenPool(p, nil)
			if err != nil {
				require.ErrorIs(t, err, table.ErrCorrupt)
				continue
			}
			for k, v := range contents(t, tab) { // never one that nobody wrote
				if k != string(key(0)) || v != "first" {
					i := int(layoutBE(k))
					require.Equal(t, string(value(i, 20)), v)
				}
			}
			if readOnly {
				require.NoError(t, tab.Close())
			} else {
				checked(t, tab)
				kill(tab)
			}
		}
	}
}

// layoutBE is the number of a key of key().
func layoutBE(k string) (n uint64) {
	for _, c := range []byte(k[8:]) {
		n = n<<8 | uint64(c)
	}
	return n
}

// TestForgedFrames: frames whose checksums are right, which a damaged file can hold by
// a writer's malice only.
func TestForgedFrames(t *testing.T) {
	t.Parallel()
	g := newLogged(t, 4<<10)
	image := g.disk.cutNow(seeded(t))
	header, err := layout.DecodeHeader(image)
	require.NoError(t, err)
	regions := g.disk.geometry.Regions()
	var slot *layout.Superblock
	for _, at := range regions.Superblock {
		if s, ok := layout.DecodeSuperblock(g.disk.geometry, image[at:]); ok && (slot == nil || s.Sequence > slot.Sequence) {
			slot = s
		}
	}
	require.NotZero(t, slot.Log.Generation)
	record := func(k, v string) []byte {
		var head [layout.MaxRecordHeaderBytes]byte
		n := layout.RecordHeader(&head, 1, len(k), len(v))
		b := append(append(append([]byte(nil), head[:n]...), k...), v...)
		sum := layout.RecordChecksum(b)
		b[0], b[1], b[2], b[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		return b
	}
	good := record("forged", "value")
	damaged := append([]byte(nil), good...)
	damaged[len(damaged)-1]++
	for name, c := range map[string]struct {
		payload []byte
		fine    bool
	}{
		"nothing":              {nil, true},
		"a record":             {layout.AppendChange(nil, layout.LogPut, good), true},
		"a key":                {layout.AppendChange(nil, layout.LogDelete, []byte("forged")), true},
		"a damaged record":     {layout.AppendChange(nil, layout.LogPut, damaged), false},
		"half a record":        {layout.AppendChange(nil, layout.LogPut, good[:6]), false},
		"an empty record":      {layout.AppendChange(nil, layout.LogPut, nil), false},
		"metadata with a key":  {layout.AppendChange(nil, layout.LogMetadata, good), false},
		"an unknown kind":      {layout.AppendChange(nil, 9, good), false},
		"a long key":           {layout.AppendChange(nil, layout.LogDelete, make([]byte, layout.MaxKeyBytes+1)), false},
		"a body over its end":  {append(layout.AppendChange(nil, layout.LogPut, good)[:4], 255, 255, 255, 255), false},
		"less than a change":   {[]byte{1, 2, 3}, false},
		"half a second change": {layout.AppendChange(nil, layout.LogDelete, nil)[:7], false},
	} {
		t.Run(name, func(t *testing.T) {
			bad := append([]byte(nil), image...)
			frame := append(layout.BeginFrame(nil), c.payload...)
			frame = layout.EndFrame(frame, 0, slot.Log.Start)
			if uint64(len(frame)) > slot.Log.RingBytes {
				return // a key that long has no room here
			}
			layout.SealFrames(frame, header.HashSeed, slot.Log.Generation)
			for i, x := range frame {
				bad[regions.Log+(slot.Log.Start+uint64(i))%slot.Log.RingBytes] = x
			}
			for _, readOnly := range []bool{true, false} {
				h := pmem.NewHeap(bad, 2<<20)
				h.Reboot()
				p, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: readOnly})
				require.NoError(t, err)
				tab, err := table.OpenPool(p, nil)
				if !c.fine {
					require.ErrorIs(t, err, table.ErrCorrupt)
					require.ErrorContains(t, err, "log")
					continue
				}
				require.NoError(t, err)
				_ = contents(t, tab)
				require.NoError(t, tab.Close())
			}
		})
	}
}
