package table

import (
	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// locateHome is locate and prepare at once for what most mutations find: the stripe
// remembers the head of the segment, which is of this epoch; and the key is in its home
// line, or is nowhere and has room there. Then at says all that publish asks of it. false:
// nothing is decided, and locate begins anew; it alone reports damage. at is new, or reset.
func (t *Table) locateHome(s *stripe, at *place, key []byte, hash uint64) bool {
	p := t.pool
	root := p.Load(t.rootAt(s.index))
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok || root == 0 || root != s.heads.root { // else it was checked when the heads were noted
		return false
	}
	index := layout.DirectoryIndex(hash, t.stripeBits, depth)
	segment, local, shift, ok := layout.DecodeDirectoryWord(p.Load(dir + layout.DirectoryHeaderBytes + index*layout.WordBytes))
	head := &s.heads.of[index&uint64(len(s.heads.of)-1)]
	if !ok || local > depth || segment == 0 || head.segment != segment || head.birth != t.epoch.Load() {
		return false
	}
	if t.inline {
		at.near[0], at.header.Reach, at.hash = segment, head.reach, hash
		return t.inHomeLineInline(at)
	}
	at.tag = layout.Tag(hash, t.stripeBits, shift)
	at.home = layout.HomeLine(hash, t.lines)
	return t.inHomeLine(at, segment, head.reach, key)
}

// inHomeLine looks for the key, and else for a free slot, in its home line.
func (t *Table) inHomeLine(at *place, segment uint64, reach int, key []byte) bool {
	line := t.pool.SegmentLine(segment, at.home)
	if line == nil {
		return false
	}
	lineAt := segment + layout.LineBytes*uint64(at.home+1)
	i, word, ok := line.Find(at.tag, layout.SlotTagMask)
	if ok {
		off := layout.SlotRecord(word) // 0 of an empty slot, which agrees with the tag 0: no record
		record, shape := recovery.IntactRecord(t.pool, off)
		if record == nil || !shape.Names(record, key) {
			return false
		}
		at.slot, at.word = lineAt+uint64(i)*layout.WordBytes, word
		at.block, at.bytes, at.shape = off, record, shape
		return true
	}
	if line.Load(0)&layout.SlotOverflow != 0 {
		return false
	}
	if i, _, ok = line.Find(0, layout.SlotLinkMask); !ok || i >= reach {
		return false
	}
	at.free, at.freeLine = lineAt+uint64(i)*layout.WordBytes, at.home
	at.freeSegment, at.freeDisplacement = 0, 0
	return true
}

// inHomeLineInline is inHomeLine for inline entries.
func (t *Table) inHomeLineInline(at *place) bool {
	home := layout.InlineHome(at.hash, t.lines)
	if home < 0 {
		return false
	}
	found, further := t.locateInLine(at, home, 0, 0)
	return found || !further && at.free != 0 && !at.beyond
}
