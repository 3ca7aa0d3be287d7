package recovery

import (
	"encoding/binary"

	"pmemtable/internal/layout"
)

// inlineSlots is slots for inline entries.
func (s *salvager) inlineSlots(at uint64, want layout.SegmentHeader, lenient bool) {
	p := s.pool
	if s.hash == nil {
		s.problem("segment", at, "its keys cannot be told without the seed of their hash, which the header has")
		return
	}
	for l := range p.Geometry().Lines() {
		for i := range layout.InlineSlotsPerLine {
			slot := InlineSlot(at, l, i)
			word := s.load(slot)
			value, holds := layout.InlineHolds(word, s.load(slot+layout.WordBytes))
			if !holds || s.failed != nil {
				continue
			}
			hash, key, belongs := InlineEntry(p, want, word)
			if !belongs || !want.Overflow && !layout.ProbeMeets(hash, p.Geometry().Lines(), l) {
				if !lenient {
					s.problem("slot", slot, "its key does not belong there")
					s.lose(hashRange{want.Stripe, want.Depth, want.Prefix})
				}
				continue
			}
			s.Reached++
			s.emitInline(key, value)
		}
	}
}

func (s *salvager) emitInline(key, value uint64) {
	b := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, key), value)
	rec := Record{Key: b[:layout.InlineKeyBytes], Value: b[layout.InlineKeyBytes:]}
	if !s.shadowed(rec) { // without a birth it is older than what the log says
		_, s.failed = s.emit(rec)
	}
}
