package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// The failures looked for here: a file made by somebody who knows the format, all
// checksums right, that makes the table fault, hang or read outside of the file,
// or a write that damages what was whole.

// forgery is an image with the offsets of what can be forged in it: of the table
// that a kill left on tmpfs, so that the working root counts, which has no checksum.
type forgery struct {
	image      []byte
	g          pmem.Geometry
	area       uint64   // the root area in use
	directory  uint64   // of stripe 0
	depth      uint     // of that
	words      []uint64 // offsets of its words
	segments   []uint64 // of the segments, in the same order
	records    []uint64 // offsets of occupied slots of the first segment
	descriptor uint64   // of the chunk that holds the first record
	chunk      int
}

func (f *forgery) word(at uint64) uint64   { return binary.LittleEndian.Uint64(f.image[at:]) }
func (f *forgery) set(at uint64, w uint64) { binary.LittleEndian.PutUint64(f.image[at:], w) }

func newForgery(image []byte) *forgery {
	f := &forgery{image: bytes.Clone(image), g: tiny(2)}
	r := f.g.Regions()
	f.area = f.word(r.Control + layout.ControlRoot)
	f.directory, f.depth, _ = layout.DecodeStripeRoot(f.word(f.area + layout.RootStripes))
	for i := range uint64(1) << f.depth {
		at := f.directory + layout.DirectoryHeaderBytes + i*layout.WordBytes
		segment, _, _, _ := layout.DecodeDirectoryWord(f.word(at))
		f.words, f.segments = append(f.words, at), append(f.segments, segment)
	}
	for at := f.segments[0] + layout.LineBytes; at < f.segments[0]+uint64(f.g.SegmentBytes); at += layout.WordBytes {
		if layout.SlotRecord(f.word(at)) != 0 {
			f.records = append(f.records, at)
		}
	}
	f.chunk = int((layout.SlotRecord(f.word(f.records[0])) - r.Arena) / uint64(f.g.ChunkBytes))
	home, offset := f.g.DescriptorPlace(f.chunk)
	f.descriptor = r.Arena + uint64(home*f.g.ChunkBytes) + offset
	return f
}

// header rewrites the header of a segment.
func (f *forgery) header(at uint64, change func(h *layout.SegmentHeader)) {
	h, _ := layout.DecodeSegment(f.image[at:], at)
	change(&h)
	h.Encode(f.image[at:], at)
}

// session rewrites both session records.
func (f *forgery) session(change func(s *layout.Session)) {
	for _, at := range f.g.Regions().Session {
		if s, ok := layout.DecodeSession(f.image[at:][:layout.PageBytes]); ok {
			change(&s)
			clear(f.image[at:][:layout.PageBytes])
			s.Encode(f.image[at:][:layout.PageBytes])
		}
	}
}

// superblock rewrites both slots, with checksums that are right.
func (f *forgery) superblock(change func(s *layout.Superblock)) {
	for _, at := range f.g.Regions().Superblock {
		if s, ok := layout.DecodeSuperblock(f.g, f.image[at:]); ok {
			change(s)
			slot := f.image[at:][:f.g.SuperblockBytes()]
			clear(slot)
			s.Encode(f.g, slot)
		}
	}
}

// slotTo makes the first slot lead elsewhere.
func (f *forgery) slotTo(off uint64) {
	f.set(f.records[0], f.word(f.records[0])&^uint64(layout.SlotLinkMask)|layout.Slot(off, 0, 0))
}

// loop makes of the last segment an overflow segment of the first that leads to
// itself, and of which every line says that the search goes on.
func (f *forgery) loop() {
	first, h := f.segments[0], layout.SegmentHeader{}
	f.header(first, func(x *layout.SegmentHeader) { h = *x })
	over := f.segments[len(f.segments)-1]
	h.Overflow = true
	h.Encode(f.image[over:], over)
	for _, s := range []uint64{first, over} {
		f.set(s+layout.SegmentNext, layout.SegmentLink(over))
		for at := s + layout.LineBytes; at < s+uint64(f.g.SegmentBytes); at += layout.LineBytes {
			f.set(at, f.word(at)|layout.SlotOverflow)
		}
	}
}

