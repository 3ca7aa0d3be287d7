package table

import (
	"context"
	"runtime/trace"

	"pmemtable/internal/layout"
)

// A merge is the inverse of a split: two buddies, segments whose prefixes differ
// in the last bit only, become one, and the directory is halved if no word needs
// its last bit any more. Its steps are a split's.

// mergeShare: buddies are merged if together they fill less than this share of a
// segment's slots, so that the merged one does not split again soon.
const mergeShare = 0.4

// mergeStripe merges buddies until none is left that could be.
func (c *compaction) mergeStripe(s *stripe) error {
	for merged := true; merged; {
		merged = false
		err := c.eachSegment(s, func(at *place) (bool, need, error) {
			did, missing, err := c.mergeAt(s, at)
			merged = merged || did
			return did || !missing.nothing(), missing, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mergeAt merges the segment of a place with its buddy, if it is the left one.
func (c *compaction) mergeAt(s *stripe, at *place) (merged bool, missing need, err error) {
	t, h := c.table, at.header
	if h.Depth == 0 || h.Prefix&1 != 0 || at.segments != 1 {
		return false, need{}, nil
	}
	right, err := t.buddyOf(s, at)
	if err != nil || right.segments != 1 || right.header.Depth != h.Depth {
		return false, need{}, err
	}
	used := t.usedSlots(at.near[0]) + t.usedSlots(right.near[0])
	if float64(used) > mergeShare*float64(t.lines*t.slotsPerLine()) {
		return false, need{}, nil
	}
	n := need{segments: 1, directory: true, depth: at.depth}
	words := t.directoryWords(at, at.depth)
	span := uint64(2) << (at.depth - h.Depth)
	base := at.index &^ (span - 1)
	for i := range span {
		words[base+i] = layout.DirectoryWord(0, h.Depth-1, 0) // what it will be, but for the link
	}
	halved := halve(words)
	for len(halved) < len(words) {
		words, n.depth = halved, n.depth-1
		halved = halve(words)
	}
	if !c.kit.has(n) {
		return false, n, nil
	}
	return t.merge(s, &c.kit, at, &right, words, n.depth)
}

// halve returns a directory's words for one bit less, or as they are.
func halve(words []uint64) []uint64 {
	if len(words) == 1 {
		return words
	}
	half := make([]uint64, len(words)/2)
	for i := range half {
		if words[2*i] != words[2*i+1] {
			return words
		}
		half[i] = words[2*i]
	}
	return half
}

// buddyOf describes the buddy to the right.
func (t *Table) buddyOf(s *stripe, at *place) (place, error) {
	hash := uint64(s.index)<<(64-t.stripeBits) | (at.header.Prefix|1)<<(64-t.stripeBits-at.header.Depth)
	if t.stripeBits == 0 {
		hash = (at.header.Prefix | 1) << (64 - at.header.Depth)
	}
	right, _, err := t.placeOf(s, hash)
	return right, err
}

func (t *Table) usedSlots(segment uint64) int {
	n := 0
	for l := range t.lines {
		line := t.pool.Line(segment + layout.LineBytes*uint64(l+1))
		if t.inline {
			for i := 0; i < layout.SlotsPerLine; i += 2 {
				if _, holds := layout.InlineHolds(line.Load(i), line.Load(i+1)); holds {
					n++
				}
			}
			continue
		}
		for i := range layout.SlotsPerLine {
			if line.Load(i)&layout.SlotLinkMask != 0 {
				n++
			}
		}
	}
	return n
}

// merge builds the merged segment and commits it with its directory, whose words
// are given but for the merged segment's own.
func (t *Table) merge(s *stripe, k *kit, left, right *place, words []uint64, depth uint) (bool, need, error) {
	defer trace.StartRegion(context.Background(), "pmemtable.merge").End()
	h := left.header
	shift := h.TagShift
	if shift != right.header.TagShift || shift > h.Depth-1 {
		shift = min(shift, right.header.TagShift, h.Depth-1)
	}
	whole := t.newHalf()
	defer whole.done()
	both := [2]half{whole, whole} // either side of a division goes to the one segment
	for _, from := range []*place{left, right} {
		if err := t.divide([]uint64{from.near[0]}, from.header, shift, &both); err != nil {
			return false, need{}, err
		}
	}
	if len(both[0].built) > 1 || len(both[1].built) > 1 {
		return false, need{}, nil // some window would overflow: leave them as they are
	}
	merged := h
	merged.Birth, merged.Depth, merged.TagShift, merged.Prefix = t.epoch.Load(), h.Depth-1, shift, h.Prefix>>1
	merged.Reach = t.reach(s.index, merged.Depth, merged.Prefix)
	built := whole.write(merged, k)
	segment := built[0].Offset
	for i := range words {
		if words[i] == layout.DirectoryWord(0, merged.Depth, 0) {
			words[i] = layout.DirectoryWord(segment, merged.Depth, shift)
		}
	}
	leftBirth, rightBirth := t.birthOf(left.near[0]), t.birthOf(right.near[0])
	t.replaceDirectory(s, k, left, depth, words, built...)
	t.retire(s, left.near[0], leftBirth, t.geometry.SegmentBytes)
	t.retire(s, right.near[0], rightBirth, t.geometry.SegmentBytes)
	t.noteBorn(s, segment, t.geometry.SegmentBytes)
	t.countStripe(s, layout.CounterMerges)
	return true, need{}, nil
}
