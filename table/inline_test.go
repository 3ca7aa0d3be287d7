package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// The failures looked for here: an index that answers otherwise than a Go map, takes
// one key's value for another's, or cannot tell 0 from nothing; sizes that are not
// refused; a file of the one form taken for one of the other.

// tinyInline is a geometry in which a few entries meet splits.
func tinyInline() pmem.Geometry {
	g := tiny(layout.MinInlineStripes)
	g.Inline = true
	return g
}

// indexOn opens an index on a heap medium.
func indexOn(t require.TestingT, h *pmem.Heap, po pmem.Options, o *table.Options) *table.Index {
	po.Geometry = tinyInline()
	x, err := table.NewIndex(openOn(t, h, po, o))
	require.NoError(t, err)
	return x
}

func inlineBytes(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// TestIndexIsAMap: every call answers as it would of a Go map.
func TestIndexIsAMap(t *testing.T) {
	t.Parallel()
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				x := indexOn(t, pmem.NewHeap(nil, 8<<20), pmem.Options{Media: media}, &table.Options{Durability: table.OnSync})
				want := map[uint64]uint64{}
				number := rapid.OneOf(rapid.Uint64Range(0, 40), rapid.SampledFrom([]uint64{1 << 63, ^uint64(0), 1 << 20}))
				for range rapid.IntRange(1, 300).Draw(t, "calls") {
					k, v, other := number.Draw(t, "key"), rapid.Uint64Range(0, 3).Draw(t, "value"), rapid.Uint64Range(0, 3).Draw(t, "other")
					old, there := want[k]
					switch call := rapid.IntRange(0, 9).Draw(t, "call"); call {
					case 0, 1:
						require.NoError(t, x.Put(k, v))
						want[k] = v
					case 2:
						require.NoError(t, x.Delete(k))
						delete(want, k)
					case 3:
						stored, err := x.PutIfAbsent(k, v)
						require.NoError(t, err)
						require.Equal(t, !there, stored)
						if stored {
							want[k] = v
						}
					case 4:
						did, err := x.CompareAndSwap(k, other, v)
						require.NoError(t, err)
						require.Equal(t, there && old == other, did)
						if did {
							want[k] = v
						}
					case 5:
						did, err := x.CompareAndDelete(k, other)
						require.NoError(t, err)
						require.Equal(t, there && old == other, did)
						if did {
							delete(want, k)
						}
					case 6:
						was, existed, err := x.Swap(k, v)
						require.NoError(t, err)
						require.Equal(t, [2]any{old, there}, [2]any{was, existed})
						want[k] = v
					case 7:
						was, existed, err := x.GetAndDelete(k)
						require.NoError(t, err)
						require.Equal(t, [2]any{old, there}, [2]any{was, existed})
						delete(want, k)
					case 8:
						op := table.Op(other % 3)
						require.NoError(t, x.Update(k, func(was uint64, existed bool) (uint64, table.Op) {
							require.Equal(t, [2]any{old, there}, [2]any{was, existed})
							return v, op
						}))
						switch op {
						case table.Store:
							want[k] = v
						case table.Remove:
							delete(want, k)
						}
					case 9:
						keys, values := []uint64{k, k + 1, k}, []uint64{v, other, other}
						require.NoError(t, x.PutMany(keys, values))
						want[k+1], want[k] = other, other
					}
					got, ok, err := x.Get(k)
					require.NoError(t, err)
					now, is := want[k]
					require.Equal(t, [2]any{now, is}, [2]any{got, ok})
				}
				requireIndex(t, x, want)
				require.NoError(t, x.Close())
			})
		})
	}
}

// requireIndex compares an index with a map in every way of reading.
func requireIndex(t require.TestingT, x *table.Index, want map[uint64]uint64) {
	have := map[uint64]uint64{}
	for k, v := range x.All() {
		_, twice := have[k]
		require.False(t, twice, "key %d came twice", k)
		have[k] = v
	}
	require.NoError(t, x.Err())
	require.Equal(t, want, have)
	require.Equal(t, len(want), x.Len())
	report, err := x.Check()
	require.NoError(t, err)
	require.Equal(t, len(want), report.Entries)
	require.EqualValues(t, 8*len(want), report.KeyBytes)
	var keys []uint64
	for k := range want {
		keys = append(keys, k, ^k) // seldom there
	}
	values, found := make([]uint64, len(keys)), make([]bool, len(keys))
	require.NoError(t, x.GetMany(keys, values, found))
	for i, k := range keys {
		v, there := want[k]
		require.Equal(t, [2]any{v, there}, [2]any{values[i], found[i]})
		b, err := x.Table().Get(inlineBytes(k))
		if there {
			require.NoError(t, err)
			require.Equal(t, inlineBytes(v), b)
		} else {
			require.ErrorIs(t, err, table.ErrNotFound)
		}
		has, err := x.Table().Has(inlineBytes(k))
		require.NoError(t, err)
		require.Equal(t, there, has)
	}
}

