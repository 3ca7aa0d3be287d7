package table_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// lookHook calls look before each event of a writer, one at a time.
type lookHook struct {
	mu   sync.Mutex
	look func()
}

func (h *lookHook) before() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.look != nil {
		h.look()
	}
}

func (h *lookHook) Store(_, _ uint64, apply func())       { h.before(); apply() }
func (h *lookHook) Copy(_ uint64, _ []byte, apply func()) { h.before(); apply() }
func (h *lookHook) WriteBack(uint64, int)                 {}
func (h *lookHook) Drain()                                { h.before() }
func (h *lookHook) Sync(apply func() error) error         { h.before(); return apply() }

// beginnings are what a writer may find that begins a session.
var beginnings = []struct {
	name  string
	media pmem.Media
	log   bool // there is one to be taken up
	after func(t *testing.T, h *pmem.Heap, writer *table.Table)
}{
	{"closed", pmem.PageCache, false, func(t *testing.T, _ *pmem.Heap, w *table.Table) { require.NoError(t, w.Close()) }},
	{"killed", pmem.PageCache, false, func(_ *testing.T, _ *pmem.Heap, w *table.Table) { kill(w) }},
	{"killed on persistent memory", pmem.DAX, false, func(_ *testing.T, _ *pmem.Heap, w *table.Table) { kill(w) }},
	{"another boot", pmem.PageCache, true, func(_ *testing.T, h *pmem.Heap, w *table.Table) { kill(w); h.Reboot() }},
	{"a copy", pmem.PageCache, true, func(_ *testing.T, h *pmem.Heap, w *table.Table) { kill(w); h.Move() }},
	{"a failed sync", pmem.PageCache, true, func(t *testing.T, h *pmem.Heap, w *table.Table) {
		h.FailSync = fmt.Errorf("no disk")
		require.ErrorIs(t, w.Put(b("lost"), b("lost")), table.ErrPoisoned)
		h.FailSync = nil
		kill(w)
	}},
}

// beginning writes a table, a part of it only to the log, and ends the session.
func beginning(t *testing.T, r *rand.Rand, media pmem.Media, after func(*testing.T, *pmem.Heap, *table.Table)) (h *pmem.Heap, want diskState) {
	h = pmem.NewHeap(nil, 3<<20)
	writer := openOn(t, h, pmem.Options{Geometry: withLog(2, 1<<20), Media: media, Hook: throughHook{}}, nil)
	want.entries = map[string]string{}
	for range 2 {
		require.NoError(t, writer.Apply(randomBatch(r, &want, 30)))
	}
	require.NoError(t, writer.Sync())
	for i := range 20 { // these are small enough for any log
		k, v := fmt.Sprint("key ", r.IntN(60)), fmt.Sprint("value ", i)
		if want.entries[k] = v; r.IntN(4) > 0 {
			require.NoError(t, writer.Put(b(k), b(v)))
		} else {
			delete(want.entries, k)
			require.NoError(t, writer.Delete(b(k)))
		}
	}
	after(t, h, writer)
	return h, want
}

// eachStep is look, or in slow places every ninth time.
func eachStep(look func()) func() {
	n := -1
	return func() {
		if n++; n%alone(1, 1, 9) == 0 {
			look()
		}
	}
}

// beginUnder opens a table for writing, and looks before each of its steps until the
// space is swept.
func beginUnder(t *testing.T, h *pmem.Heap, media pmem.Media, look func()) *table.Table {
	hook := &lookHook{look: look}
	pool, err := pmem.OpenHeap(h, pmem.Options{Media: media, Hook: hook})
	require.NoError(t, err)
	writer, err := table.OpenPool(pool, nil)
	require.NoError(t, err)
	<-pool.Swept()
	hook.mu.Lock()
	hook.look = nil
	hook.mu.Unlock()
	return writer
}

// TestReaderAtEachStepOfAnOpen: a read-only open before each store, drain and sync of an
// open for writing finds what was acknowledged, the log included that the writer is
// taking up; and goes on to, whatever the writer does then.
func TestReaderAtEachStepOfAnOpen(t *testing.T) {
	for _, begins := range beginnings {
		t.Run(begins.name, func(t *testing.T) {
			r := seeded(t)
			h, want := beginning(t, r, begins.media, begins.after)
			var readers []*table.Table
			writer := beginUnder(t, h, begins.media, eachStep(func() {
				reader := view(t, h, begins.media)
				shows(t, reader, want)
				readers = append(readers, reader)
			}))
			require.Equal(t, begins.log, writer.Stats().LogReplayed > 0)
			for range 3 {
				require.NoError(t, writer.Apply(randomBatch(r, &want, 30)))
				for _, reader := range readers {
					shows(t, reader, want)
				}
			}
			require.NoError(t, writer.Close())
			for _, reader := range readers {
				shows(t, reader, want)
				require.NoError(t, reader.Close())
			}
		})
	}
}

