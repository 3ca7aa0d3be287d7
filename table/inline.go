package table

import (
	"encoding/binary"
	"fmt"

	"pmemtable/internal/layout"
)

// A table of inline entries has no records: the slot of a key holds the key's hash,
// which is the key, and the value (internal/layout/inline.go). Everything above the
// bucket lines is as in other tables; a change of an entry is made in the line:
//
//	insert   the overflow bits that a lookup needs to get to the slot, and a drain if
//	         there are any; then the value, then word 0, then one drain. Of the slot's
//	         two words a crash may leave either: word 0 without the value is no entry,
//	         since the value of a free slot is durably 0; the value alone is none.
//	insert of 0, overwrite by 0
//	         word 0, which then says that the value is 0; one drain.
//	overwrite
//	         the value; one drain. A crash finds the old one or the new one.
//	overwrite of 0
//	         the value, a drain, word 0, a drain: of the two words in one drain a crash
//	         could leave word 0 and an older value.
//	delete   word 0, the value becomes 0; one drain. Either is enough for no entry to
//	         be there, and both are durable before the slot is free again.
//
// After a crash a slot may be free whose value is not 0. Nobody stores to it: the
// session that follows has a newer epoch, so the segment is copied before a store,
// and the copy leaves all out that is no entry.
//
// The slot is in flight from before its first store to behind its last drain (see
// flight.go). It lies in one line, as every aligned pair of words does.
//
// A reader without a lock loads word 0, then the value. Both are of one entry, unless
// the slot was emptied and filled for another key in between: before a slot is used
// again the stripe's version moves, as before a block is.

// words are what a mutation stores and compares in a table of inline entries.
type words struct {
	want               uint64 // of the slot, without flags
	value, expect, old uint64
	never              bool // expect is of a size that no value has
}

// aim checks a mutation and finds out where its key belongs.
func (t *Table) aim(m *mutation) error {
	if t.inline {
		return t.aimInline(m)
	}
	if err := checkSizes(m); err != nil {
		return err
	}
	m.hash = t.hash(m.key)
	return nil
}

func (t *Table) aimInline(m *mutation) error {
	if m.inline { // an Index has said it in words
		return nil
	}
	if err := t.checkKeySize(len(m.key)); err != nil {
		return err
	}
	if m.kind.stores() && len(m.value) != layout.InlineValueBytes {
		return fmt.Errorf("%w: a value of %d bytes, the table's have %d", ErrEntrySize, len(m.value), layout.InlineValueBytes)
	}
	m.inline = true
	m.hash, m.words.want = t.inlineOf(m.key)
	if m.kind.stores() {
		m.words.value = binary.LittleEndian.Uint64(m.value)
	}
	if m.words.never = len(m.expect) != layout.InlineValueBytes; !m.words.never {
		m.words.expect = binary.LittleEndian.Uint64(m.expect)
	}
	return nil
}

// checkKeySize refuses a key that no entry of the table can have.
func (t *Table) checkKeySize(n int) error {
	switch {
	case t.inline && n != layout.InlineKeyBytes:
		return fmt.Errorf("%w: a key of %d bytes, the table's have %d", ErrEntrySize, n, layout.InlineKeyBytes)
	case n > layout.MaxKeyBytes:
		return tooLargeKey(n)
	}
	return nil
}

// inlineOf is InlineMap.Of for a key of bytes.
func (t *Table) inlineOf(key []byte) (hash, want uint64) {
	var b [layout.InlineKeyBytes]byte
	copy(b[:], key) // one of another size is refused where it matters
	return t.inlineMap.Of(binary.LittleEndian.Uint64(b[:]))
}

// inlineKey appends the key of a hash and a slot's word to b.
func (t *Table) inlineKey(b []byte, hash, word uint64) []byte {
	key, _ := t.inlineMap.Key(layout.StripeOf(hash, t.stripeBits), word)
	return binary.LittleEndian.AppendUint64(b, key)
}

// lineWalk goes through the lines in which a hash may lie: those of its probe, or in a
// segment of a chain all.
type lineWalk struct {
	probe   layout.InlineProbe
	chained bool
	next    int
	lines   int
}

func (t *Table) walkLines(hash uint64, chained bool) lineWalk {
	return lineWalk{probe: layout.ProbeInline(hash, t.lines), chained: chained, lines: t.lines}
}

func (w *lineWalk) Next() (line int, ok bool) {
	if !w.chained {
		return w.probe.Next()
	}
	w.next++
	return w.next - 1, w.next <= w.lines
}

// slotsBefore counts the slots of the window before the line that Next returned last.
func (w *lineWalk) slotsBefore() int { return w.probe.Passed() * layout.InlineSlotsPerLine }

// locateInline is locateLines for inline entries.
func (t *Table) locateInline(at *place) (more bool) {
	n := at.segments - 1
	if home := layout.InlineHome(at.hash, t.lines); n == 0 && home >= 0 { // most entries lie there
		if found, overflows := t.locateInLine(at, home, n, 0); found || !overflows && at.free != 0 {
			return false
		}
	}
	walk := t.walkLines(at.hash, n > 0)
	overflows := true
	for l, ok := walk.Next(); ok; l, ok = walk.Next() {
		found, further := t.locateInLine(at, l, n, walk.slotsBefore())
		if found && overflows {
			return false
		}
		at.slot = 0 // no lookup comes to one behind a line without the overflow bit
		if !further {
			overflows = false // the key is not further on; a free slot may be
			if at.free != 0 {
				return false
			}
		}
	}
	return overflows || at.free == 0
}

