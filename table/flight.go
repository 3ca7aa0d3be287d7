package table

import "pmemtable/internal/layout"

// Durable before visible: on persistent memory a slot that was stored to, and is not
// drained yet, is named in the line of its stripe's version. A reader that finds it
// there, when it has read the slot, makes the slot durable itself before it answers:
// else a crash could take back what it said, the bug class that Durinn and HawkSet
// found in published persistent indexes.
//
// The name is stored before the slot and cleared behind the drain. So a reader that has
// seen the slot's new word then sees the name, or a later state of that line, when the
// slot is durable; arm64 keeps this order too, since the stores release and the loads
// acquire. A mark in the slot itself would have to be cleared in a line that this drain
// has just evicted, on processors whose CLWB does that.

// takeOff names a slot that is about to be stored to. The stripe is locked, and has
// fewer than layout.InFlightSlots of them.
func (t *Table) takeOff(s *stripe, slot uint64) {
	if t.pool.Flushes() && t.asideOf == nil { // nobody reads what is built aside
		t.pool.Store(t.inFlightAt(s)+uint64(s.flying)*layout.WordBytes, slot)
		s.flying++
	}
}

// land clears the names of the stripe's slots in flight, which are durable now. The
// stripe is locked.
func (t *Table) land(s *stripe) {
	for ; s.flying > 0; s.flying-- {
		t.pool.Store(t.inFlightAt(s)+uint64(s.flying-1)*layout.WordBytes, 0)
	}
}

func (t *Table) inFlightAt(s *stripe) uint64 { return t.versionAt(s.index) + layout.InFlight }

// anyInFlight tells whether a stripe has slots in flight.
func (t *Table) anyInFlight(stripe int) bool {
	return t.pool.Load(t.versionAt(stripe)+layout.InFlight) != 0
}

// drainRead is drainInFlight for a lookup, of what it has read.
func (t *Table) drainRead(stripe int, f *found) {
	if f.chained { // a chain may lie anywhere
		t.drainInFlight(stripe, 0, ^uint64(0))
	} else {
		t.drainInFlight(stripe, f.segment, f.segment+uint64(t.geometry.SegmentBytes))
	}
}

// drainInFlight makes the slots durable that a writer of the stripe has in flight, if
// they lie in what was read, from first to before end.
func (t *Table) drainInFlight(stripe int, first, end uint64) {
	if !t.pool.Flushes() {
		return
	}
	line := t.pool.Line(t.versionAt(stripe))
	for i := layout.InFlight / layout.WordBytes; i < layout.SlotsPerLine; i++ {
		at := line.Load(i)
		if at == 0 {
			return
		}
		if at >= first && at < end && t.pool.Bytes(at, layout.WordBytes) != nil { // a damaged file names anything
			t.pool.PersistWord(at)
		}
	}
}