// TestIndexGrows: through splits of the default size, and compaction after most of it
// is deleted; what a snapshot and a backup held stays as it was.
func TestIndexGrows(t *testing.T) {
	t.Parallel()
	n := alone(200_000, 40_000, 5_000)
	path := filepath.Join(t.TempDir(), "x.pmt")
	x, err := table.OpenIndex(path, &table.Options{Durability: table.OnSync, Stripes: 1})
	require.NoError(t, err)
	require.Equal(t, layout.MinInlineStripes, x.Stats().Stripes)
	r := seeded(t)
	want := map[uint64]uint64{}
	for i := range uint64(n) {
		k := r.Uint64()
		want[k] = i % 5
		require.NoError(t, x.Put(k, i%5))
	}
	snap, err := x.Table().Snapshot()
	require.NoError(t, err)
	rest := map[uint64]uint64{}
	for k, v := range want {
		if k%8 != 0 {
			require.NoError(t, x.Delete(k))
		} else {
			rest[k] = v
		}
	}
	requireIndex(t, x, rest)
	require.Equal(t, n, snap.Len())
	seen := 0
	for k, v := range snap.All() {
		require.Equal(t, want[binary.LittleEndian.Uint64(k)], binary.LittleEndian.Uint64(v))
		got, err := snap.Get(k)
		require.NoError(t, err)
		require.Equal(t, v, got)
		seen++
	}
	require.NoError(t, snap.Err())
	require.Equal(t, n, seen)
	var backup bytes.Buffer
	require.NoError(t, snap.Backup(&backup))
	require.NoError(t, snap.Close())
	before := x.Stats().FileSizeBytes
	require.NoError(t, x.Table().Compact())
	require.LessOrEqual(t, x.Stats().FileSizeBytes, before)
	if n > 10_000 { // else it has hardly grown
		require.Less(t, x.Stats().FileSizeBytes, before)
	}
	requireIndex(t, x, rest)
	survey, err := x.Table().Survey(nil)
	require.NoError(t, err)
	require.EqualValues(t, len(rest), survey.Entries)
	require.NoError(t, x.Table().Restore(&backup))
	requireIndex(t, x, want)
	require.NoError(t, x.Clear())
	require.NoError(t, x.Put(7, 0))
	require.NoError(t, x.Close())
	x, err = table.OpenIndex(path, nil)
	require.NoError(t, err)
	requireIndex(t, x, map[uint64]uint64{7: 0})
	require.NoError(t, x.Close())
}

// TestEntriesOfAnotherSize are refused, by name, and change nothing.
func TestEntriesOfAnotherSize(t *testing.T) {
	x := indexOn(t, pmem.NewHeap(nil, 1<<20), pmem.Options{}, &table.Options{Durability: table.OnSync})
	tab, right := x.Table(), inlineBytes(1)
	require.NoError(t, x.Put(1, 2))
	for _, wrong := range [][]byte{nil, []byte("1234567"), []byte("123456789"), make([]byte, layout.MaxKeyBytes+1)} {
		batch := func(key, value []byte) error {
			b := table.NewBatch()
			b.Put(key, value)
			return tab.Apply(b)
		}
		for name, call := range map[string]func() error{
			"Get":            func() error { _, err := tab.Get(wrong); return err },
			"Has":            func() error { _, err := tab.Has(wrong); return err },
			"View":           func() error { return tab.View(wrong, func([]byte) error { return nil }) },
			"Put key":        func() error { return tab.Put(wrong, right) },
			"Put value":      func() error { return tab.Put(right, wrong) },
			"Delete":         func() error { return tab.Delete(wrong) },
			"CompareAndSwap": func() error { _, err := tab.CompareAndSwap(right, right, wrong); return err },
			"PutMany":        func() error { return tab.PutMany([][]byte{wrong}, [][]byte{right}) },
			"Apply key":      func() error { return batch(wrong, right) },
			"Apply value":    func() error { return batch(right, wrong) },
			"Update": func() error {
				return tab.Update(right, func([]byte, bool) ([]byte, table.Op) { return wrong, table.Store })
			},
		} {
			require.ErrorIs(t, call(), table.ErrEntrySize, name)
		}
		did, err := tab.CompareAndSwap(right, wrong, right)
		require.NoError(t, err)
		require.False(t, did, "no value is of that size")
		did, err = tab.CompareAndDelete(right, wrong)
		require.NoError(t, err)
		require.False(t, did)
	}
	requireIndex(t, x, map[uint64]uint64{1: 2})
	require.Error(t, x.PutMany([]uint64{1}, nil))
	require.Error(t, x.GetMany([]uint64{1}, nil, nil))
	b := table.NewBatch()
	for i := range uint64(tab.Pool().Geometry().MaxIntentStores()) {
		b.Put(inlineBytes(i), right)
	}
	require.ErrorIs(t, tab.Apply(b), table.ErrTooLarge)
	require.NoError(t, x.Close())
	_, _, err := x.Get(1)
	require.ErrorIs(t, err, table.ErrClosed)
	require.ErrorIs(t, x.Put(1, 1), table.ErrClosed)
	require.ErrorIs(t, x.GetMany([]uint64{1}, []uint64{0}, []bool{false}), table.ErrClosed)
}

