package table_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// The failure looked for here: a crash at any moment of Apply leaves a part of a
// large batch, one that splits segments on its way; or a reader of what it left
// sees a part.

// batchWorld is what a crash takes from a medium.
type batchWorld struct {
	name    string
	model   crashtest.Model
	media   pmem.Media
	reboots bool
}

var batchWorlds = []batchWorld{
	{"persistent memory, x86", crashtest.X86, pmem.DAX, false},
	{"persistent memory, arm", crashtest.ARM, pmem.DAX, false},
	{"persistent memory, killed", crashtest.Kill, pmem.DAX, false},
	{"page cache, power cut", crashtest.PageCache, pmem.Auto, true},
	{"page cache, killed", crashtest.Kill, pmem.Auto, false},
	{"tmpfs, killed", crashtest.Kill, pmem.Tmpfs, false},
}

// throughHook performs stores and does nothing else: with a hook a build without
// flush instructions can pass for persistent memory.
type throughHook struct{}

func (throughHook) Store(_, _ uint64, apply func())       { apply() }
func (throughHook) Copy(_ uint64, _ []byte, apply func()) { apply() }
func (throughHook) WriteBack(uint64, int)                 {}
func (throughHook) Drain()                                {}
func (throughHook) Sync(apply func() error) error         { return apply() }

func (w batchWorld) open(h *pmem.Heap, hook pmem.Hook) (*table.Table, error) {
	p, err := pmem.OpenHeap(h, pmem.Options{Geometry: tiny(2), Media: w.media, Hook: hook})
	if err != nil {
		return nil, err
	}
	return table.OpenPool(p, nil)
}

// randomBatch changes many keys of a state, which it moves on.
func randomBatch(r *rand.Rand, s *diskState, n int) *table.Batch {
	b := table.NewBatch()
	for _, i := range r.Perm(2 * n)[:n] {
		k := fmt.Sprint("key ", i)
		if r.IntN(3) == 0 {
			b.Delete([]byte(k))
			delete(s.entries, k)
			continue
		}
		v := string(value(r.IntN(256), r.IntN(60)))
		b.Put([]byte(k), []byte(v))
		s.entries[k] = v
	}
	if r.IntN(4) > 0 {
		s.meta = fmt.Sprint("state ", r.Int())
		b.SetMetadata([]byte(s.meta))
	}
	return b
}

func TestBatchCrashes(t *testing.T) {
	for _, w := range batchWorlds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := seeded(t)
			var figures crashtest.Figures
			for range rounds(2, 1) {
				figures.Add(everyCrashOf(t, r, w, 1+r.IntN(rounds(40, 8))))
			}
			t.Log(figures)
		})
	}
}

// everyCrashOf crashes one Apply everywhere.
func everyCrashOf(t *testing.T, r *rand.Rand, w batchWorld, n int) crashtest.Figures {
	const maxBytes = 256 << 10
	h := pmem.NewHeap(nil, maxBytes)
	tab, err := w.open(h, throughHook{})
	require.NoError(t, err)
	before := diskState{entries: map[string]string{}}
	require.NoError(t, tab.Apply(randomBatch(r, &before, n)))
	require.NoError(t, tab.Close())
	image := h.State()
	image = append(image, make([]byte, maxBytes-len(image))...)
	after := before.clone()
	b := randomBatch(r, &after, n)
	return w.everyCrash(t, r, image, before, after, func(tab *table.Table) error { return tab.Apply(b) })
}

// everyCrash crashes everywhere in a change of the table in an image, of which not a
// part may be there afterwards. The image is a Heap's State.
func (w batchWorld) everyCrash(t *testing.T, r *rand.Rand, image []byte, before, after diskState,
	change func(*table.Table) error) crashtest.Figures {
	maxBytes := len(image)
	workload := crashtest.WorkloadFunc(func(tr *crashtest.Tracer) ([]byte, error) {
		h := pmem.NewHeap(tr.Image(), maxBytes)
		tab, err := w.open(h, tr)
		if err != nil {
			return nil, err
		}
		<-tab.Pool().Swept()
		tr.Begin(0)
		err = change(tab)
		tr.Ack(0)
		kill(tab)
		return h.State(), err
	})
	oracle := crashtest.OracleFunc(func(c *crashtest.Crash) error {
		if race.Enabled && c.Place()%8 > 0 {
			return nil
		}
		h := pmem.NewHeap(c.Image, maxBytes)
		if w.reboots {
			h.Reboot()
		}
		if slices.Contains(c.Acked, 0) {
			return w.holds(h, after, after)
		}
		if err := w.readsOnly(h, before, after); err != nil {
			return fmt.Errorf("a read-only table: %w", err)
		}
		return w.holds(h, before, after)
	})
	suite := crashtest.Suite{Image: image, Workload: workload, Oracle: oracle, Model: w.model,
		Bound: crashtest.Bound{Images: 8, Pairs: -1, Samples: 4, Seed: r.Uint64()}}
	figures, err := suite.Run()
	require.NoError(t, err)
	return figures
}