// TestKilledAtEachStepOfAnOpen: an open for writing is killed before each of its steps.
// The next one finds what was acknowledged, every other time behind a restart of the machine.
func TestKilledAtEachStepOfAnOpen(t *testing.T) {
	for _, begins := range beginnings {
		t.Run(begins.name, func(t *testing.T) {
			h, want := beginning(t, seeded(t), begins.media, begins.after)
			steps := 0
			writer := beginUnder(t, h, begins.media, eachStep(func() {
				left := h.Copy()
				if steps++; steps%2 == 0 {
					left.Reboot()
				}
				next := openOn(t, left, pmem.Options{Media: begins.media, Hook: throughHook{}}, nil)
				shows(t, next, want)
				require.NoError(t, next.Close())
			}))
			require.Equal(t, begins.log, writer.Stats().LogReplayed > 0)
			require.NoError(t, writer.Close())
		})
	}
}

// onLog is a slog.Handler that calls a function at the first record.
type onLog struct {
	slog.Handler
	fn func()
}

func (l *onLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *onLog) Handle(context.Context, slog.Record) error {
	fn := l.fn
	l.fn = func() {}
	fn()
	return nil
}

// TestReaderWhoseFileGoesOnMeanwhile: while a read-only open checks a file that nothing
// vouches for, a writer takes the log up and goes on, over the ring and the superblock
// slots that the open was about to read. That is no damage.
func TestReaderWhoseFileGoesOnMeanwhile(t *testing.T) {
	for writes := range 12 {
		r := seeded(t)
		moved := func(_ *testing.T, h *pmem.Heap, w *table.Table) { kill(w); h.Move() }
		h, want := beginning(t, r, pmem.PageCache, moved)
		var writer *table.Table
		goesOn := &onLog{slog.DiscardHandler, func() {
			writer = openOn(t, h, pmem.Options{Hook: throughHook{}}, nil)
			for range writes {
				require.NoError(t, writer.Apply(randomBatch(r, &want, 30)))
			}
		}}
		reader := openOn(t, h, pmem.Options{ReadOnly: true, Hook: throughHook{}, Logger: slog.New(goesOn)}, nil)
		require.NotNil(t, writer)
		shows(t, reader, want)
		require.NoError(t, writer.Close())
		require.NoError(t, reader.Close())
	}
}

// TestReaderWhileTheLogEnds: a walk of a read-only table has begun at a root of the
// writer's when that one is done with the log. What was not below that root yet must not
// be missing because the log is not laid over it any more.
func TestReaderWhileTheLogEnds(t *testing.T) {
	seed := uint64(0)
	for stopAt, stopped := 1, true; stopped; stopAt += 7 {
		h, want := beginning(t, seeded(t), pmem.PageCache, func(_ *testing.T, h *pmem.Heap, w *table.Table) {
			seed = w.Pool().Header().HashSeed
			kill(w)
			h.Reboot()
		})
		during := func() {}
		pool, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: true, Hook: throughHook{}})
		require.NoError(t, err)
		reader, err := table.OpenColliding(pool, nil, func(k []byte) uint64 { // a walk hashes the keys that it reads
			fn := during
			during = func() {}
			fn()
			return xxh3.HashSeed(k, seed)
		})
		require.NoError(t, err)

		stop, goOn, done := make(chan bool, 1), make(chan bool), make(chan *table.Table)
		replaying := pool.Regions().Control + layout.ControlReplaying
		steps := 0
		go func() {
			done <- beginUnder(t, h, pmem.PageCache, func() {
				if pool.Load(replaying) == 1 {
					if steps++; steps == stopAt {
						stop <- true
						<-goOn
					}
				}
			})
		}()
		var writer *table.Table
		select {
		case <-stop:
			during = func() { close(goOn); writer = <-done }
			require.Equal(t, want.entries, contents(t, reader), "step %d", stopAt)
		case writer = <-done:
			stopped = false
			require.Greater(t, stopAt, 50)
		}
		shows(t, reader, want)
		require.NoError(t, writer.Close())
		require.NoError(t, reader.Close())
	}
}
