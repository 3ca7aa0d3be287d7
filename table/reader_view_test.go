package table_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a read-only table that goes on with what was true
// when it was opened, or takes for the truth what the writer does not.

// view opens a heap medium read-only.
func view(t require.TestingT, h *pmem.Heap, media pmem.Media) *table.Table {
	return openOn(t, h, pmem.Options{Media: media, ReadOnly: true, Hook: throughHook{}}, nil)
}

// shows checks every way in which a table tells its contents.
func shows(t require.TestingT, tab *table.Table, want diskState) {
	require.Empty(t, diffOf(want, stateOf(t, tab)))
	require.Equal(t, len(want.entries), tab.Len())
	if s := tab.Stats(); s.EntriesKnown {
		require.EqualValues(t, len(want.entries), s.Entries)
	}
	for k, v := range want.entries {
		got, err := tab.Get([]byte(k))
		require.NoError(t, err)
		require.Equal(t, v, string(got))
	}
	has, err := tab.Has([]byte("no such key"))
	require.NoError(t, err)
	require.False(t, has)
}

// TestReaderFollowsSessions: one reader that stays open while writers come, close,
// clear, die and come again shows after each step what the table then holds.
func TestReaderFollowsSessions(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			h := pmem.NewHeap(nil, 4<<20)
			po := pmem.Options{Geometry: tiny(2), Media: media}
			open := func() *table.Table { return openOn(t, h, po, &table.Options{Durability: table.OnSync}) }
			writer := open()
			want := diskState{entries: map[string]string{}}
			write := func(n int) {
				for range n {
					require.NoError(t, writer.Apply(randomBatch(r, &want, 30)))
				}
			}
			write(3)
			require.NoError(t, writer.Close())
			old := view(t, h, media) // of a table that is closed
			for round := range rounds(12, 5) {
				writer = open()
				shows(t, old, want)
				write(1 + r.IntN(10))
				late := view(t, h, media) // beside a writer
				shows(t, old, want)
				shows(t, late, want)
				if _, err := late.Check(); round > 0 {
					require.ErrorIs(t, err, table.ErrLocked)
				}
				if _, err := old.Check(); err != nil {
					require.ErrorIs(t, err, table.ErrLocked)
				}
				for range r.IntN(3) {
					require.NoError(t, writer.Clear())
					clear(want.entries)
					shows(t, old, want)
					write(1)
				}
				if r.IntN(2) == 0 {
					require.NoError(t, writer.Close())
				} else {
					kill(writer)
				}
				shows(t, old, want)
				shows(t, late, want)
				require.NoError(t, late.Close())
			}
			require.NoError(t, old.Close())
		})
	}
}

// TestReaderWhileWriterChoosesItsRoot: the writer has the file's lock, but no
// session yet. What counts then is what it will choose: after power loss and after
// a failed sync that is not the working root.
func TestReaderWhileWriterChoosesItsRoot(t *testing.T) {
	for _, poisoned := range []bool{false, true} {
		t.Run(fmt.Sprint("poisoned ", poisoned), func(t *testing.T) {
			h := pmem.NewHeap(nil, 4<<20)
			po := pmem.Options{Geometry: tiny(2), Media: pmem.PageCache}
			o := &table.Options{Durability: table.OnSync}
			writer := openOn(t, h, po, o)
			require.NoError(t, writer.Put(b("key"), b("durable")))
			require.NoError(t, writer.Sync())
			durable := diskState{entries: map[string]string{"key": "durable"}}
			require.NoError(t, writer.Put(b("key"), b("lost")))
			if poisoned {
				h.FailSync = errors.New("no disk")
				require.ErrorIs(t, writer.Sync(), table.ErrPoisoned)
				shows(t, writer, durable)
				h.FailSync = nil
				beside := view(t, h, pmem.PageCache)
				shows(t, beside, durable)
				require.NoError(t, beside.Close())
			}
			kill(writer)
			if !poisoned {
				h.Reboot()
			}
			pool, err := pmem.OpenHeap(h, po) // locked, and not begun
			require.NoError(t, err)
			reader := view(t, h, pmem.PageCache)
			shows(t, reader, durable)
			writer, err = table.OpenPool(pool, o)
			require.NoError(t, err)
			shows(t, reader, durable)
			require.NoError(t, writer.Put(b("key"), b("new")))
			shows(t, reader, diskState{entries: map[string]string{"key": "new"}})
			require.NoError(t, writer.Close())
			shows(t, reader, diskState{entries: map[string]string{"key": "new"}})
			require.NoError(t, reader.Close())
		})
	}
}

