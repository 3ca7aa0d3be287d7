package table

import (
	"math/bits"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// place is where a key lies, or could be put. It is valid while the stripe is
// locked and nothing is stored.
type place struct {
	root      uint64 // the stripe root word
	directory uint64
	depth     uint   // of the directory
	index     uint64 // of the directory word
	header    layout.SegmentHeader
	tag       uint64
	home      int
	hash      uint64
	want      uint64 // of an inline entry: word 0 of its slot without flags, given

	// The segment and as much of its chain as was looked at; see seg.
	segments int
	near     [2]uint64
	far      []uint64

	slot    uint64 // offset of the key's slot, 0: absent
	segment int    // which of the segments it is in
	word    uint64
	block   uint64 // of the record, which lies at bytes in place
	bytes   []byte
	shape   layout.RecordShape
	value   uint64 // of an inline entry

	// The first free slot within the segment's reach, or else anywhere a lookup
	// would find it; 0: none.
	free             uint64
	freeLine         int
	freeSegment      int
	freeDisplacement int
	beyond           bool // free lies beyond the reach

	taken map[uint64]bool // free slots that a batch has planned to fill; nil for none
}

// reset forgets what was located before: nothing is looked at, found or free.
func (at *place) reset() {
	at.segments, at.far = 0, at.far[:0]
	at.slot, at.value = 0, 0
	at.free, at.beyond = 0, false
}

// seg returns the i-th segment that was looked at. (Most keys have one; a slice
// of the struct's own array would put the struct on the heap.)
func (at *place) seg(i int) uint64 {
	if i < len(at.near) {
		return at.near[i]
	}
	return at.far[i-len(at.near)]
}

// oldValue is that of the record that was found, in place.
func (at *place) oldValue() []byte { return at.bytes[at.shape.HeaderSize+at.shape.KeySize:] }

func (at *place) addSegment(off uint64) {
	if at.segments < len(at.near) {
		at.near[at.segments] = off
	} else {
		at.far = append(at.far, off)
	}
	at.segments++
}

// locate finds a key under its stripe's lock, and checks what it comes by: the
// headers of the directory and of the segments, and every record whose tag is the
// key's. Damage is ErrCorrupt: a write that meets it changes nothing.
func (t *Table) locate(s *stripe, at *place, key []byte, hash uint64) error {
	p := t.pool
	at.reset()
	at.root, at.hash, at.home = p.Load(t.rootAt(s.index)), hash, layout.HomeLine(hash, t.lines)
	if at.root == 0 {
		at.tag = layout.Tag(hash, t.stripeBits, 0)
		return nil
	}
	dir, depth, ok := layout.DecodeStripeRoot(at.root)
	if !ok || p.Bytes(dir, layout.DirectoryBytes(depth)) == nil {
		return p.Corrupt("stripe root", t.rootAt(s.index), "%#x is no stripe root", at.root)
	}
	at.directory, at.depth = dir, depth
	s.heads.under(at.root, depth)
	at.index = layout.DirectoryIndex(hash, t.stripeBits, depth)
	wordAt := dir + layout.DirectoryHeaderBytes + at.index*layout.WordBytes
	word := p.Load(wordAt)
	segment, local, shift, ok := layout.DecodeDirectoryWord(word)
	if !ok || local > depth {
		return p.Corrupt("directory word", wordAt, "%#x is no directory word of a directory of depth %d", word, depth)
	}
	want := layout.SegmentHeader{Stripe: s.index, Depth: local, TagShift: shift, Prefix: at.index >> (depth - local)}
	at.tag = layout.Tag(hash, t.stripeBits, shift)
	return t.locateIn(s, at, segment, want, key)
}

// locateIn goes through a segment and its chain.
func (t *Table) locateIn(s *stripe, at *place, segment uint64, want layout.SegmentHeader, key []byte) error {
	for {
		first, end := 0, t.lines
		if at.segments == 0 {
			if err := t.headOf(s, at, segment, want); err != nil {
				return err
			}
			first, end = at.home, at.home+layout.WindowLines
		} else if _, err := recovery.ReadSegment(t.pool, segment, want); err != nil {
			return err
		}
		if at.segments > recovery.MaxChain {
			return t.pool.Corrupt("segment", segment, "its chain of overflow segments does not end")
		}
		at.addSegment(segment)
		if more, err := t.locateLines(at, first, end, key); err != nil || !more {
			return err
		}
		next, ok := layout.DecodeSegmentLink(t.pool.Load(segment + layout.SegmentNext))
		if !ok {
			return t.pool.Corrupt("segment", segment, "its link to an overflow segment is damaged")
		}
		if next == 0 {
			return nil
		}
		segment, want.Overflow = next, true
	}
}

// locateLines goes through lines of the last of at.segments. more tells that the
// key may lie further on, or that no free slot was found yet.
func (t *Table) locateLines(at *place, first, end int, key []byte) (more bool, err error) {
	if t.inline {
		return t.locateInline(at), nil
	}
	n := at.segments - 1
	reach := at.header.Reach
	if n > 0 {
		reach = t.lines * layout.SlotsPerLine
	}
	overflows := true
	for l := first; l < end; l++ {
		lineAt := at.seg(n) + layout.LineBytes*uint64(l+1)
		line := t.pool.Line(lineAt)
		for i := range layout.SlotsPerLine {
			word := line.Load(i)
			slotAt := lineAt + uint64(i)*layout.WordBytes
			if word&layout.SlotLinkMask == 0 {
				at.offer(slotAt, l, n, first, (l-first)*layout.SlotsPerLine+i >= reach)
				continue
			}
			if !overflows || (word^at.tag)&layout.SlotTagMask != 0 {
				continue
			}
			off := layout.SlotRecord(word)
			record, shape := recovery.IntactRecord(t.pool, off)
			if record == nil {
				return false, t.damageError(&found{object: "record", at: off})
			}
			if shape.Names(record, key) {
				at.slot, at.word, at.segment = slotAt, word, n
				at.block, at.bytes, at.shape = off, record, shape
				return false, nil
			}
		}
		if line.Load(0)&layout.SlotOverflow == 0 {
			overflows = false // the key is not further on; a free slot may be
			if at.free != 0 {
				return false, nil
			}
		}
	}
	// A key is further on only if every line says so; room may be in any case.
	return overflows || at.free == 0, nil
}

// offer notes the first free slot.
func (at *place) offer(slot uint64, line, segment, first int, beyond bool) {
	if at.free != 0 || at.taken[slot] {
		return
	}
	at.free, at.freeLine, at.freeSegment, at.beyond = slot, line, segment, beyond
	at.freeDisplacement = 0
	if segment == 0 {
		at.freeDisplacement = line - first
	}
}

// separates tells whether a split of the key's segment would take some entry of
// its full window to the other side, and stay within the bound on depth.
func (t *Table) separates(at *place, hash uint64) bool {
	depth := at.header.Depth
	if depth >= layout.MaxDepth || t.stripeBits+depth >= 63 {
		return false
	}
	if depth == at.depth && depth > uint(bits.Len(uint(t.segmentsOf(at))))+maxDepthAhead {
		return false
	}
	if t.inline {
		return t.separatesInline(at)
	}
	side := layout.DirectoryIndex(hash, t.stripeBits, depth+1) & 1
	for l := at.home; l < at.home+layout.WindowLines; l++ {
		line := t.pool.Line(at.near[0] + layout.LineBytes*uint64(l+1))
		for i := range layout.SlotsPerLine {
			word := line.Load(i)
			bit, ok := layout.TagBit(word, depth, at.header.TagShift)
			if word&layout.SlotLinkMask != 0 && (!ok || bit != side) {
				return true
			}
		}
	}
	return false
}

// maxDepthAhead is how far a directory's depth may exceed the mean of its
// segments' depths: so hashes that agree in many bits chain segments instead of
// doubling a directory for nothing.
const maxDepthAhead = 4

// segmentsOf counts the segments of a directory, in time linear in its words: it
// is asked only when the alternative is to double it.
func (t *Table) segmentsOf(at *place) int {
	n := 0
	for i := uint64(0); i < 1<<at.depth; n++ {
		_, local, _, _ := layout.DecodeDirectoryWord(t.pool.Load(at.directory + layout.DirectoryHeaderBytes + i*layout.WordBytes))
		i += 1 << (at.depth - min(local, at.depth))
	}
	return n
}
