package recovery

import (
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// This file is the first pass of Salvage. Unlike walk it never gives up: of a
// directory whose header is damaged it reads the words, of a segment the slots, as
// long as each record's key proves that it belongs there.

func (s *salvager) load(off uint64) uint64 {
	if w, ok := s.overlay[off]; ok {
		return w
	}
	return s.pool.Load(off)
}

// expect notes the counts of a committed root: a stripe in which fewer entries are
// reached has lost some to damage that does not show, such as a slot of zeros.
func (s *salvager) expect(slot *pmem.Slot) {
	if slot.CountsKnown {
		s.counts = slot.Counts
	}
}

// stripe walks the tree of a stripe.
func (s *salvager) stripe(i int, root uint64) {
	reached, lost := s.Reached, len(s.lost)
	if root != 0 {
		s.directory(i, root)
	}
	if got := uint64(s.Reached - reached); s.counts != nil && len(s.lost) == lost && got < s.counts[i] {
		s.problem("stripe", 0, "stripe %d has %d entries, its count says %d", i, got, s.counts[i])
		s.lose(hashRange{stripe: i})
	}
}

func (s *salvager) directory(stripe int, root uint64) {
	p := s.pool
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if ok && dir >= p.Regions().Arena {
		h, intact := layout.DecodeDirectory(p.Load(dir), p.Load(dir+layout.WordBytes), dir)
		if !intact || h.Stripe != stripe || h.Depth != depth {
			s.problem("directory", dir, "stripe %d: its header is damaged or another's", stripe)
			s.lose(hashRange{stripe: stripe})
		}
		if intact && h.Stripe == stripe { // of the two depths the one with a checksum
			depth = h.Depth
		}
	}
	if !ok || dir < p.Regions().Arena || p.Bytes(dir, layout.DirectoryBytes(depth)) == nil {
		s.problem("stripe root", dir, "stripe %d: %#x is no stripe root", stripe, root)
		s.lose(hashRange{stripe: stripe})
		return
	}
	s.visit(dir)
	before := uint64(0)
	for i := uint64(0); i < 1<<depth && s.failed == nil; i++ {
		at := dir + layout.DirectoryHeaderBytes + i*layout.WordBytes
		word := s.load(at)
		_, local, _, ok := layout.DecodeDirectoryWord(word)
		if i > 0 && word == before && ok && local < depth && i%(1<<(depth-local)) != 0 {
			continue // one of the further words of a segment
		}
		before = word
		s.directoryWord(stripe, depth, i, at, word)
	}
}

// directoryWord walks the segment of one word. Of a segment's several words those
// that agree with its header lead to it.
func (s *salvager) directoryWord(stripe int, depth uint, i, at, word uint64) {
	seg, local, shift, ok := layout.DecodeDirectoryWord(word)
	if !ok || local > depth {
		s.problem("directory word", at, "%#x is no directory word of a directory of depth %d", word, depth)
		s.lose(hashRange{stripe, depth, i})
		return
	}
	want := layout.SegmentHeader{Stripe: stripe, Depth: local, TagShift: shift, Prefix: i >> (depth - local)}
	if i%(1<<(depth-local)) != 0 { // its first word should have been the same
		s.problem("directory word", at, "it differs from the others of its segment")
		s.lose(hashRange{stripe, depth, i})
	}
	s.chain(seg, want, hashRange{stripe, depth, i})
}

// chain walks a segment and its overflow segments. word is the range of the
// directory word that led there.
func (s *salvager) chain(at uint64, want layout.SegmentHeader, word hashRange) {
	for at != 0 {
		covers := hashRange{want.Stripe, want.Depth, want.Prefix}
		h, err := ReadSegment(s.pool, at, want)
		if err != nil {
			s.problem("segment", at, "%v", err)
			s.lose(word)
			s.lose(covers)
			s.lenientSegment(at, want)
			return // its link is no better than its header
		}
		if s.whole[at] {
			if want.Overflow {
				s.problem("segment", at, "two links lead to it")
			}
			return
		}
		s.whole[at] = true
		s.newest = max(s.newest, h.Birth)
		if s.shallow {
			return
		}
		s.visit(at)
		s.slots(at, want, false)
		link := s.load(at + layout.SegmentNext)
		next, ok := layout.DecodeSegmentLink(link)
		switch {
		case !ok:
			s.problem("segment", at, "%#x is no link to an overflow segment", link)
			s.lose(covers)
			return
		case next == 0 && s.goesOn(at):
			s.problem("segment", at, "its last line says that it has an overflow segment, its link does not")
			s.lose(covers)
		}
		at, want.Overflow = next, true
	}
}

// lenientSegment reads the slots of what should be a segment but does not begin as
// the one that is wanted. Only keys that prove that they belong there count.
func (s *salvager) lenientSegment(at uint64, want layout.SegmentHeader) {
	p := s.pool
	if s.hash == nil || s.lenient[at] || at < p.Regions().Arena || at%layout.LineBytes != 0 ||
		p.Bytes(at, p.Geometry().SegmentBytes) == nil {
		return
	}
	s.lenient[at] = true
	s.slots(at, want, true)
}

// slots reads what the slots of a segment lead to.
func (s *salvager) slots(at uint64, want layout.SegmentHeader, lenient bool) {
	covers := hashRange{want.Stripe, want.Depth, want.Prefix}
	if s.pool.Geometry().Inline {
		s.inlineSlots(at, want, lenient)
		return
	}
	for off := at + layout.LineBytes; off < at+uint64(s.pool.Geometry().SegmentBytes) && s.failed == nil; off += layout.WordBytes {
		word := s.load(off)
		reason := s.slot(word, off, want)
		if reason == "" || lenient {
			continue
		}
		s.problem("slot", off, "%s", reason)
		s.lose(covers)
	}
}

// slot keeps the record that a slot leads to, or says what is wrong.
func (s *salvager) slot(word, at uint64, want layout.SegmentHeader) (reason string) {
	if at%layout.LineBytes == 0 {
		word &^= layout.SlotOverflow
	}
	off := layout.SlotRecord(word)
	switch {
	case off == 0 && word != 0:
		return "it is neither empty nor leads to a record"
	case off == 0:
		return ""
	case s.wasVisited(off):
		return "another one leads to the same record"
	}
	rec, ok := s.record(off, int(s.pool.SizeBytes()))
	if !ok {
		return "the record that it leads to is not intact"
	}
	if s.hash != nil {
		h, bits := s.hash(rec.Key), s.pool.Geometry().StripeBits()
		if layout.StripeOf(h, bits) != want.Stripe || layout.DirectoryIndex(h, bits, want.Depth) != want.Prefix ||
			layout.Tag(h, bits, want.TagShift) != word&layout.SlotTagMask {
			return "the record that it leads to does not belong there"
		}
	}
	s.visit(off)
	if s.guessed {
		s.deferred = append(s.deferred, candidate{hash: s.grouping(rec.Key), birth: rec.Birth, off: off, rank: reachedRank})
		return ""
	}
	s.Reached++
	s.keep(off, rec)
	return ""
}

// goesOn tells whether the last line of a segment says that some key lies further
// on. (That other lines do says nothing: the windows of several homes overlap.)
func (s *salvager) goesOn(at uint64) bool {
	if s.pool.Geometry().Inline { // whose probes end in any line
		return false
	}
	return s.load(at+layout.LineBytes*uint64(s.pool.Geometry().Lines()))&layout.SlotOverflow != 0
}
