package recovery

import (
	"fmt"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Start is what a session begins with.
type Start struct {
	Decision Decision
	// Area is the root area in use; Roots are its roots as of open.
	Area  uint64
	Roots Roots
	// Epoch is the session's first; everything found was born before it.
	Epoch uint64
	// Protected is the committed root that a power loss would go back to, if there
	// is one: what it reaches may not be reused before a newer one is durable.
	Protected []pmem.Slot
	// Counts are the entries per stripe, nil when only Mark will tell.
	Counts []uint64
	// NextSequence and IdleSlot are for the next commit.
	NextSequence uint64
	IdleSlot     int
}

// Begin chooses the root and begins a session for writing. A crash anywhere in it
// leaves the previous session's record, by which the next open decides the same,
// or the new one:
//
//  1. choose; an unproven root is checked whole
//  2. the working root: as it is, with a pending intent redone, or rebuilt in the
//     idle root area from the chosen slot
//  3. the epoch: one above every epoch in the file; it, the working root and what was
//     in flight are made durable
//  4. a slot whose commit was cut off is voided, and after a poisoned session those
//     newer than the last good one; after one whose truth was the working root, on a medium whose truth is the
//     committed one, the working root is committed
//  5. the session record
//  6. all stripe versions advance, before any reuse of a block; no slot is in flight
func Begin(p *pmem.Pool) (*Start, error) {
	d, err := Choose(p)
	if err != nil {
		return nil, err
	}
	sequence, highest := p.Highest() // of what nothing below stores to before the epoch is set
	s := &Start{Decision: d, NextSequence: max(sequence, p.Previous().Floor) + 1, IdleSlot: idleSlot(d)}
	if d.Unproven {
		if err := proveRoot(p, d); err != nil {
			return nil, err
		}
	}
	roots, err := s.order(p)
	if err != nil {
		return nil, err
	}
	if highest >= layout.MaxEpoch {
		return nil, p.Corrupt("epoch", p.Regions().Control+layout.ControlEpoch, "%d is beyond what a table can reach", highest)
	}
	s.Epoch = highest + 1
	control := p.Regions().Control
	p.Store(control+layout.ControlEpoch, s.Epoch)
	// One drain for all is enough: until the session record is there, the next open
	// decides as this one did. The working root pointer lies before the epoch.
	for i := range p.Geometry().Stripes {
		for _, slot := range InFlight(p, i) {
			roots = append(roots, pmem.Range{Offset: slot, Bytes: layout.WordBytes})
		}
	}
	p.Persist(append(roots, pmem.Range{Offset: control, Bytes: layout.ControlEpoch + layout.WordBytes})...)
	if err := s.commitFirst(p); err != nil {
		return nil, err
	}
	if err := s.beginSession(p); err != nil {
		return nil, fmt.Errorf("begin session: %w", err)
	}
	for i := range p.Geometry().Stripes {
		at := p.Regions().Versions + uint64(i)*layout.LineBytes
		p.Store(at, p.Load(at)+1)
		for n := uint64(0); n < layout.InFlightSlots; n++ {
			if at := at + layout.InFlight + n*layout.WordBytes; p.Load(at) != 0 {
				p.Store(at, 0) // what it named is drained
			}
		}
	}
	pmem.Fence()
	return s, nil
}

// InFlight returns the slots of a stripe that its writer, or one who was killed, has
// stored to and perhaps not drained: a session serves at once what they hold.
func InFlight(p *pmem.Pool, stripe int) (slots []uint64) {
	if !p.Flushes() {
		return nil
	}
	line := p.Regions().Versions + uint64(stripe)*layout.LineBytes
	for n := uint64(0); n < layout.InFlightSlots; n++ {
		// After a power loss the word may be anything.
		at := p.Load(line + layout.InFlight + n*layout.WordBytes)
		if at >= p.Regions().Arena && at%layout.WordBytes == 0 && p.Bytes(at, layout.WordBytes) != nil {
			slots = append(slots, at)
		}
	}
	return slots
}

// beginSession is step 5. A log that is to be taken up keeps the committed root the
// truth, on every medium, until that is done.
func (s *Start) beginSession(p *pmem.Pool) error {
	floor := p.Previous().Floor
	if s.Decision.Log.Generation != 0 {
		return p.BeginReplay(floor, s.Decision.LogEnd)
	}
	if p.Media() != pmem.PageCache {
		floor, s.Protected = s.NextSequence, nil
	}
	return p.BeginSession(floor)
}

// order puts the working root in order (step 2 of Begin). It returns what of it is
// still to be made durable, besides its pointer.
func (s *Start) order(p *pmem.Pool) ([]pmem.Range, error) {
	r := p.Regions()
	stripes := p.Geometry().Stripes * layout.WordBytes
	if s.Decision.Working {
		if err := redoIntent(p); err != nil {
			return nil, err
		}
		area, err := WorkingRoot(p)
		if err != nil {
			return nil, err
		}
		s.Area, s.Roots = area, readRoots(p, area)
		// A kill may have left the stripe roots stored but not drained, and what lies
		// behind an old word may not be reused before the new one is durable. The
		// metadata word only changes by an intent, which is cleared when it is durable.
		return []pmem.Range{{Offset: area + layout.RootStripes, Bytes: stripes}}, nil
	}
	p.ClearIntent() // before the working root means something again
	s.Area = r.Root[0]
	if p.Load(r.Control+layout.ControlRoot) == s.Area {
		s.Area = r.Root[1]
	}
	s.Roots = slotRoots(s.Decision.Slot)
	p.Store(s.Area+layout.RootMetadata, s.Roots.Metadata)
	for i, w := range s.Roots.Stripes {
		p.Store(s.Area+layout.RootStripes+uint64(i)*layout.WordBytes, w)
	}
	// The area first: if a kill left the record that says "clean" undrained, power
	// loss may yet make the pointer the truth.
	p.Persist(pmem.Range{Offset: s.Area, Bytes: layout.RootStripes + stripes})
	p.Store(r.Control+layout.ControlRoot, s.Area)
	if s.Decision.Slot.CountsKnown {
		s.Counts = s.Decision.Slot.Counts
	}
	return nil, nil
}

// redoIntent finishes a change of several words that was decided and perhaps begun.
func redoIntent(p *pmem.Pool) error {
	stores := p.PendingIntent()
	if stores == nil {
		// A kill may have come when one was cleared, and not durably: a later power loss
		// would bring it back, over blocks that were reused by then. And one that is torn
		// must not be completed by the stores of the next.
		p.ClearIntent()
		return nil
	}
	r := p.Regions()
	for _, s := range stores {
		inArena := s.Offset >= r.Arena && s.Offset < p.SizeBytes() && s.Offset%layout.WordBytes == 0
		if !inArena && s.Offset != r.Control+layout.ControlRoot && !inRootArea(p, s.Offset) {
			return p.Corrupt("intent record", r.Intent, "it would store to %#x", s.Offset)
		}
	}
	// A kill may have left the record stored but not drained: durable before the
	// first of its stores, or power loss now could leave a part of them.
	p.Persist(p.IntentRange(len(stores)))
	ranges := make([]pmem.Range, len(stores))
	for i, s := range stores {
		p.Store(s.Offset, s.Word)
		ranges[i] = pmem.Range{Offset: s.Offset, Bytes: layout.WordBytes}
	}
	p.Persist(ranges...)
	p.ClearIntent()
	return nil
}

func inRootArea(p *pmem.Pool, off uint64) bool {
	sizeBytes := uint64(layout.RootStripes + p.Geometry().Stripes*layout.WordBytes)
	for _, at := range p.Regions().Root {
		if off >= at && off < at+sizeBytes && off%layout.WordBytes == 0 {
			return true
		}
	}
	return false
}

// commitFirst is step 4 of Begin, and says what must stay protected.
func (s *Start) commitFirst(p *pmem.Pool) error {
	if err := p.VoidTorn(); err != nil {
		return err
	}
	for _, slot := range p.Slots() {
		switch {
		case s.Decision.Poisoned && slot.Sequence > s.Decision.Slot.Sequence:
			if err := p.VoidSlot(slot.Index); err != nil {
				return err
			}
		case s.Decision.Clean && slot.Sequence != s.Decision.Slot.Sequence:
			// The newer one is known to be durable.
		case len(s.Protected) == 0:
			// Slots come newest first. This one may not be durable yet, if a kill came
			// in the middle of its commit: Settle makes it so, before any block is
			// reused. Nothing older counts from then on, and the older tree cannot be
			// marked: if the newer slot was durable before, writers may have reused
			// its blocks.
			s.Protected = append(s.Protected, slot)
		}
	}
	if prev := p.Previous(); prev.Poisoned != 0 && prev.LastGood == 0 && len(s.Protected) > 0 {
		p.DirtySlot(&s.Protected[0])
	}
	wasCached := p.Previous().Medium == uint8(layout.MediumPageCache)
	if p.Media() != pmem.PageCache || !s.Decision.Working || wasCached {
		return nil
	}
	sb := pmem.Superblock{
		Sequence: s.NextSequence,
		Epoch:    s.Epoch - 1,
		Metadata: s.Roots.Metadata,
		Roots:    s.Roots.Stripes,
		Counts:   make([]uint64, len(s.Roots.Stripes)),
	}
	if err := p.Commit(&sb, s.IdleSlot); err != nil {
		return err
	}
	s.Protected = []pmem.Slot{{Index: s.IdleSlot, Superblock: sb}}
	s.NextSequence++
	s.IdleSlot ^= 1
	return nil
}

// Settle makes the committed root durable that an unclean end may have left
// half-way, before blocks that only an older one reached are reused, or that one's
// slot is. It is not part of Begin, since it may have to wait for the disk.
func (s *Start) Settle(p *pmem.Pool) error {
	if s.Decision.Clean || len(s.Protected) == 0 {
		return nil
	}
	return p.SyncSlot(&s.Protected[0])
}

// idleSlot is the slot that the next commit may overwrite: not the one that counts.
func idleSlot(d Decision) int {
	if d.Slot != nil {
		return d.Slot.Index ^ 1
	}
	return 0
}

// proveRoot checks a root that nothing vouches for.
func proveRoot(p *pmem.Pool, d Decision) error {
	began := time.Now()
	roots, overlay, err := decided(p, d)
	if err != nil {
		return err
	}
	c := checkRoots(p, roots, overlay, nil)
	if !d.Working && d.Slot.CountsKnown {
		c.compareCounts(d.Slot.Counts)
	}
	report := &c.Report
	p.Logger().Warn("checked the whole table before use", "why", d.Why, "entries", report.Entries,
		"problems", len(report.Problems), "took", time.Since(began))
	if err := report.Err(p); err != nil {
		return fmt.Errorf("%w (this file was copied or restored, or outlived its machine, while it was open: "+
			"restore another copy, or salvage what is intact)", err)
	}
	return nil
}

// decided returns the roots that a decision names, without a store to the pool.
// overlay holds the words of a pending intent.
func decided(p *pmem.Pool, d Decision) (Roots, map[uint64]uint64, error) {
	if !d.Working {
		return slotRoots(d.Slot), nil, nil
	}
	overlay := make(map[uint64]uint64)
	for _, s := range p.PendingIntent() {
		overlay[s.Offset] = s.Word
	}
	area, err := WorkingRoot(p)
	r := p.Regions()
	if w, ok := overlay[r.Control+layout.ControlRoot]; ok {
		area, err = w, nil
		if w != r.Root[0] && w != r.Root[1] {
			err = p.Corrupt("intent record", r.Intent, "%#x is neither root area", w)
		}
	}
	if err != nil {
		return Roots{}, nil, err
	}
	roots := readRoots(p, area)
	if w, ok := overlay[area+layout.RootMetadata]; ok {
		roots.Metadata = w
	}
	return roots, overlay, nil
}

// View is what a read-only open reads from: a root area or a superblock slot.
type View struct {
	Decision Decision
	// StripeRoots is the offset of the array of stripe roots, Metadata that of
	// the metadata word.
	StripeRoots, Metadata uint64
	Counts                []uint64 // nil if not known
	// Overlay holds the words of a batch that a crash cut off.
	Overlay map[uint64]uint64
}

// OpenView chooses the root for a read-only open, which stores nothing.
func OpenView(p *pmem.Pool) (*View, error) {
	d, err := Choose(p)
	if err != nil {
		return nil, err
	}
	if d.Unproven {
		if err := proveRoot(p, d); err != nil {
			return nil, err
		}
	}
	v := &View{Decision: d}
	if !d.Working {
		v.StripeRoots = p.SlotRoots(d.Slot.Index)
		v.Metadata = p.SlotMetadata(d.Slot.Index)
		if d.Slot.CountsKnown {
			v.Counts = d.Slot.Counts
		}
		return v, nil
	}
	roots, overlay, err := decided(p, d)
	if err != nil {
		return nil, err
	}
	area := roots.area
	if !p.BesideWriter() && len(overlay) > 0 { // a live writer's batch is not cut off
		p.Persist(p.IntentRange(len(overlay)))
		v.Overlay = overlay
	}
	v.StripeRoots, v.Metadata = area+layout.RootStripes, area+layout.RootMetadata
	return v, nil
}
