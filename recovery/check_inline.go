package recovery

import (
	"encoding/binary"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// inlineSlot checks one inline entry: that a lookup finds it where it is.
func (c *checker) inlineSlot(seg *segmentView, line, slot int, word uint64) (entry, error) {
	p := c.pool
	at := InlineSlot(seg.at, line, slot)
	if slot != 0 && word&layout.SlotOverflow != 0 {
		return entry{}, p.Corrupt("slot", at, "an overflow bit that only a line's first slot may have")
	}
	hash, key, belongs := InlineEntry(p, seg.header, word)
	e := entry{hash: hash, key: binary.LittleEndian.AppendUint64(nil, key), at: at}
	if c.level < LevelFull {
		return e, nil
	}
	if !belongs {
		return entry{}, p.Corrupt("slot", at, "its key belongs to another segment")
	}
	return e, c.inlineFindable(seg, line, at, hash)
}

// InlineEntry is the key that word 0 of a slot keeps, and its hash; whether they belong
// to the segment that the header describes.
func InlineEntry(p *pmem.Pool, h layout.SegmentHeader, word uint64) (hash, key uint64, belongs bool) {
	m := p.InlineMap()
	hash = m.Hash(h.Stripe, word)
	key, belongs = m.Key(h.Stripe, word)
	return hash, key, belongs && layout.DirectoryIndex(hash, p.Geometry().StripeBits(), h.Depth) == h.Prefix
}

// inlineFindable checks that a lookup comes by the line of an entry: every line before
// it, and of the segments before, has the overflow bit.
func (c *checker) inlineFindable(seg *segmentView, line int, at, hash uint64) error {
	for s := seg; s != nil; s = s.parent {
		lines := c.inlineLines(s, hash)
		found := false
		for _, l := range lines {
			if found = s == seg && l == line; found {
				break
			}
			if !c.overflows(s.at, l) {
				return c.pool.Corrupt("slot", at, "line %d of the segment at %#x lacks the overflow bit, so a lookup does not get here", l, s.at)
			}
		}
		if s == seg && !found {
			return c.pool.Corrupt("slot", at, "it lies in line %d, to which no lookup of its key comes", line)
		}
	}
	return nil
}

// inlineLines are the lines that a lookup of a hash comes by in a segment.
func (c *checker) inlineLines(s *segmentView, hash uint64) (lines []int) {
	n := c.pool.Geometry().Lines()
	if s.header.Overflow {
		for l := range n {
			lines = append(lines, l)
		}
		return lines
	}
	probe := layout.ProbeInline(hash, n)
	for l, ok := probe.Next(); ok; l, ok = probe.Next() {
		lines = append(lines, l)
	}
	return lines
}