// TestBatchOfInlineEntries: all or nothing, as many as it may hold, with splits, and
// with the overflow bits that its own entries need.
func TestBatchOfInlineEntries(t *testing.T) {
	x := indexOn(t, pmem.NewHeap(nil, 4<<20), pmem.Options{}, &table.Options{Durability: table.OnSync})
	want := map[uint64]uint64{}
	r := seeded(t)
	for range 20 {
		b := table.NewBatch()
		for len(want) < 5000 && b.Len() < (x.Table().Pool().Geometry().MaxIntentStores()-1)/2 {
			k, v := r.Uint64N(4000), r.Uint64N(3)
			if r.IntN(4) == 0 {
				b.Delete(inlineBytes(k))
				delete(want, k)
			} else {
				b.Put(inlineBytes(k), inlineBytes(v))
				want[k] = v
			}
		}
		b.SetMetadata([]byte("of no fixed size"))
		require.NoError(t, x.Table().Apply(b))
		requireIndex(t, x, want)
	}
	meta, err := x.Table().Metadata()
	require.NoError(t, err)
	require.Equal(t, "of no fixed size", string(meta))
	require.NoError(t, x.Close())
}

// TestIndexOfHotKeys: keys that whoever knows the seed has chosen to share a stripe, a
// probe and 20 further bits neither loop nor blow a directory up.
func TestIndexOfHotKeys(t *testing.T) {
	t.Parallel()
	h := pmem.NewHeap(nil, 16<<20)
	x := indexOn(t, h, pmem.Options{Media: pmem.Tmpfs}, nil)
	p := x.Table().Pool()
	m := p.InlineMap()
	want := map[uint64]uint64{}
	for i := range uint64(alone(2000, 400, 200)) {
		id := uint64(0xabcde)<<28 | i<<14 | uint64(3<<8|1)<<p.Geometry().StripeBits()
		key, ok := m.Key(5, id<<layout.InlineFlagBits)
		require.True(t, ok)
		require.NoError(t, x.Put(key, i))
		want[key] = i
	}
	require.LessOrEqual(t, x.Table().Depth(5), uint(12))
	require.Less(t, x.Stats().FileSizeBytes, int64(1<<20))
	requireIndex(t, x, want)
	for key, i := range want {
		if i%2 == 0 {
			require.NoError(t, x.Delete(key))
			delete(want, key)
		}
	}
	kill(x.Table())
	x = indexOn(t, h, pmem.Options{Media: pmem.Tmpfs}, nil)
	requireIndex(t, x, want)
	require.NoError(t, x.Close())
}