func forgeries() map[string]func(f *forgery) {
	root := func(w func(f *forgery) uint64) func(f *forgery) {
		return func(f *forgery) { f.set(f.area+layout.RootStripes, w(f)) }
	}
	return map[string]func(f *forgery){
		"local depth above global": func(f *forgery) {
			for i, at := range f.words {
				f.set(at, layout.DirectoryWord(f.segments[i], f.depth+1, 0))
			}
		},
		"shared segments": func(f *forgery) {
			for _, at := range f.words {
				f.set(at, f.word(f.words[0]))
			}
		},
		"a segment as its own overflow segment": func(f *forgery) {
			f.set(f.segments[0]+layout.SegmentNext, layout.SegmentLink(f.segments[0]))
		},
		"a looping chain": func(f *forgery) { f.loop() },
		"two slots on one record": func(f *forgery) {
			for _, at := range f.records[1:] {
				f.set(at, f.word(f.records[0]))
			}
		},
		"a record over the header":     func(f *forgery) { f.slotTo(layout.UnitBytes) },
		"a record over the superblock": func(f *forgery) { f.slotTo(f.g.Regions().Superblock[0]) },
		"a record over a directory":    func(f *forgery) { f.slotTo(f.directory) },
		"a record over a segment":      func(f *forgery) { f.slotTo(f.segments[0]) },
		"a record over descriptors":    func(f *forgery) { f.slotTo(f.g.Regions().Arena) },
		"a record behind the end":      func(f *forgery) { f.slotTo(uint64(len(f.image))) },
		"a record at the end":          func(f *forgery) { f.slotTo(uint64(len(f.image)) - layout.UnitBytes) },
		"a record as long as can be": func(f *forgery) {
			at := layout.SlotRecord(f.word(f.records[0]))
			var head [layout.MaxRecordHeaderBytes]byte
			layout.RecordHeader(&head, layout.MaxEpoch, layout.MaxKeyBytes, math.MaxUint32)
			copy(f.image[at+4:], head[4:])
		},
		"metadata over the root":   func(f *forgery) { f.set(f.area+layout.RootMetadata, f.area) },
		"a root of depth 40":       root(func(f *forgery) uint64 { return layout.StripeRoot(f.directory, layout.MaxDepth) }),
		"a root of depth 63":       root(func(f *forgery) uint64 { return layout.StripeRoot(f.directory, 63) }),
		"a root in the fixed part": root(func(f *forgery) uint64 { return layout.StripeRoot(layout.PageBytes, 0) }),
		"a root behind the end":    root(func(f *forgery) uint64 { return layout.StripeRoot(uint64(len(f.image))+64, 1) }),
		"stripes that share a root": func(f *forgery) {
			f.set(f.area+layout.RootStripes+layout.WordBytes, f.word(f.area+layout.RootStripes))
		},
		"a chunk of another class": func(f *forgery) {
			f.set(f.descriptor, layout.Descriptor{Kind: layout.ChunkSmall, Class: 0}.Word(f.chunk))
		},
		"a class that there is not": func(f *forgery) {
			f.set(f.descriptor, layout.Descriptor{Kind: layout.ChunkSmall, Class: 255}.Word(f.chunk))
		},
		"a run over the next chunks": func(f *forgery) {
			f.set(f.descriptor, layout.Descriptor{Kind: layout.ChunkRun, Run: 3}.Word(f.chunk))
		},
		"a run without end": func(f *forgery) {
			f.set(f.descriptor, layout.Descriptor{Kind: layout.ChunkRun, Run: 1<<20 - 1}.Word(f.chunk))
		},
		"a segment of the future": func(f *forgery) {
			f.header(f.segments[0], func(h *layout.SegmentHeader) { h.Birth = layout.MaxEpoch })
		},
		"the last epoch": func(f *forgery) { f.set(f.g.Regions().Control+layout.ControlEpoch, math.MaxUint64) },
		"a size beyond the file": func(f *forgery) {
			f.set(f.g.Regions().Control+layout.ControlSize, math.MaxUint64)
		},
		"the last session": func(f *forgery) {
			f.session(func(s *layout.Session) { s.Sequence, s.Generation = math.MaxUint64, math.MaxUint64 })
		},
		"a floor above all": func(f *forgery) { f.session(func(s *layout.Session) { s.Floor = math.MaxUint64 }) },
		"poisoned, nothing good": func(f *forgery) {
			f.session(func(s *layout.Session) { s.Poisoned, s.LastGood = 1, math.MaxUint64 })
		},
		"the last commit": func(f *forgery) {
			f.superblock(func(s *layout.Superblock) { s.Sequence, s.Epoch = math.MaxUint64, layout.MaxEpoch })
		},
		"counts that are not so": func(f *forgery) {
			f.superblock(func(s *layout.Superblock) { s.CountsKnown, s.Counts[0] = true, math.MaxUint64 })
		},
		"extents beyond the file": func(f *forgery) {
			f.superblock(func(s *layout.Superblock) {
				s.Extents = []layout.Extent{{Offset: math.MaxUint64 - 4, Bytes: math.MaxUint32}}
			})
		},
		"an intent over the fixed parts": func(f *forgery) {
			stores := []layout.IntentStore{{Offset: 64, Word: 1}, {Offset: math.MaxUint64 - 7, Word: 2}}
			at := f.g.Regions().Intent
			for i, s := range stores {
				f.set(at+layout.IntentStores+uint64(i)*16, s.Offset)
				f.set(at+layout.IntentStores+uint64(i)*16+8, s.Word)
			}
			f.set(at+layout.IntentNumber, 7)
			f.set(at+layout.IntentCount, layout.IntentCountWord(7, stores))
		},
		"a header of many stripes": func(f *forgery) {
			h, _ := layout.DecodeHeader(f.image[:layout.PageBytes])
			h.Stripes, h.IntentBytes = layout.MaxStripes, layout.MaxIntentBytes
			clear(f.image[:layout.PageBytes])
			h.Encode(f.image[:layout.PageBytes])
		},
	}
}