// locateInLine looks for the entry, and for a free slot, in a line of the n-th segment of
// the place, of whose window so many slots come before. further tells that the line has
// the overflow bit.
func (t *Table) locateInLine(at *place, l, n, before int) (found, further bool) {
	lineAt := at.seg(n) + layout.LineBytes*uint64(l+1)
	line := t.pool.Line(lineAt)
	for i := range layout.InlineSlotsPerLine {
		word := line.Load(2 * i)
		value, holds := layout.InlineHolds(word, line.Load(2*i+1))
		switch slot := lineAt + uint64(i)*layout.InlineSlotBytes; {
		case !holds:
			if at.free == 0 {
				at.offer(slot, l, n, l, n == 0 && before+i >= at.header.Reach)
			}
		case layout.InlineIs(word, at.want):
			at.slot, at.word, at.value, at.segment = slot, word, value, n
			return true, false
		}
	}
	return false, line.Load(0)&layout.SlotOverflow != 0
}

// setOverflowInline is setOverflow for inline entries.
func (t *Table) setOverflowInline(at *place) {
	if at.freeSegment == 0 && at.freeLine == layout.InlineHome(at.hash, t.lines) {
		return // the first line of all
	}
	var set overflowBits
	for i := 0; i <= at.freeSegment; i++ {
		walk := t.walkLines(at.hash, i > 0)
		for l, ok := walk.Next(); ok && (i < at.freeSegment || l != at.freeLine); l, ok = walk.Next() {
			set.add(t.pool, at.seg(i)+layout.LineBytes*uint64(l+1))
		}
	}
	set.persist(t.pool)
}

// inlineChange is the stores by which a mutation changes a slot, in their order.
type inlineChange struct {
	slot    uint64
	stores  [2]layout.IntentStore
	n       int
	between bool // a drain belongs between the two
	reuses  bool // the slot has held another entry
}

func (c *inlineChange) store(offset, word uint64) {
	c.stores[c.n] = layout.IntentStore{Offset: offset, Word: word}
	c.n++
}

// inlineChange says how a mutation changes the slot that it has been given.
func (t *Table) inlineChange(m *mutation, at *place) (c inlineChange) {
	value := m.words.value
	c.slot = at.slot
	if c.slot == 0 {
		c.slot = at.free
	}
	old := t.pool.Load(c.slot) // not what was located: another change of a batch may have set its overflow bit
	switch {
	case at.slot == 0:
		c.reuses = old>>layout.InlineFlagBits != 0
		word := at.want | layout.InlineLive | old&layout.SlotOverflow
		if value == 0 {
			c.store(at.free, word|layout.InlineZero)
			break
		}
		c.store(at.free+layout.WordBytes, value)
		c.store(at.free, word)
	case !m.kind.stores():
		c.store(at.slot, old&^(layout.InlineLive|layout.InlineZero))
		c.store(at.slot+layout.WordBytes, 0)
	case value == 0:
		c.store(at.slot, old|layout.InlineZero)
	default:
		c.store(at.slot+layout.WordBytes, value)
		if old&layout.InlineZero != 0 {
			c.store(at.slot, old&^layout.InlineZero)
			c.between = true
		}
	}
	return c
}

// publishInline carries a mutation out in its slot.
func (t *Table) publishInline(s *stripe, m *mutation, at *place) {
	if at.slot == 0 {
		t.setOverflowInline(at)
	}
	c := t.inlineChange(m, at)
	t.reuseSlot(s, &c)
	logged := t.logChange(m)
	t.takeOff(s, c.slot)
	for i := range c.n {
		t.pool.Store(c.stores[i].Offset, c.stores[i].Word)
		if c.between && i == 0 {
			t.pool.PersistWord(c.slot)
		}
	}
	t.drainSlot(s, c.slot)
	t.settle(s, m, at, logged)
}

// reuseSlot has readers notice that a slot is used again: one that loaded the key of
// its last entry must not take the value of the next for that one's. The stripe is
// locked, and nothing is stored to the slot yet.
func (t *Table) reuseSlot(s *stripe, c *inlineChange) {
	if c.reuses && t.asideOf == nil {
		t.pool.Store(t.versionAt(s.index), t.version(s.index)+1)
	}
}

// inlineRecord is a mutation as a record, the form that changes have in the log.
func (t *Table) inlineRecord(b []byte, m *mutation) []byte {
	var head [layout.MaxRecordHeaderBytes]byte
	n := layout.RecordHeader(&head, t.epoch.Load(), layout.InlineKeyBytes, layout.InlineValueBytes)
	b = t.inlineKey(append(b, head[:n]...), m.hash, m.words.want)
	b = binary.LittleEndian.AppendUint64(b, m.words.value)
	binary.LittleEndian.PutUint32(b, layout.RecordChecksum(b))
	return b
}

// slotsPerLine is how many entries a bucket line has room for.
func (t *Table) slotsPerLine() int {
	if t.inline {
		return layout.InlineSlotsPerLine
	}
	return layout.SlotsPerLine
}

// homeLine is the line in which a lookup begins.
func (t *Table) homeLine(hash uint64) int {
	if t.inline {
		if home := layout.InlineHome(hash, t.lines); home >= 0 {
			return home
		}
		probe := layout.ProbeInline(hash, t.lines)
		line, _ := probe.Next()
		return line
	}
	return layout.HomeLine(hash, t.lines)
}