// TestFormsAreToldApart: a table of records is no index, and an index opened as a table
// is one of its kind whatever the options say.
func TestFormsAreToldApart(t *testing.T) {
	dir := t.TempDir()
	records, index := filepath.Join(dir, "records.pmt"), filepath.Join(dir, "index.pmt")
	tab, err := table.Open(records, nil)
	require.NoError(t, err)
	_, err = table.NewIndex(tab)
	require.ErrorIs(t, err, table.ErrNotIndex)
	require.NoError(t, tab.Close())
	_, err = table.OpenIndex(records, nil)
	require.ErrorIs(t, err, table.ErrNotIndex)
	require.ErrorContains(t, err, records)
	tab, err = table.Open(records, &table.Options{Inline: true})
	require.NoError(t, err)
	require.NoError(t, tab.Put([]byte("a key"), []byte("of any size")))
	require.NoError(t, tab.Close())

	x, err := table.OpenIndex(index, nil)
	require.NoError(t, err)
	require.NoError(t, x.Put(1, 2))
	require.NoError(t, x.Close())
	tab, err = table.Open(index, nil)
	require.NoError(t, err)
	v, err := tab.Get(inlineBytes(1))
	require.NoError(t, err)
	require.Equal(t, inlineBytes(2), v)
	typed := table.NewMap(tab, table.IntegerCodec[uint64](), table.IntegerCodec[uint64]())
	two, ok, err := typed.Load(1)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 2, two)
	require.NoError(t, tab.Close())

	page, err := os.ReadFile(index)
	require.NoError(t, err)
	header, err := layout.DecodeHeader(page)
	require.NoError(t, err)
	require.EqualValues(t, layout.FeatureInline, header.Features)
}

// TestSlotIsUsedAgain: before the slot of a deleted key is given to another one, the
// stripe's version moves, so that a reader which has loaded the key, and then loads the
// value of the other, reads again.
func TestSlotIsUsedAgain(t *testing.T) {
	for _, batched := range []bool{false, true} {
		x := indexOn(t, pmem.NewHeap(nil, 1<<20), pmem.Options{}, &table.Options{Durability: table.OnSync})
		p := x.Table().Pool()
		keys := inlineKeys(p.InlineMap(), p.Geometry(), 3, 2, 2, "01")
		version := func() uint64 { return p.Load(p.Regions().Versions + 3*layout.LineBytes) }
		put := func(key []byte) {
			if !batched {
				require.NoError(t, x.Table().Put(key, key))
				return
			}
			b := table.NewBatch()
			b.Put(key, key)
			require.NoError(t, x.Table().Apply(b))
		}
		put(keys[0])
		before := version()
		put(keys[0])
		require.Equal(t, before, version(), "the slot's key stays")
		require.NoError(t, x.Table().Delete(keys[0]))
		require.Equal(t, before, version(), "nothing took its place")
		put(keys[1])
		require.Greater(t, version(), before)
		require.NoError(t, x.Close())
	}
}

// TestReadersOfSlotsUsedAgain: readers without a lock, of keys that come and go in the
// slots of one line, never see the value of another key.
func TestReadersOfSlotsUsedAgain(t *testing.T) {
	t.Parallel()
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			x := indexOn(t, pmem.NewHeap(nil, 1<<20), pmem.Options{Media: media, Hook: new(interrupter)}, &table.Options{Durability: table.OnSync})
			p := x.Table().Pool()
			var keys []uint64
			for _, k := range inlineKeys(p.InlineMap(), p.Geometry(), 3, 6, 2, "01") {
				keys = append(keys, binary.LittleEndian.Uint64(k))
			}
			var stop atomic.Bool
			var readers sync.WaitGroup
			for r := range 2 {
				readers.Go(func() {
					for i := r; !stop.Load(); i++ {
						k := keys[i%len(keys)]
						v, ok, err := x.Get(k)
						if err != nil || ok && v>>8 != k>>8 {
							t.Errorf("key %x has the value %x, %v", k, v, err)
							return
						}
						for k, v := range x.All() {
							if i%64 != 0 {
								break
							}
							if v>>8 != k>>8 {
								t.Errorf("key %x comes with the value %x", k, v)
								return
							}
						}
						runtime.Gosched()
					}
				})
			}
			for i := range rounds(4_000, 300) {
				k, next := keys[i%len(keys)], keys[(i+1)%len(keys)]
				require.NoError(t, x.Put(k, k&^0xff|uint64(i)&0xff|1))
				require.NoError(t, x.Delete(next))
				require.NoError(t, x.Delete(k))
				require.NoError(t, x.Put(next, next|1))
			}
			stop.Store(true)
			readers.Wait()
			require.NoError(t, x.Close())
		})
	}
}