// forgeable is an image of a table that a kill left on tmpfs, and what it holds.
func forgeable(t *testing.T) (image []byte, want map[string]string) {
	h := pmem.NewHeap(nil, 4<<20)
	tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(2)}, &table.Options{Durability: table.OnSync})
	want = make(map[string]string)
	for i := range 400 { // so many that directories have several words
		k, v := key(i), value(i, i*7%300)
		require.NoError(t, tab.Put(k, v))
		want[string(k)] = string(v)
	}
	tab.DieHeld()
	return h.Image(), want
}

// TestWritersRefuseAForgedSegment: a writer that a directory leads to a segment which
// is not the one that it should be changes nothing there: its stores would land where
// no lookup of the key comes by once the directory is right, or on another stripe's
// entries, whose lock it does not hold.
func TestWritersRefuseAForgedSegment(t *testing.T) {
	t.Parallel()
	image, want := forgeable(t)
	header := func(change func(h *layout.SegmentHeader)) func(f *forgery) {
		return func(f *forgery) { f.header(f.segments[0], change) }
	}
	for name, forge := range map[string]func(f *forgery){
		"of another stripe":      header(func(h *layout.SegmentHeader) { h.Stripe = 1 }),
		"of another depth":       header(func(h *layout.SegmentHeader) { h.Depth++ }),
		"of another prefix":      header(func(h *layout.SegmentHeader) { h.Prefix ^= 1 }),
		"of another tag shift":   header(func(h *layout.SegmentHeader) { h.TagShift++ }),
		"an overflow segment":    header(func(h *layout.SegmentHeader) { h.Overflow = true }),
		"with a header of noise": func(f *forgery) { f.set(f.segments[0], ^f.word(f.segments[0])) },
		"of other keys": func(f *forgery) {
			first, last := f.words[0], f.words[len(f.words)-1]
			one, other := f.word(first), f.word(last)
			f.set(first, other)
			f.set(last, one)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForgery(image)
			forge(f)
			h := pmem.NewHeap(f.image, 6<<20)
			tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs}, &table.Options{Durability: table.OnSync})
			seed, tried := tab.Pool().Header().HashSeed, 0
			for k := range want {
				hash := xxh3.HashSeed([]byte(k), seed)
				index := layout.DirectoryIndex(hash, f.g.StripeBits(), f.depth)
				if layout.StripeOf(hash, f.g.StripeBits()) != 0 || index != 0 {
					continue
				}
				tried++
				key, value := []byte(k), []byte("new")
				require.ErrorIs(t, tab.Put(key, value), table.ErrCorrupt)
				require.ErrorIs(t, tab.Delete(key), table.ErrCorrupt)
				_, err := tab.PutIfAbsent(key, value)
				require.ErrorIs(t, err, table.ErrCorrupt)
				_, err = tab.CompareAndSwap(key, []byte(want[k]), value)
				require.ErrorIs(t, err, table.ErrCorrupt)
				b := table.NewBatch()
				b.Put(key, value)
				require.ErrorIs(t, tab.Apply(b), table.ErrCorrupt)
				require.ErrorIs(t, tab.PutMany([][]byte{key}, [][]byte{value}), table.ErrCorrupt)
			}
			require.NotZero(t, tried)
			now := h.Image()
			for _, at := range append(f.segments, f.directory) {
				n := uint64(f.g.SegmentBytes)
				if at == f.directory {
					n = uint64(layout.DirectoryBytes(f.depth))
				}
				require.Equal(t, f.image[at:at+n], now[at:at+n])
			}
			kill(tab)
		})
	}
}

