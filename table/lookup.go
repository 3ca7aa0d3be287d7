package table

import (
	"bytes"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// A lookup goes
//
//	stripe root -> directory word -> home line -> slot with the key's tag -> record
//
// and on to the next line only while the overflow bit says that some key was
// pushed on, at most WindowLines lines, then to the overflow segments if there
// are any. It takes no lock. What it read may have been reused meanwhile: the
// caller checks the stripe's version, or holds a pin, before it trusts a word of
// it; so nothing here allocates by, or fails on, what it reads: it reports.

type outcome uint8

const (
	absent outcome = iota
	present
	damaged
	unsure // of a glance: nothing is known
)

// found is what a lookup read. It is filled in place: it is too large to be handed
// from call to call. What outcome does not speak of may be left of an earlier lookup.
type found struct {
	outcome outcome
	block   uint64 // offset of the record
	record  []byte // all of it, in place; not checked
	value   []byte
	want    uint64 // of an inline entry: word 0 of its slot without flags, given
	word    uint64 // its value; it has neither block nor record
	object  string // of damage
	at      uint64
	segment uint64 // that was read, or 0
	chained bool   // and some of its chain
}

func (f *found) damage(object string, at uint64) { f.outcome, f.object, f.at = damaged, object, at }

// err reports damage, once the lookup is known to have read what was there.
func (t *Table) damageError(f *found) error {
	if f.object == "record" {
		if err := recovery.RecordDamage(t.pool, f.at); err != nil {
			return err
		}
	}
	return t.pool.Corrupt(f.object, f.at, "a lookup met what no table holds there")
}

// find looks a key up in the working tree, or the one that readers have gone back to.
// Who finds that one finds the tail over it, too: the tail is stored before the
// versions advance, and they before the roots, and the reader's loads of them come the
// other way round.
func (t *Table) find(f *found, key []byte, hash uint64) {
	stripe := layout.StripeOf(hash, t.stripeBits)
	root := t.pool.Load(t.rootAt(stripe))
	if tail := t.tail.Load(); tail != nil {
		if tail = t.tailNow(); tail != nil && t.findInTail(f, tail, key, hash) {
			return
		}
	}
	t.findIn(f, root, key, hash)
	if t.anyInFlight(stripe) {
		t.drainRead(stripe, f)
	}
}

// findIn looks a key up below a stripe root.
func (t *Table) findIn(f *found, root uint64, key []byte, hash uint64) {
	p := t.pool
	f.outcome, f.segment, f.chained = absent, 0, false
	if root == 0 {
		return
	}
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok {
		f.damage("stripe root", t.rootAt(layout.StripeOf(hash, t.stripeBits)))
		return
	}
	at := dir + layout.DirectoryHeaderBytes + layout.DirectoryIndex(hash, t.stripeBits, depth)*layout.WordBytes
	segment, local, shift, ok := layout.DecodeDirectoryWord(p.Load(at))
	if !ok || local > depth || segment == 0 {
		f.damage("directory word", at)
		return
	}
	f.segment = segment
	if t.inline {
		t.findInline(f, segment, hash)
		return
	}
	tag := layout.Tag(hash, t.stripeBits, shift)
	home := layout.HomeLine(hash, t.lines)
	more := t.scan(f, segment, home, home+layout.WindowLines, tag, shift, key)
	for n := 0; more && n < recovery.MaxChain; n++ {
		next, ok := layout.DecodeSegmentLink(p.Load(segment + layout.SegmentNext))
		if !ok {
			f.damage("segment", segment)
			return
		}
		if next == 0 {
			break
		}
		segment, f.chained = next, true
		more = t.scan(f, segment, 0, t.lines, tag, shift, key)
	}
}

// scan looks for the key in the lines from first to before end of a segment. more
// tells that the key may lie in the segment's chain.
func (t *Table) scan(f *found, segment uint64, first, end int, tag uint64, shift uint, key []byte) (more bool) {
	p := t.pool
	if p.Segment(segment) == nil {
		f.damage("segment", segment)
		return false
	}
	overlay := t.overlay.Load() != nil
	for l := first; l < end; l++ {
		at := segment + layout.LineBytes*uint64(l+1)
		line := p.Line(at)
		for i := range layout.SlotsPerLine {
			word := line.Load(i)
			if overlay {
				word = t.overlaid(at+uint64(i)*layout.WordBytes, word)
			}
			if (word^tag)&layout.SlotTagMask != 0 || word&layout.SlotLinkMask == 0 {
				continue
			}
			p.Prefetch(layout.SlotRecord(word) + layout.LineBytes) // on its way with the first line
			if t.match(f, layout.SlotRecord(word), tag, shift, key); f.outcome != absent {
				return false
			}
		}
		if line.Load(0)&layout.SlotOverflow == 0 {
			return false
		}
	}
	return true
}

// match compares the key of the record at off. When the record has another key,
// that key must have the slot's tag: if it has not, the record is damaged, and
// passing it over could hide the one that is looked for.
func (t *Table) match(f *found, off, tag uint64, shift uint, key []byte) {
	record, shape := t.pool.Record(off)
	if record == nil {
		f.damage("record", off)
		return
	}
	end := shape.HeaderSize + shape.KeySize
	if other := record[shape.HeaderSize:end]; !bytes.Equal(other, key) {
		if layout.Tag(t.hash(other), t.stripeBits, shift) != tag {
			f.damage("record", off)
		}
		return
	}
	f.outcome, f.block, f.record, f.value = present, off, record, record[end:]
}
