package table_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// lines are the offsets of the slots of all segments, by line.
func (f *forgery) lines() (lines [][]uint64) {
	for i, s := range f.segments {
		if i > 0 && s == f.segments[i-1] {
			continue
		}
		for at := s + layout.LineBytes; at < s+uint64(f.g.SegmentBytes); at += layout.LineBytes {
			var line []uint64
			for i := range uint64(layout.SlotsPerLine) {
				line = append(line, at+i*layout.WordBytes)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// occupied finds a slot with a record of which pick approves.
func (f *forgery) occupied(t *testing.T, pick func(line []uint64, i int) bool) uint64 {
	for _, line := range f.lines() {
		for i, at := range line {
			if layout.SlotRecord(f.word(at)) != 0 && pick(line, i) {
				return at
			}
		}
	}
	require.Fail(t, "the table has no such slot")
	return 0
}

// pushed tells whether some entry lies in the line behind its home.
func (f *forgery) pushed() bool {
	for _, line := range f.lines() {
		for _, at := range line {
			if w := f.word(at); layout.SlotRecord(w) != 0 && layout.SlotDisplacement(w) == 1 {
				return true
			}
		}
	}
	return false
}

// deepest finds a directory word, of those with even or with odd numbers, whose
// segment has no other.
func (f *forgery) deepest(t *testing.T, odd int) int {
	for i := odd; i < len(f.words); i += 2 {
		if _, local, _, _ := layout.DecodeDirectoryWord(f.word(f.words[i])); local == f.depth {
			return i
		}
	}
	require.Fail(t, "no segment is as deep as the directory")
	return 0
}

// lift makes the directory's word i say one level less than its segment has.
func (f *forgery) lift(i int) {
	segment, _, shift, _ := layout.DecodeDirectoryWord(f.word(f.words[i]))
	f.set(f.words[i], layout.DirectoryWord(segment, f.depth-1, shift))
}

// TestCheckNamesTheDamage: damage that leaves every checksum right, and that a lookup
// may never meet, is found by a check, at its place and for what it is.
func TestCheckNamesTheDamage(t *testing.T) {
	t.Parallel()
	// The hash seed is drawn anew: in one table of some forty no entry is pushed on.
	image, want := forgeable(t)
	for tries := 0; !newForgery(image).pushed(); tries++ {
		require.Less(t, tries, 20)
		image, want = forgeable(t)
	}
	for what, forge := range map[string]func(t *testing.T, f *forgery) (at uint64){
		"an overflow bit that only a line's first slot may have": func(t *testing.T, f *forgery) uint64 {
			at := f.occupied(t, func(_ []uint64, i int) bool { return i > 0 })
			f.set(at, f.word(at)|layout.SlotOverflow)
			return at
		},
		"does not lead home": func(t *testing.T, f *forgery) uint64 {
			at := f.occupied(t, func([]uint64, int) bool { return true })
			f.set(at, f.word(at)^4) // the lower bit of the displacement
			return at
		},
		"lacks the overflow bit, so a lookup ends there": func(t *testing.T, f *forgery) uint64 {
			at := f.occupied(t, func(line []uint64, i int) bool { return layout.SlotDisplacement(f.word(line[i])) == 1 })
			before := at&^(layout.LineBytes-1) - layout.LineBytes
			f.set(before, f.word(before)&^uint64(layout.SlotOverflow))
			return at
		},
		"the words of one segment differ": func(t *testing.T, f *forgery) uint64 {
			i := f.deepest(t, 0)
			f.lift(i) // as if it had two words
			return f.words[i+1]
		},
		"begins in the middle of its range": func(t *testing.T, f *forgery) uint64 {
			i := f.deepest(t, 1)
			f.lift(i)
			return f.words[i]
		},
		"is no link to an overflow segment": func(_ *testing.T, f *forgery) uint64 {
			f.set(f.segments[0]+layout.SegmentNext, 1<<63|1)
			return f.segments[0]
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newForgery(image)
			checkFinds(t, f, what, forge(t, f))
			probe(t, f.image, pmem.Tmpfs, want)
		})
	}
}

// checkFinds looks for damage at one of some places.
func checkFinds(t *testing.T, f *forgery, what string, at ...uint64) {
	h := pmem.NewHeap(f.image, 0)
	tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs, ReadOnly: true}, nil)
	report, err := tab.Check()
	require.ErrorIs(t, err, table.ErrCorrupt)
	found := false
	for _, p := range report.Problems {
		if slices.Contains(at, p.Offset) {
			require.Contains(t, p.What, what)
			found = true
		}
	}
	require.True(t, found, "%v", report.Problems)
	require.NoError(t, tab.Close())
}

// TestCheckFindsAKeyTwice: an old record of a key, intact, in a slot beside the new
// one's: a lookup would answer with either.
func TestCheckFindsAKeyTwice(t *testing.T) {
	for tries := 0; !checkedTwice(t); tries++ { // the hash seed is drawn anew
		require.Less(t, tries, 20, "no old record is left")
	}
}

// checkedTwice is false where every old record was overwritten, or has no free slot
// beside the new one's.
func checkedTwice(t *testing.T) bool {
	h := pmem.NewHeap(nil, 4<<20)
	tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(2)}, &table.Options{Durability: table.OnSync})
	for i := range 60 {
		require.NoError(t, tab.Put(key(i), value(i, 20)))
	}
	before := h.Image()
	for i := range 60 {
		require.NoError(t, tab.Put(key(i), value(i+1, 200)))
	}
	tab.DieHeld()
	f := newForgery(h.Image())
	for _, line := range f.lines() {
		free := uint64(0)
		for _, at := range line[1:] {
			if f.word(at) == 0 {
				free = at
			}
		}
		for _, at := range line[1:] {
			old := binary.LittleEndian.Uint64(before[at:])
			off := layout.SlotRecord(old)
			if free == 0 || off == 0 || f.word(at) == 0 || layout.SlotRecord(f.word(at)) == off {
				continue
			}
			shape := layout.DecodeRecord(f.image[off:])
			if shape.Size() < 200 && layout.RecordIntact(f.image[off:][:shape.Size()]) {
				f.set(free, old)
				checkFinds(t, f, "the same key as slot", at, free) // of which it names the other
				return true
			}
		}
	}
	return false
}