func TestForgedFilesAreErrorsOrAnswers(t *testing.T) {
	t.Parallel()
	image, want := forgeable(t)
	for name, forge := range forgeries() {
		t.Run(name, func(t *testing.T) {
			f := newForgery(image)
			forge(f)
			require.NotEqual(t, image, f.image)
			probe(t, f.image, pmem.Tmpfs, want)
			writesSpreadNothing(t, f.image, want)
		})
	}
}

// writesSpreadNothing writes to a forged file, and looks whether what could be
// read before can still be read, now and after opening it again.
func writesSpreadNothing(t *testing.T, image []byte, want map[string]string) {
	h := pmem.NewHeap(image, 6<<20)
	po := pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(2)}
	open := func() *table.Table {
		p, err := pmem.OpenHeap(h, po)
		if err != nil {
			return nil
		}
		tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
		if err != nil {
			require.True(t, errors.Is(err, table.ErrCorrupt), "%v", err)
			return nil
		}
		return tab
	}
	tab := open()
	if tab == nil {
		return
	}
	whole := make(map[string]string)
	for k, v := range want {
		if got, err := tab.Get([]byte(k)); err == nil {
			require.Equal(t, v, string(got))
			whole[k] = v
		}
	}
	same := func(tab *table.Table, when string) {
		for k, v := range whole {
			got, err := tab.Get([]byte(k))
			require.NoError(t, err, "%s: key %x", when, k)
			require.Equal(t, v, string(got), when)
		}
	}
	for i := range 300 {
		_ = tab.Put(key(1000+i), value(i, i%200))
		if i%3 == 0 {
			_ = tab.Delete(key(1000 + i))
		}
	}
	same(tab, "after writes")
	_ = tab.Close()
	if tab = open(); tab != nil {
		same(tab, "after opening it again")
		_ = tab.Close()
	}
}