// TestDrainsOfInlineEntries pins what each operation costs on persistent memory.
func TestDrainsOfInlineEntries(t *testing.T) {
	k, s := theInlineWorld(), crashInlineARM
	v, zero := []byte("v0000000"), make([]byte, 8)
	ops := []crashOp{
		{kind: crashPut, key: k.same[0], value: v}, // plants the segment
		{kind: crashPut, key: k.a, value: v},
		{kind: crashPut, key: k.a, value: v},
		{kind: crashPut, key: k.a, value: zero},
		{kind: crashPut, key: k.a, value: v},
		{kind: crashDelete, key: k.a},
		{kind: crashDelete, key: k.a},
		{kind: crashPut, key: k.a, value: zero},
		{kind: crashMiss, key: k.same[0], value: v},
		{kind: crashSwap, key: k.same[0], value: v},
		{kind: crashPut, key: k.same[1], value: v},
		{kind: crashPut, key: k.same[2], value: v},
		{kind: crashPut, key: k.same[3], value: v}, // goes to the next line
		{kind: crashPut, key: k.same[4], value: v},
		{kind: crashBatch, key: k.b, other: k.same[0], value: v},
	}
	tracer := crashtest.NewTracer(crashEmptyImage(s, 1))
	tracer.Sites = true
	_, err := crashProgram{setup: s, ops: ops}.Run(tracer)
	require.NoError(t, err)
	trace := tracer.Trace()
	for op, want := range map[int][2]int{ // write-backs, drains
		1: {1, 1}, 2: {1, 1}, 3: {1, 1}, 4: {2, 2}, 5: {1, 1}, 6: {0, 0}, 7: {1, 1}, 8: {0, 0}, 9: {1, 1},
		10: {1, 1}, 11: {1, 1}, 12: {2, 2}, 13: {1, 1}, 14: {6, 4},
	} {
		got := trace.Count(op)
		require.Equal(t, want, [2]int{got.WriteBacks, got.Drains}, "%d: %v", op, ops[op])
	}
	versions := s.geometry(1).Regions().Versions
	findings := trace.From(trace.Find(0, crashtest.Begin, 0)).Lint(func(off, _, _ uint64) bool {
		return off >= versions && off < versions+layout.PageBytes
	})
	require.Empty(t, findings)
}

// damagedIndex is a small index, closed in order or left by a kill.
func damagedIndex(t testing.TB, media pmem.Media, closed bool) []byte {
	h := pmem.NewHeap(nil, 4<<20)
	x := indexOn(t, h, pmem.Options{Media: media}, &table.Options{Durability: table.OnSync})
	for i := range uint64(600) {
		require.NoError(t, x.Put(i, i*i))
	}
	for i := range uint64(100) {
		require.NoError(t, x.Delete(5*i))
	}
	if closed {
		require.NoError(t, x.Close())
	} else {
		x.Table().DieHeld()
	}
	return h.Image()
}

// probeIndex uses a damaged index in every way: each call gives an answer, or an error
// that says that the file is damaged. (An answer may be wrong: entries have no checksum.)
func probeIndex(t testing.TB, image []byte, media pmem.Media) {
	isDamage := func(err error) {
		if err != nil && !errors.Is(err, table.ErrCorrupt) && !errors.Is(err, table.ErrFull) {
			t.Fatalf("%v", err)
		}
	}
	for _, readOnly := range []bool{true, false} {
		p, err := pmem.OpenHeap(pmem.NewHeap(image, 6<<20), pmem.Options{Media: media, ReadOnly: readOnly})
		if err != nil {
			continue
		}
		tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
		if err != nil {
			continue
		}
		if x, err := table.NewIndex(tab); err == nil {
			for i := range uint64(600) {
				_, _, err := x.Get(i)
				isDamage(err)
			}
			for range x.All() {
			}
			isDamage(x.Err())
			_, err := x.Check()
			isDamage(err)
			_ = x.Len()
			for i := uint64(0); i < 40 && !readOnly; i++ {
				isDamage(x.Put(1000+i, i))
				isDamage(x.Delete(i))
			}
			if !readOnly {
				isDamage(tab.Compact())
			}
		}
		_ = tab.Close()
	}
	_, _, err := repaired(t, image, recovery.Everything)
	if err != nil && !errors.Is(err, table.ErrNotPool) && !errors.Is(err, table.ErrVersion) {
		isDamage(err)
	}
}

func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, closed := range []bool{true, false} {
			image := damagedIndex(t, media, closed)
			arena := int(tinyInline().Regions().Arena)
			for range alone(150, 30, 6) {
				broken := bytes.Clone(image)
				for range 1 + r.IntN(6) {
					at := arena + r.IntN(len(broken)-arena)
					switch r.IntN(3) {
					case 0:
						broken[at] ^= 1 << r.IntN(8)
					case 1:
						binary.LittleEndian.PutUint64(broken[at&^7:], rand.Uint64()>>r.IntN(64))
					default:
						clear(broken[at:min(len(broken), at+r.IntN(600))])
					}
				}
				probeIndex(t, broken, media)
			}
		}
	}
}

