package table

import (
	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// heads is what a stripe remembers of the headers of its directory's segments, which do
// not change while the directory refers to them: a writer wants a segment's birth and
// reach, and the header lies in another page than the bucket line, so that reading it
// costs about as much as reading the line.
//
// A head counts for its segment only, and only as long as the stripe root is the one
// that it was noted under. So when a block becomes another segment, nobody takes the old
// one's head for its own: the stripe root has changed meanwhile, or the directory word has
// been stored in place, by a writer who locates the place anew and so replaces the head.
// It is guarded by the stripe's lock.
type heads struct {
	root uint64 // the stripe root word
	of   []head // by directory index, modulo their number
	most int    // how many at most; a power of two
}

type head struct {
	segment uint64 // its offset, 0: none
	birth   uint64
	reach   int
}

// headsMost bounds the memory of a stripe's heads, to 96 KiB.
const headsMost = 1 << 12

// under has heads that were noted under another stripe root forgotten.
func (h *heads) under(root uint64, depth uint) {
	if h.root != root {
		h.forget()
		h.root = root
		if n := 1 << min(depth, 63); len(h.of) < min(n, h.most) {
			h.of = make([]head, min(n, h.most))
		}
	}
}

// forget forgets all heads.
func (h *heads) forget() {
	h.root = 0
	clear(h.of)
}

// headOf fills the header of the directory's segment at the place in, of which want says
// the rest.
func (t *Table) headOf(s *stripe, at *place, segment uint64, want layout.SegmentHeader) error {
	known := &s.heads.of[at.index&uint64(len(s.heads.of)-1)]
	if known.segment == segment {
		at.header = want
		at.header.Birth, at.header.Reach = known.birth, known.reach
		return nil
	}
	header, err := recovery.ReadSegment(t.pool, segment, want)
	if err == nil {
		*known = head{segment, header.Birth, header.Reach}
	}
	at.header = header
	return err
}
