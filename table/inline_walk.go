package table

import (
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// inlineEntry is an entry of a step.
type inlineEntry struct{ hash, key, value uint64 }

// eachInline is eachSlot for inline entries: fn gets an entry and which
// line it lies in. Each is of one instant, of its own.
func (t *Table) eachInline(segment uint64, want layout.SegmentHeader, fn func(e inlineEntry, segment uint64, line int, chained bool) error) error {
	p := t.pool
	for n := 0; ; n++ {
		if _, err := recovery.ReadSegment(p, segment, want); err != nil {
			return err
		}
		for l := range t.lines {
			for i := range layout.InlineSlotsPerLine {
				word, value := t.stableSlot(want.Stripe, recovery.InlineSlot(segment, l, i))
				value, holds := layout.InlineHolds(word, value)
				if !holds {
					continue
				}
				e := inlineEntry{value: value}
				var belongs bool
				if e.hash, e.key, belongs = recovery.InlineEntry(p, want, word); !belongs {
					return p.Corrupt("slot", recovery.InlineSlot(segment, l, i), "its key belongs to another segment")
				}
				if err := fn(e, segment, l, n > 0); err != nil {
					return err
				}
			}
		}
		t.drainInFlight(want.Stripe, segment, segment+uint64(t.geometry.SegmentBytes))
		next, ok := layout.DecodeSegmentLink(p.Load(segment + layout.SegmentNext))
		if !ok || n > recovery.MaxChain {
			return p.Corrupt("segment", segment, "its link to an overflow segment is damaged")
		}
		if next == 0 {
			return nil
		}
		segment, want.Overflow = next, true
	}
}

// stableSlot reads the two words of a slot as they were at one instant, or as a crash
// left them and an intent completes them: that the stripe's version did not move says
// that the slot was not used again in between.
func (t *Table) stableSlot(stripe int, at uint64) (word, value uint64) {
	for {
		version := t.pool.Load(t.versionAt(stripe))
		word = t.overlaid(at, t.pool.Load(at))
		value = t.overlaid(at+layout.WordBytes, t.pool.Load(at+layout.WordBytes))
		flush.LoadFence()
		if t.pool.Load(t.versionAt(stripe)) == version {
			return word, value
		}
	}
}

// inlineFrom copies the entries of a segment and its chain from cursor on, in the order
// of their hashes.
func (t *Table) inlineFrom(segment uint64, want layout.SegmentHeader, cursor uint64) ([]scanned, error) {
	var entries []inlineEntry
	err := t.eachInline(segment, want, func(e inlineEntry, _ uint64, _ int, _ bool) error {
		if e.hash >= cursor {
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b inlineEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key))
	})
	// A key that went and came again meanwhile may have been found in two slots.
	entries = slices.CompactFunc(entries, func(a, b inlineEntry) bool { return a.key == b.key })
	buf := make([]byte, 0, len(entries)*layout.InlineSlotBytes)
	found := make([]scanned, len(entries))
	for i, e := range entries {
		buf = binary.LittleEndian.AppendUint64(buf, e.key)
		buf = binary.LittleEndian.AppendUint64(buf, e.value)
		b := buf[len(buf)-layout.InlineSlotBytes:]
		found[i] = scanned{hash: e.hash, key: b[:layout.InlineKeyBytes:layout.InlineKeyBytes], value: b[layout.InlineKeyBytes:]}
	}
	return found, nil
}

// probesTo counts the lines that a lookup reads to get to a line of a key's window;
// all of them for a line that is not one of these.
func (t *Table) probesTo(hash uint64, line int) (n int) {
	probe := layout.ProbeInline(hash, t.lines)
	for l, ok := probe.Next(); ok; l, ok = probe.Next() {
		if n++; l == line {
			break
		}
	}
	return n
}

// putManyInline is PutMany of inline entries: the lines of a group are asked for at
// once, then each entry is stored as by Put.
func (t *Table) putManyInline(keys, values [][]byte) error {
	defer runtime.KeepAlive(t)
	var at point
	for first := 0; first < len(keys); first += manyGroup {
		end := min(first+manyGroup, len(keys))
		for _, key := range keys[first:end] {
			t.lineAhead(t.hash(key))
		}
		for i := first; i < end; i++ {
			m := mutation{kind: store, key: keys[i], value: values[i]}
			if err := t.aim(&m); err != nil {
				return err
			}
			if err := t.attempt(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], &m); err != nil {
				return err
			}
			at = at.and(m.at)
		}
	}
	return t.acknowledge(at, true)
}