// TestCheckEndsOnOverlappingRecords: slots that lead to every unit of a large
// record, each of which begins a record to the file's end, would take a check a
// checksum over half of the file for each.
func TestCheckEndsOnOverlappingRecords(t *testing.T) {
	t.Parallel()
	h := pmem.NewHeap(nil, 40<<20)
	tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(2)}, &table.Options{Durability: table.OnSync})
	for i := range 60 {
		require.NoError(t, tab.Put(key(i), value(i, 20)))
	}
	big := make([]byte, 8<<20)
	require.NoError(t, tab.Put([]byte("big"), big))
	tab.DieHeld()
	f := newForgery(h.Image())
	begin := uint64(bytes.Index(f.image, []byte("big")))&^15 + 64
	for i, at := range f.records {
		off := begin + uint64(i)*layout.UnitBytes
		var head [layout.MaxRecordHeaderBytes]byte
		layout.RecordHeader(&head, 1, 300, len(big)-1000)
		copy(f.image[off+4:], head[4:])
		f.set(at, f.word(at)&^uint64(layout.SlotLinkMask)|layout.Slot(off, 0, 0))
	}
	p, err := pmem.OpenHeap(pmem.NewHeap(f.image, 0), pmem.Options{Media: pmem.Tmpfs, ReadOnly: true})
	require.NoError(t, err)
	tab, err = table.OpenPool(p, nil)
	require.NoError(t, err)
	report, err := tab.Check()
	require.ErrorIs(t, err, table.ErrCorrupt)
	require.GreaterOrEqual(t, len(report.Problems), len(f.records))
	sums := 0
	for _, problem := range report.Problems {
		if strings.Contains(problem.What, "checksum") {
			sums++
		}
	}
	require.LessOrEqual(t, sums, 1, "only the large record itself was worth reading")
	require.NoError(t, tab.Close())
	_, _, err = repaired(t, f.image, recovery.ReachableOnly)
	require.NoError(t, err)
}

// insideHook fails a write-back of what is not in the file.
type insideHook struct {
	throughHook
	t    *testing.T
	size uint64
}

func (h insideHook) WriteBack(off uint64, n int) {
	require.LessOrEqual(h.t, off+uint64(n), h.size)
}

// TestNamesOfSlotsInFlightAreChecked: a line of a stripe's version names slots outside of
// the file. On persistent memory nobody writes back what is there.
func TestNamesOfSlotsInFlightAreChecked(t *testing.T) {
	k := theCrashWorld()
	const outside = 1 << 43
	chained := crashImageAfter(crashX86, crashEmptyImage(crashX86, 1), crashPuts(append(k.same[:k.window:k.window], k.a)...))
	for _, far := range []bool{false, true} {
		f := forgery{image: bytes.Clone(chained), g: crashX86.geometry(1)}
		r := f.g.Regions()
		name := uint64(len(f.image))
		if far { // a segment that is not there: what was read of it is in flight
			newest := r.Superblock[0]
			if f.word(r.Superblock[1]) > f.word(newest) {
				newest = r.Superblock[1]
			}
			dir, _, _ := layout.DecodeStripeRoot(f.word(newest + layout.SuperRoots))
			f.set(dir+layout.DirectoryHeaderBytes, layout.DirectoryWord(outside, 0, 0))
			name = outside + layout.LineBytes
		}
		f.set(r.Versions+layout.InFlight, name)
		hook := insideHook{t: t, size: uint64(len(f.image))}
		p, err := pmem.OpenHeap(pmem.NewHeap(f.image, 0), pmem.Options{Media: pmem.DAX, ReadOnly: true, Hook: hook})
		require.NoError(t, err)
		tab, err := table.OpenPool(p, nil)
		require.NoError(t, err)
		_, err = tab.Get(k.a)
		if far {
			require.ErrorIs(t, err, table.ErrCorrupt)
		} else {
			require.NoError(t, err)
		}
		for range tab.All() {
		}
		require.NoError(t, tab.Close())
	}
}