// FuzzDamagedIndex lets the fuzzer choose the damage: offset and bytes.
func FuzzDamagedIndex(f *testing.F) {
	clean, killed := damagedIndex(f, pmem.PageCache, true), damagedIndex(f, pmem.Tmpfs, false)
	f.Add(false, uint32(16), []byte{1})
	f.Add(true, uint32(tinyInline().Regions().Arena), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, unclosed bool, at uint32, there []byte) {
		image, media := bytes.Clone(clean), pmem.PageCache
		if unclosed {
			image, media = bytes.Clone(killed), pmem.Tmpfs
		}
		copy(image[int(at)%len(image):], there)
		probeIndex(t, image, media)
	})
}

// TestCheckFindsMisplacedEntries: what no lookup finds where it lies, and a key that is
// there twice.
func TestCheckFindsMisplacedEntries(t *testing.T) {
	image := damagedIndex(t, pmem.Tmpfs, false)
	g := tinyInline()
	var slots []uint64 // of entries
	arena := g.Regions().Arena
	for at := arena; at < uint64(len(image)); at += uint64(g.SegmentBytes) {
		if _, ok := layout.DecodeSegment(image[at:], at); !ok {
			continue
		}
		for s := at + layout.LineBytes; s < at+uint64(g.SegmentBytes); s += layout.InlineSlotBytes {
			word, value := binary.LittleEndian.Uint64(image[s:]), binary.LittleEndian.Uint64(image[s+8:])
			if _, holds := layout.InlineHolds(word, value); holds {
				slots = append(slots, s)
			}
		}
	}
	require.NotEmpty(t, slots)
	check := func(image []byte) (problems int) {
		p, err := pmem.OpenHeap(pmem.NewHeap(image, 0), pmem.Options{Media: pmem.Tmpfs, ReadOnly: true})
		require.NoError(t, err)
		tab, err := table.OpenPool(p, nil)
		require.NoError(t, err)
		report, err := tab.Check()
		require.Equal(t, len(report.Problems) > 0, errors.Is(err, table.ErrCorrupt))
		require.NoError(t, tab.Close())
		return len(report.Problems)
	}
	require.Zero(t, check(image))
	found := 0
	for _, s := range slots {
		broken := bytes.Clone(image)
		broken[s+7] ^= 0x80 // a bit of the interval, or of nothing that is there
		found += check(broken)
		broken = bytes.Clone(image)
		broken[s+6] ^= 0x04 // a bit of the directory's
		found += check(broken)
	}
	require.Positive(t, found)
	// A slot that is copied into a free one of the same line holds the key twice.
	twice := 0
	for _, s := range slots {
		line := s &^ (layout.LineBytes - 1)
		for other := line; other < line+layout.LineBytes; other += layout.InlineSlotBytes {
			word, value := binary.LittleEndian.Uint64(image[other:]), binary.LittleEndian.Uint64(image[other+8:])
			if _, holds := layout.InlineHolds(word, value); holds {
				continue
			}
			broken := bytes.Clone(image)
			copy(broken[other:other+layout.InlineSlotBytes], image[s:s+layout.InlineSlotBytes])
			broken[other] &^= layout.SlotOverflow
			require.Positive(t, check(broken))
			twice++
		}
		if twice > 20 {
			break
		}
	}
	require.Positive(t, twice)
}

// TestRepairOfAnIndex: what the root reaches comes back, and what it cannot know about
// it says.
func TestRepairOfAnIndex(t *testing.T) {
	image := damagedIndex(t, pmem.PageCache, true)
	have, report, err := repaired(t, image, recovery.DamagedRanges)
	require.NoError(t, err)
	require.True(t, report.Complete)
	require.Len(t, have, 500)
	for k, v := range have {
		n := binary.LittleEndian.Uint64([]byte(k))
		require.Equal(t, n*n, binary.LittleEndian.Uint64([]byte(v)))
	}
	broken := bytes.Clone(image)
	broken[40] ^= 1 // the seed
	have, report, err = repaired(t, broken, recovery.DamagedRanges)
	require.NoError(t, err)
	require.Empty(t, have, "without the seed no key can be told")
	require.False(t, report.Complete)
}