// stopHook stops the writer for ever at a store while an intent is pending.
type stopHook struct {
	throughHook
	mu      sync.Mutex
	at      uint64 // of the word that says how many stores the intent has
	pending bool
	after   int // stores from the intent's on; negative: never
	stopped chan struct{}
	release chan struct{}
}

func (s *stopHook) Store(off, word uint64, apply func()) {
	s.mu.Lock()
	if s.pending && s.after == 0 {
		s.after = -1
		close(s.stopped)
		s.mu.Unlock()
		<-s.release
		return // a dead process stores nothing
	}
	defer s.mu.Unlock()
	apply()
	if off == s.at {
		s.pending = word != 0
	}
	if s.pending {
		s.after--
	}
}

// TestReaderOfBatchCutOff: the writer dies in the middle of a batch, or a Clear,
// while a reader has the table open. What was decided is what the reader shows,
// all of it, before another writer has redone it, and after.
func TestReaderOfBatchCutOff(t *testing.T) {
	for _, media := range mediaHere() {
		for _, clears := range []bool{false, true} {
			t.Run(fmt.Sprint(media, ", Clear ", clears), func(t *testing.T) {
				r := seeded(t)
				for range rounds(6, 2) {
					after := 1 + r.IntN(15)
					if clears {
						after = 1
					}
					hook := &stopHook{at: tiny(2).Regions().Intent + layout.IntentCount, after: -1, stopped: make(chan struct{}), release: make(chan struct{})}
					h := pmem.NewHeap(nil, 4<<20)
					po := pmem.Options{Geometry: tiny(2), Media: media, Hook: hook}
					writer := openOn(t, h, po, &table.Options{Durability: table.OnSync})
					want := diskState{entries: map[string]string{}}
					require.NoError(t, writer.Apply(randomBatch(r, &want, 40)))
					reader := view(t, h, media)
					shows(t, reader, want)
					hook.mu.Lock()
					hook.after = after
					hook.mu.Unlock()
					batch := randomBatch(r, &want, 40)
					died := make(chan error, 1)
					go func() {
						if clears {
							died <- writer.Clear()
						} else {
							died <- writer.Apply(batch)
						}
					}()
					if clears { // and not the batch
						want = stateOf(t, reader)
						clear(want.entries)
					}
					<-hook.stopped
					h.Abandon()
					shows(t, reader, want)
					po.Hook = nil
					next := openOn(t, h, po, &table.Options{Durability: table.OnSync})
					shows(t, reader, want)
					require.NoError(t, next.Apply(randomBatch(r, &want, 40)))
					shows(t, reader, want)
					shows(t, next, want)
					require.NoError(t, reader.Close())
					require.NoError(t, next.Close())
				}
			})
		}
	}
}

// TestReaderWhileTheFileGrows: an entry that is put in the middle of a walk, into
// what the file has grown by since the walk began, is no damage.
func TestReaderWhileTheFileGrows(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	po := pmem.Options{Geometry: pmem.Geometry{Stripes: 1, ChunkBytes: 16 << 10, SegmentBytes: 16 << 10}, Media: pmem.Tmpfs}
	writer := openOn(t, h, po, nil)
	const n = 100
	for i := range n {
		require.NoError(t, writer.Put(key(i), nil))
	}
	var grow func()
	po.ReadOnly = true
	p, err := pmem.OpenHeap(h, po)
	require.NoError(t, err)
	seed := p.Header().HashSeed
	reader, err := table.OpenColliding(p, nil, func(k []byte) uint64 { // a walk hashes the keys that it reads
		if grow != nil {
			grow()
			grow = nil
		}
		return xxh3.HashSeed(k, seed)
	})
	require.NoError(t, err)
	size := p.SizeBytes()
	grow = func() {
		for i := range n {
			require.NoError(t, writer.Put(key(n+i), value(i, 8000)))
		}
	}
	require.Len(t, contents(t, reader), 2*n)
	require.Greater(t, p.SizeBytes(), size)
	require.NoError(t, reader.Close())
	require.NoError(t, writer.Close())
}

// stateOf reads all there is, without a check, which a reader beside a writer refuses.
func stateOf(t require.TestingT, tab *table.Table) diskState {
	meta, err := tab.Metadata()
	require.NoError(t, err)
	return diskState{entries: contents(t, tab), meta: string(meta)}
}