// holds opens the table for writing: it holds one of two states.
func (w batchWorld) holds(h *pmem.Heap, a, b diskState) error {
	tab, err := w.open(h, throughHook{})
	if err != nil {
		return err
	}
	defer kill(tab)
	return isOneOf(tab, a, b)
}

// readsOnly opens the table read-only: so does that, and the bytes stay.
func (w batchWorld) readsOnly(h *pmem.Heap, a, b diskState) error {
	p, err := pmem.OpenHeap(h, pmem.Options{Media: w.media, ReadOnly: true, Hook: throughHook{}})
	if err != nil {
		return err
	}
	image := h.Image()
	tab, err := table.OpenPool(p, nil)
	if err != nil {
		return err
	}
	if err := isOneOf(tab, a, b); err != nil {
		return err
	}
	if err := tab.Close(); err != nil {
		return err
	}
	if !slices.Equal(image, h.Image()) {
		return fmt.Errorf("it wrote to the file")
	}
	return nil
}

func isOneOf(tab *table.Table, a, b diskState) error {
	have, err := readState(tab)
	if err != nil {
		return err
	}
	if !have.equal(a) && !have.equal(b) {
		return fmt.Errorf("neither before, %v, nor after the batch, %v", diffOf(a, have), diffOf(b, have))
	}
	var buf []byte
	for k, v := range have.entries {
		buf, err = tab.AppendGet(buf[:0], []byte(k))
		if err != nil || string(buf) != v {
			return fmt.Errorf("key %q: %q, %w", k, buf, err)
		}
		err = tab.View([]byte(k), func(in []byte) error {
			if string(in) != v {
				return fmt.Errorf("key %q: View has %q", k, in)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i := range 80 {
		k := fmt.Sprint("key ", i)
		_, there := have.entries[k]
		if has, err := tab.Has([]byte(k)); has != there || err != nil {
			return fmt.Errorf("key %q: Has says %v, All %v, %w", k, has, there, err)
		}
	}
	return nil
}

// TestReadOnlySeesPendingIntent: between the intent and its end a kill leaves a
// file that a read-only table shows as if the rest had been done: for a batch, and
// for a Clear.
func TestReadOnlySeesPendingIntent(t *testing.T) {
	t.Parallel()
	for _, w := range batchWorlds {
		if w.model != crashtest.Kill {
			continue
		}
		for _, clears := range []bool{false, true} {
			t.Run(fmt.Sprint(w.name, ", Clear ", clears), func(t *testing.T) {
				r := seeded(t)
				h := pmem.NewHeap(nil, 256<<10)
				hook := &intentHook{heap: h, at: tiny(2).Regions().Intent + layout.IntentCount}
				tab, err := w.open(h, hook)
				require.NoError(t, err)
				before := diskState{entries: map[string]string{}}
				require.NoError(t, tab.Apply(randomBatch(r, &before, 30)))
				hook.images = [][]byte{}
				after := before.clone()
				if clears {
					require.NoError(t, tab.Clear())
					clear(after.entries)
				} else {
					require.NoError(t, tab.Apply(randomBatch(r, &after, 30)))
				}
				images := hook.images
				kill(tab)
				require.NotEmpty(t, images)
				for i, image := range images {
					h := pmem.NewHeap(image, 256<<10)
					require.NoError(t, w.readsOnly(h, after, after), "store %d", i)
					require.NoError(t, w.holds(h, after, after), "store %d", i)
					require.NoError(t, w.readsOnly(h, after, after), "store %d", i)
				}
			})
		}
	}
}

// intentHook keeps the image after every store while an intent is pending.
type intentHook struct {
	throughHook
	heap    *pmem.Heap
	mu      sync.Mutex // the file grows in the background
	at      uint64     // of the word that says how many stores the intent has
	pending bool
	images  [][]byte // nil: none are kept
}

func (h *intentHook) Store(off, word uint64, apply func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	apply()
	if off == h.at {
		h.pending = word != 0
	}
	if h.pending && h.images != nil {
		h.images = append(h.images, h.heap.Image())
	}
}
