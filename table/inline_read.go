package table

import (
	"encoding/binary"
	"runtime"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// findInline looks a hash up in a segment and its chain.
func (t *Table) findInline(f *found, segment, hash uint64) {
	p := t.pool
	more := t.scanInline(f, segment, hash, false)
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
		more = t.scanInline(f, segment, hash, true)
	}
}

// scanInline is scan for inline entries.
func (t *Table) scanInline(f *found, segment, hash uint64, chained bool) (more bool) {
	p := t.pool
	if p.Segment(segment) == nil {
		f.damage("segment", segment)
		return false
	}
	overlay := t.overlay.Load()
	want := f.want
	if overlay == nil && !chained { // most entries lie in their home line
		if home := layout.InlineHome(hash, t.lines); home >= 0 {
			line := p.Line(segment + layout.LineBytes*uint64(home+1))
			if f.inLine(line) || line.Load(0)&layout.SlotOverflow == 0 {
				return false
			}
		}
	}
	walk := t.walkLines(hash, chained)
	for l, ok := walk.Next(); ok; l, ok = walk.Next() {
		at := segment + layout.LineBytes*uint64(l+1)
		line := p.Line(at)
		for i := 0; i < layout.SlotsPerLine; i += layout.InlineSlotBytes / layout.WordBytes {
			word := line.Load(i)
			if overlay == nil && !layout.InlineIs(word, want) {
				continue
			}
			value := line.Load(i + 1)
			if overlay != nil {
				slot := at + uint64(i)*layout.WordBytes
				word, value = t.overlaid(slot, word), t.overlaid(slot+layout.WordBytes, value)
			}
			if held, holds := layout.InlineHolds(word, value); holds && layout.InlineIs(word, want) {
				f.outcome, f.block, f.word = present, 0, held
				return false
			}
		}
		if line.Load(0)&layout.SlotOverflow == 0 {
			return false
		}
	}
	return true
}

// inLine looks for the entry in a line of which no word is laid over.
func (f *found) inLine(line *pmem.Line) bool {
	for i := 0; i < layout.SlotsPerLine; i += layout.InlineSlotBytes / layout.WordBytes {
		if word := line.Load(i); layout.InlineIs(word, f.want) {
			if held, holds := layout.InlineHolds(word, line.Load(i+1)); holds {
				f.outcome, f.block, f.word = present, 0, held
				return true
			}
		}
	}
	return false
}

// lookInline looks a hash up, without a lock. It tries until no block and no slot of
// the stripe was used again meanwhile; a pin would hold back blocks alone.
func (t *Table) lookInline(hash, want uint64) (value uint64, there bool, err error) {
	if t.glancesInline {
		g := t.approach(hash)
		if value, saw := t.takeInline(&g, want); saw != unsure {
			return value, saw == present, nil
		}
	}
	return t.lookInlineWhole(hash, want)
}

// lookInlineWhole is lookInline of a key that a glance did not do for.
func (t *Table) lookInlineWhole(hash, want uint64) (value uint64, there bool, err error) {
	if t.closing.Load() {
		return 0, false, ErrClosed
	}
	stripe := layout.StripeOf(hash, t.stripeBits)
	f := found{want: want}
	for n := 0; ; n++ {
		version := t.version(stripe)
		t.find(&f, nil, hash)
		if t.unchanged(stripe, version) {
			break
		}
		if n < unpinnedTries {
			continue
		}
		if t.pool.ReadOnly() && n > maxForeignTries {
			return 0, false, errBusy
		}
		runtime.Gosched()
	}
	switch {
	case t.closing.Load():
		return 0, false, ErrClosed
	case f.outcome == damaged:
		return 0, false, t.damageError(&f)
	}
	return f.word, f.outcome == present, nil
}

// appendInline is AppendGet of inline entries.
func (t *Table) appendInline(dst, key []byte) ([]byte, error) {
	value, there, err := t.lookInline(t.inlineOf(key))
	if err == nil && !there {
		err = ErrNotFound
	}
	if err != nil {
		return dst, err
	}
	return binary.LittleEndian.AppendUint64(dst, value), nil
}
