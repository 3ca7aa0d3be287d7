package table

import (
	"slices"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// A glance is a lookup that needs no more than the home line of its key and one record,
// as nearly all do. It knows nothing of any other case, and gives up, having decided
// nothing, where one is met: an overflow bit, a record of another key
// under the same tag, a slot in flight, a tail, a version that moved, damage. Then the
// whole lookup begins anew (find). It trusts what it read by the same version.
//
// Its steps are apart so that those of a group overlap, each asking for the memory that
// the next one reads. The three passes over a group are those of the batched lookups of
// main-memory joins (Chen et al., Improving hash join performance through prefetching,
// 2004).
type glance struct {
	stripe  *pmem.Line // the line of its version
	version uint64
	line    *pmem.Line // the home line; nil: this lookup is no glance
	tag     uint64
}

// approach is the first step: it follows the stripe's root and directory to the home
// line, and reads nothing of that.
func (t *Table) approach(hash uint64) (g glance) {
	if t.closing.Load() { // whoever asks first is told so, whatever became of the file
		return g
	}
	p := t.pool
	stripe := layout.StripeOf(hash, t.stripeBits)
	g.stripe = &t.versionLines[stripe]
	g.version = g.stripe.Load(0)
	root := p.Load(t.rootAt(stripe))
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok || root == 0 || t.tail.Load() != nil { // behind the root, as in find
		return g
	}
	word := p.Load(dir + layout.DirectoryHeaderBytes + layout.DirectoryIndex(hash, t.stripeBits, depth)*layout.WordBytes)
	segment, local, shift, ok := layout.DecodeDirectoryWord(word)
	if !ok || local > depth {
		return g
	}
	g.tag = layout.Tag(hash, t.stripeBits, shift)
	home := layout.HomeLine(hash, t.lines)
	if t.inline {
		home = t.homeLine(hash)
	}
	g.line = p.SegmentLine(segment, home)
	return g
}

// choose is the second step: it finds the record with the key's tag, 0 for none, and
// reads nothing of that. false: this lookup is no glance.
func (g *glance) choose() (record uint64, ok bool) {
	if g.line == nil {
		return 0, false
	}
	_, word, ok := g.line.Find(g.tag, layout.SlotTagMask)
	if !ok {
		return 0, g.line.Load(0)&layout.SlotOverflow == 0
	}
	record = layout.SlotRecord(word)
	return record, record != 0 // an empty slot agrees with the tag 0
}

// take is the third step: it appends the value to dst. unsure: this lookup is no glance.
func (t *Table) take(g *glance, at uint64, dst, key []byte, most int) ([]byte, outcome) {
	saw, out := absent, dst
	if at != 0 {
		record, shape := t.pool.Record(at)
		if record == nil || !shape.Names(record, key) || shape.ValueSize > most {
			return dst, unsure
		}
		if cap(dst)-len(dst) < shape.ValueSize {
			if !g.stands() { // before allocating by a size that was read
				return dst, unsure
			}
			out = slices.Grow(dst, shape.ValueSize)
		}
		out = append(out, record[shape.HeaderSize+shape.KeySize:]...)
		if !t.trust && !layout.RecordIntact(record) {
			return dst, unsure
		}
		saw = present
	}
	if !g.stands() || t.closing.Load() {
		return dst, unsure
	}
	return out, saw
}

// sees is the third step of who wants to know whether the key is there, and no more.
func (t *Table) sees(g *glance, at uint64, key []byte) outcome {
	saw := absent
	if at != 0 {
		record, shape := t.pool.Record(at)
		if record == nil || !shape.Names(record, key) {
			return unsure
		}
		saw = present
	}
	if !g.stands() || t.closing.Load() {
		return unsure
	}
	return saw
}

// stands tells whether what was read can be trusted: no slot of the stripe was in flight
// behind the reading of the line (see flight.go), and no block was reused.
func (g *glance) stands() bool {
	flying := g.stripe.Load(layout.InFlight / layout.WordBytes)
	flush.LoadFence()
	return flying == 0 && g.stripe.Load(0) == g.version
}

// takeInline is the second and last step for an inline entry.
func (t *Table) takeInline(g *glance, want uint64) (value uint64, saw outcome) {
	if g.line == nil {
		return 0, unsure
	}
	f := found{want: want}
	switch {
	case f.inLine(g.line):
		saw = present
	case g.line.Load(0)&layout.SlotOverflow != 0:
		return 0, unsure
	}
	if !g.stands() || t.closing.Load() {
		return 0, unsure
	}
	return f.word, saw
}
