package table

import (
	"pmemtable/internal/layout"
)

// separatesInline is what separates asks of the full window of an inline key.
func (t *Table) separatesInline(at *place) bool {
	depth := at.header.Depth
	side := layout.DirectoryIndex(at.hash, t.stripeBits, depth+1) & 1
	walk := t.walkLines(at.hash, false)
	for l, ok := walk.Next(); ok; l, ok = walk.Next() {
		line := t.pool.Line(at.near[0] + layout.LineBytes*uint64(l+1))
		for i := 0; i < layout.SlotsPerLine; i += 2 {
			hash := t.inlineMap.Hash(at.header.Stripe, line.Load(i))
			_, holds := layout.InlineHolds(line.Load(i), line.Load(i+1))
			if holds && layout.DirectoryIndex(hash, t.stripeBits, depth+1)&1 != side {
				return true
			}
		}
	}
	return false
}

// divideInline is divide for inline entries: those at home go first, the others after
// them, so that they seldom lie further on than before.
func (t *Table) divideInline(chain []uint64, h layout.SegmentHeader, halves *[2]half) error {
	for pass := range 2 {
		for l := range t.lines {
			if err := t.divideLine(chain[0], l, pass == 0, false, h, halves); err != nil {
				return err
			}
		}
	}
	for _, segment := range chain[1:] {
		for l := range t.lines {
			if err := t.divideLine(segment, l, false, true, h, halves); err != nil {
				return err
			}
		}
	}
	return nil
}

// divideLine puts entries of a line into their halves: those at home, or those that are
// not, or all of a line of a chain.
func (t *Table) divideLine(segment uint64, l int, home, chained bool, h layout.SegmentHeader, halves *[2]half) error {
	at := segment + layout.LineBytes*uint64(l+1)
	line := t.pool.Line(at)
	for i := 0; i < layout.SlotsPerLine; i += 2 {
		word, value := line.Load(i), line.Load(i+1)
		if _, holds := layout.InlineHolds(word, value); !holds {
			continue
		}
		hash := t.inlineMap.Hash(h.Stripe, word)
		if !chained {
			probe := layout.ProbeInline(hash, t.lines)
			if first, _ := probe.Next(); (first == l) != home {
				continue
			}
			if !home && !layout.ProbeMeets(hash, t.lines, l) {
				return t.pool.Corrupt("slot", at, "line %d holds a key of which no lookup gets there", l)
			}
		}
		side := layout.DirectoryIndex(hash, t.stripeBits, h.Depth+1) & 1
		halves[side].putInline(word&^layout.SlotOverflow, value, hash)
	}
	return nil
}

// putInline adds an entry: where its probe finds room, else in the first free slot of
// the chain.
func (h *half) putInline(word, value, hash uint64) {
	for i := 0; ; i++ {
		if i == len(h.built) {
			h.built = append(h.built, h.table.newBuilder())
		}
		if h.built[i].putInline(word, value, h.table.walkLines(hash, i > 0)) {
			return
		}
	}
}

// putInline is put for an inline entry.
func (b *builder) putInline(word, value uint64, walk lineWalk) bool {
	for l, ok := walk.Next(); ok; l, ok = walk.Next() {
		at := layout.LineBytes * (l + 1)
		if n := b.used[l]; n < layout.InlineSlotsPerLine {
			off := at + int(n)*layout.InlineSlotBytes
			b.setWord(off, word|b.word(off)&layout.SlotOverflow)
			b.setWord(off+layout.WordBytes, value)
			b.used[l]++
			return true
		}
		b.setWord(at, b.word(at)|layout.SlotOverflow)
	}
	return false
}

// tidyInline makes a copied segment hold entries and nothing else.
func (b *builder) tidyInline() {
	for off := layout.LineBytes; off < len(b.buf); off += layout.InlineSlotBytes {
		word := b.word(off)
		if _, holds := layout.InlineHolds(word, b.word(off+layout.WordBytes)); !holds {
			b.setWord(off, word&layout.SlotOverflow)
			b.setWord(off+layout.WordBytes, 0)
		}
	}
}
