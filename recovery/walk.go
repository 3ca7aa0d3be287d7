package recovery

import (
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// MaxChain bounds the overflow segments behind one segment: a walk of more is
// going in circles.
const MaxChain = 4096

// walk goes through the tree of one stripe. Its functions may be nil. The tree
// must not be changing: it is frozen, or its stripe is locked.
type walk struct {
	pool    *pmem.Pool
	stripe  int
	overlay map[uint64]uint64 // words of a pending intent, nil for none

	directory func(at uint64, depth uint) error
	// segment returns false to pass over the segment's slots.
	segment func(at uint64, h layout.SegmentHeader) (bool, error)
	// slot gets every slot that holds a record.
	slot func(seg *segmentView, line, slot int, word uint64) error
	// inline gets the entries of a pool of inline ones, of which slot gets none.
	inline func(seg *segmentView, line, slot int, word, value uint64) error
}

// segmentView is a segment as its directory word and its header describe it.
type segmentView struct {
	at     uint64
	header layout.SegmentHeader
	parent *segmentView // the segment that links to this overflow segment
}

func (w *walk) load(off uint64) uint64 {
	if word, ok := w.overlay[off]; ok {
		return word
	}
	return w.pool.Load(off)
}

// stripeRoot walks the tree below a stripe root word.
func (w *walk) stripeRoot(root uint64) error {
	if root == 0 {
		return nil
	}
	p := w.pool
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok {
		return p.Corrupt("stripe root", dir, "stripe %d: %#x is no stripe root", w.stripe, root)
	}
	if p.Bytes(dir, layout.DirectoryBytes(depth)) == nil || dir < p.Regions().Arena {
		return p.Corrupt("directory", dir, "stripe %d: a directory of depth %d lies outside the file", w.stripe, depth)
	}
	h, ok := layout.DecodeDirectory(p.Load(dir), p.Load(dir+layout.WordBytes), dir)
	if !ok || h.Depth != depth || h.Stripe != w.stripe {
		return p.Corrupt("directory", dir, "stripe %d: its header is damaged or another's", w.stripe)
	}
	if w.directory != nil {
		if err := w.directory(dir, depth); err != nil {
			return err
		}
	}
	for i := uint64(0); i < 1<<depth; {
		n, err := w.directoryWord(dir, depth, i)
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// directoryWord walks the segment of word i and returns how many words refer to it.
func (w *walk) directoryWord(dir uint64, depth uint, i uint64) (uint64, error) {
	p := w.pool
	at := dir + layout.DirectoryHeaderBytes + i*layout.WordBytes
	word := w.load(at)
	seg, local, shift, ok := layout.DecodeDirectoryWord(word)
	if !ok || local > depth {
		return 0, p.Corrupt("directory word", at, "%#x is no directory word of a directory of depth %d", word, depth)
	}
	n := uint64(1) << (depth - local)
	if i%n != 0 {
		return 0, p.Corrupt("directory word", at, "a segment of local depth %d begins in the middle of its range", local)
	}
	for j := uint64(1); j < n; j++ {
		if w.load(at+j*layout.WordBytes) != word {
			return 0, p.Corrupt("directory word", at+j*layout.WordBytes, "the words of one segment differ")
		}
	}
	want := layout.SegmentHeader{Stripe: w.stripe, Depth: local, TagShift: shift, Prefix: i >> (depth - local)}
	return n, w.chain(seg, want)
}

// chain walks a segment and its overflow segments.
func (w *walk) chain(at uint64, want layout.SegmentHeader) error {
	p := w.pool
	var parent *segmentView
	for n := 0; ; n++ {
		h, err := ReadSegment(p, at, want)
		if err != nil {
			return err
		}
		if n > MaxChain {
			return p.Corrupt("segment", at, "a chain of more than %d overflow segments", MaxChain)
		}
		view := &segmentView{at: at, header: h, parent: parent}
		if err := w.oneSegment(view); err != nil {
			return err
		}
		link := w.load(at + layout.SegmentNext)
		next, ok := layout.DecodeSegmentLink(link)
		if !ok {
			return p.Corrupt("segment", at, "%#x is no link to an overflow segment", link)
		}
		if next == 0 {
			return nil
		}
		parent, at, want.Overflow = view, next, true
	}
}

// ReadSegment reads and checks the header of the segment at offset at, of which
// the stripe, depth, prefix and tag shift are known.
func ReadSegment(p *pmem.Pool, at uint64, want layout.SegmentHeader) (layout.SegmentHeader, error) {
	if p.Segment(at) == nil {
		return want, p.Corrupt("segment", at, "it lies outside the file, or not on a line")
	}
	if want.Matches(p.Speculative(at, layout.SegmentHeaderBytes), at) {
		return want, nil
	}
	h, ok := layout.DecodeSegment(p.Speculative(at, layout.SegmentHeaderBytes), at)
	if !ok {
		return h, p.Corrupt("segment", at, "its header is damaged")
	}
	return h, p.Corrupt("segment", at, "it is another segment than the one the directory refers to")
}

func (w *walk) oneSegment(view *segmentView) error {
	if w.segment != nil {
		if descend, err := w.segment(view.at, view.header); err != nil || !descend {
			return err
		}
	}
	if w.pool.Geometry().Inline {
		return w.inlineSegment(view)
	}
	if w.slot == nil {
		return nil
	}
	for l := range w.pool.Geometry().Lines() {
		at := view.at + layout.LineBytes*uint64(l+1)
		line := w.pool.Line(at)
		for s := range layout.SlotsPerLine {
			word := line.Load(s)
			if w.overlay != nil {
				word = w.load(at + uint64(s)*layout.WordBytes)
			}
			if word&layout.SlotLinkMask == 0 {
				continue
			}
			if err := w.slot(view, l, s, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// inlineSegment passes the entries on that lie in a segment itself.
func (w *walk) inlineSegment(view *segmentView) error {
	if w.inline == nil {
		return nil
	}
	for l := range w.pool.Geometry().Lines() {
		for s := range layout.InlineSlotsPerLine {
			at := InlineSlot(view.at, l, s)
			word := w.load(at)
			value, holds := layout.InlineHolds(word, w.load(at+layout.WordBytes))
			if !holds {
				continue
			}
			if err := w.inline(view, l, s, word, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// InlineSlot is the offset of a slot of a segment of inline entries.
func InlineSlot(segment uint64, line, slot int) uint64 {
	return segment + layout.LineBytes*uint64(line+1) + layout.InlineSlotBytes*uint64(slot)
}
