package table

import (
	"context"
	"runtime/trace"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// A split divides the entries of a segment, and of its chain, between two new
// ones, by one more bit of the hash. The tag in each slot holds that bit, and the
// displacement leads to its home line, so records are not read: except once in
// many splits, when the tag has few bits left that still tell keys apart, and is
// taken anew from the hashes.
//
//  1. the halves are built in ordinary memory, copied to fresh blocks, and made
//     durable with a directory that refers to them, by one drain.
//  2. the stripe root is swapped, and made durable.
//  3. the old segments and the old directory are retired.

// retagAfter is how many bits of the tag may be used up by the depth.
const retagAfter = layout.TagBits / 2

// half is one side of a split: a segment and the chain behind it.
type half struct {
	table *Table
	built []*builder
}

func (t *Table) split(s *stripe, k *kit, at *place) (need, error) {
	chain, err := t.wholeChain(at)
	if err != nil {
		return need{}, err
	}
	// An entry of the segment finds room in its half's first segment, so only what
	// the chain holds can need one.
	n := need{segments: 2 * len(chain), directory: true, depth: max(at.depth, at.header.Depth+1)}
	if !k.has(n) {
		return n, nil
	}
	defer trace.StartRegion(context.Background(), "pmemtable.split").End()
	h := at.header
	shift := h.TagShift
	if !t.inline && h.Depth+1-shift > retagAfter {
		shift = h.Depth + 1
	}
	halves := [2]half{t.newHalf(), t.newHalf()}
	defer halves[0].done()
	defer halves[1].done()
	if err := t.divide(chain, h, shift, &halves); err != nil {
		return need{}, err
	}
	if built := len(halves[0].built) + len(halves[1].built); built > n.segments {
		n.segments = built // inline entries that shared a window need not find room in another
		if !k.has(n) {
			return n, nil
		}
	}
	var segments [2]uint64
	var built []pmem.Range
	for side := range halves {
		child := h
		child.Birth, child.Depth, child.TagShift = t.epoch.Load(), h.Depth+1, shift
		child.Prefix = h.Prefix<<1 | uint64(side)
		child.Reach = t.reach(s.index, child.Depth, child.Prefix)
		built = append(built, halves[side].write(child, k)...)
		segments[side] = built[len(built)-1].Offset
	}
	words := t.directoryWords(at, n.depth)
	span := uint64(1) << (n.depth - h.Depth)
	base := h.Prefix << (n.depth - h.Depth)
	for i := range span {
		side := i >> (n.depth - h.Depth - 1) & 1
		words[base+i] = layout.DirectoryWord(segments[side], h.Depth+1, shift)
	}
	t.replaceDirectory(s, k, at, n.depth, words, built...)
	for _, old := range chain {
		t.retire(s, old, t.birthOf(old), t.geometry.SegmentBytes)
	}
	s.bornOver = true // the halves are not listed: the next commit takes two syncs
	t.countStripe(s, layout.CounterSplits)
	k.did.splits++
	return need{}, nil
}

// wholeChain lists a segment and all its overflow segments, checked.
func (t *Table) wholeChain(at *place) ([]uint64, error) {
	chain := []uint64{at.near[0]}
	want := at.header
	want.Overflow = true
	for {
		last := chain[len(chain)-1]
		next, ok := layout.DecodeSegmentLink(t.pool.Load(last + layout.SegmentNext))
		if !ok || len(chain) > recovery.MaxChain {
			return nil, t.pool.Corrupt("segment", last, "its link to an overflow segment is damaged")
		}
		if next == 0 {
			return chain, nil
		}
		if _, err := recovery.ReadSegment(t.pool, next, want); err != nil {
			return nil, err
		}
		chain = append(chain, next)
	}
}

// divide puts every entry of a chain into its half. Entries at home go first, the
// displaced ones after them in the order of their lines: so each finds room at
// the latest in the line where it was, and the primary segments never overflow
// by their own entries.
func (t *Table) divide(chain []uint64, h layout.SegmentHeader, shift uint, halves *[2]half) error {
	if t.inline {
		return t.divideInline(chain, h, halves)
	}
	for pass := range 2 {
		for l := range t.lines {
			line := t.pool.Line(chain[0] + layout.LineBytes*uint64(l+1))
			for i := range layout.SlotsPerLine {
				word := line.Load(i)
				displacement := layout.SlotDisplacement(word)
				if word&layout.SlotLinkMask == 0 || (displacement == 0) != (pass == 0) {
					continue
				}
				if err := t.divideOne(word, l-displacement, h, shift, halves); err != nil {
					return err
				}
			}
		}
	}
	for _, segment := range chain[1:] {
		for l := range t.lines {
			line := t.pool.Line(segment + layout.LineBytes*uint64(l+1))
			for i := range layout.SlotsPerLine {
				if word := line.Load(i); word&layout.SlotLinkMask != 0 {
					if err := t.divideOne(word, -1, h, shift, halves); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// divideOne puts one entry into its half. home is -1 for one from a chain.
func (t *Table) divideOne(word uint64, home int, h layout.SegmentHeader, shift uint, halves *[2]half) error {
	side, ok := layout.TagBit(word, h.Depth, h.TagShift)
	tag := word & layout.SlotTagMask
	if !ok || home < 0 || shift != h.TagShift {
		rec, err := recovery.ReadRecord(t.pool, layout.SlotRecord(word))
		if err != nil {
			return err
		}
		hash := t.hash(rec.Key)
		side = layout.DirectoryIndex(hash, t.stripeBits, h.Depth+1) & 1
		tag = layout.Tag(hash, t.stripeBits, shift)
		home = layout.HomeLine(hash, t.lines)
	}
	if home < 0 || home+layout.WindowLines > t.lines {
		return t.pool.Corrupt("slot", layout.SlotRecord(word), "its displacement leads to line %d of %d", home, t.lines)
	}
	halves[side].put(layout.Slot(layout.SlotRecord(word), tag, 0), home)
	return nil
}

func (t *Table) newHalf() half { return half{table: t, built: []*builder{t.newBuilder()}} }

func (h *half) done() {
	for _, b := range h.built {
		b.done()
	}
}

// put adds an entry: in its window, else in the first free slot of the chain.
func (h *half) put(word uint64, home int) {
	if h.built[0].put(word, home, home+layout.WindowLines, true) {
		return
	}
	for _, b := range h.built[1:] {
		if b.put(word, 0, h.table.lines, false) {
			return
		}
	}
	b := h.table.newBuilder()
	b.put(word, 0, h.table.lines, false)
	h.built = append(h.built, b)
}

// write copies the half into blocks of the kit, and returns what is to be made
// durable, the first segment last.
func (h *half) write(header layout.SegmentHeader, k *kit) (ranges []pmem.Range) {
	t := h.table
	next := uint64(0)
	for i := len(h.built) - 1; i >= 0; i-- {
		b, segment := h.built[i], k.takeSegment()
		header.Overflow = i > 0
		b.header(header, segment)
		b.setWord(layout.SegmentNext, layout.SegmentLink(next))
		t.pool.Copy(segment, b.buf)
		ranges = append(ranges, pmem.Range{Offset: segment, Bytes: len(b.buf)})
		next = segment
	}
	return ranges
}
