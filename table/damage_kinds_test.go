package table_test

import (
	"encoding/binary"
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

// TestCheckNamesTheDamage: damage that leaves every checksum right, and that a lookup
// may never meet, is found by a check, at its place and for what it is.
func TestCheckNamesTheDamage(t *testing.T) {
	t.Parallel()
	image, want := forgeable(t)
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
		"the words of one segment differ": func(_ *testing.T, f *forgery) uint64 {
			segment, _, shift, _ := layout.DecodeDirectoryWord(f.word(f.words[0]))
			f.set(f.words[0], layout.DirectoryWord(segment, f.depth-1, shift)) // as if it had two
			return f.words[1]
		},
		"begins in the middle of its range": func(t *testing.T, f *forgery) uint64 {
			for i := 1; i < len(f.words); i += 2 {
				if segment, local, shift, _ := layout.DecodeDirectoryWord(f.word(f.words[i])); local == f.depth {
					f.set(f.words[i], layout.DirectoryWord(segment, f.depth-1, shift))
					return f.words[i]
				}
			}
			require.Fail(t, "no segment is as deep as the directory")
			return 0
		},
		"is no link to an overflow segment": func(_ *testing.T, f *forgery) uint64 {
			f.set(f.segments[0]+layout.SegmentNext, 1<<63|1)
			return f.segments[0]
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := newForgery(image)
			checkFinds(t, f, forge(t, f), what)
			probe(t, f.image, pmem.Tmpfs, want)
		})
	}
}

func checkFinds(t *testing.T, f *forgery, at uint64, what string) {
	h := pmem.NewHeap(f.image, 0)
	tab := openOn(t, h, pmem.Options{Media: pmem.Tmpfs, ReadOnly: true}, nil)
	report, err := tab.Check()
	require.ErrorIs(t, err, table.ErrCorrupt)
	found := false
	for _, p := range report.Problems {
		if p.Offset == at {
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
				checkFinds(t, f, max(at, free), "the same key as slot")
				return
			}
		}
	}
	require.Fail(t, "no old record is left")
}
