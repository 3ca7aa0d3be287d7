package recovery

import (
	"fmt"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Decision says which root of a pool is the truth.
type Decision struct {
	// Working: the working root is. Otherwise Slot is.
	Working bool
	// Slot is the committed root: the truth, or the newest one beside a working
	// root; nil if no slot is intact or all are void.
	Slot *pmem.Slot
	// Unproven: nothing vouches for the root; check it whole before use.
	Unproven bool
	// Poisoned: the previous session ended with a failed sync.
	Poisoned bool
	// Clean: the previous session was closed in order.
	Clean bool
	// Log is what the log holds beside Slot, up to the position LogEnd, of what was
	// acknowledged: the truth is both. Of generation 0 if that is nothing. Logged is
	// how much.
	Log    layout.LogSpan
	LogEnd uint64
	Logged LogFigures
	// Why says it in words, for operators.
	Why string
}

// Choose decides by the previous session's record, not by the present medium:
// what that session promised, and what a crash could do to it, depend on where
// it ran.
func Choose(p *pmem.Pool) (Decision, error) {
	d, err := chooseRoot(p)
	d.LogEnd = noLogEnd
	if err != nil || d.Working || d.Clean {
		return d, err
	}
	if slot := damagedSlot(p, d.Slot); slot != nil && !d.Poisoned {
		return d, p.Corrupt("superblock", p.Regions().Superblock[slot.Index],
			"what commit %d stored is damaged: it would count as cut off, but the log goes on from it", slot.Sequence)
	}
	if i, lost := lostSlot(p, d.Slot); lost && !d.Poisoned {
		return d, p.Corrupt("superblock", p.Regions().Superblock[i], "the slot of a commit is damaged from which the log goes on")
	}
	if d.Slot.Log.Generation == 0 {
		return d, nil
	}
	d.LogEnd = EndOfLog(p, d.Slot.Log)
	if d.Logged, err = MeasureLog(p, d.Slot.Log, d.LogEnd); err != nil {
		return d, err
	}
	// After a failed sync also if there is none: what lies behind the end must not
	// count at a later open either.
	if d.Logged.Frames > 0 || p.Previous().Poisoned != 0 {
		d.Log = d.Slot.Log
		d.Why += ", and the log behind it"
	} else {
		d.LogEnd = noLogEnd
	}
	return d, nil
}

// EndOfLog is the position that the session record names as the end of a log, behind a
// superblock slot that counts.
func EndOfLog(p *pmem.Pool, span layout.LogSpan) uint64 {
	switch prev := p.Previous(); {
	case prev.Replaying != 0 && span.Generation == prev.Generation:
		// Of the commit that ends the taking up: the record is of the log before, and
		// nothing is written to this one until the session is recorded as done with that.
		return span.Start
	case prev.Poisoned != 0, prev.Replaying != 0:
		return prev.LogEnd
	}
	return noLogEnd
}

func chooseRoot(p *pmem.Pool) (Decision, error) {
	prev := p.Previous()
	slots := p.Slots()
	var d Decision
	if len(slots) > 0 {
		d.Slot = &slots[0]
	}
	direct := prev.Medium == uint8(layout.MediumDAX) && prev.Forced == 0
	cached := prev.Medium == uint8(layout.MediumPageCache) // synced as such, forced or not
	switch {
	case p.BesideWriter():
		d.Working, d.Why = true, "the working root of the process that is writing"
	case prev.Poisoned != 0 && prev.LastGood == 0:
		d.Poisoned = true
		d.Why = "the newest committed root that is whole: in the previous session, which followed a kill, the first sync failed"
	case prev.Poisoned != 0:
		d.Poisoned = true
		d.Slot = withSequence(slots, prev.LastGood)
		d.Why = fmt.Sprintf("the last committed root that is known to be durable (sequence %d): a sync failed in the previous session", prev.LastGood)
	case prev.Clean != 0:
		d.Clean, d.Why = true, "the committed root: closed in order"
		d.Slot = withSequence(slots, prev.LastGood)
	case prev.Replaying != 0:
		d.Unproven = !p.SameFile()
		d.Why = "the last committed root: the previous session ended before it had taken up the log"
	case p.SameFile() && direct:
		d.Working, d.Why = true, "the working root: not closed, but on persistent memory every acknowledged write is in it"
	case p.SameFile() && p.SameBoot():
		d.Working, d.Why = true, "the working root: not closed, but the machine has not restarted since"
	case p.SameFile() && cached:
		d.Why = "the last committed root: not closed, and the machine has restarted since"
	case cached:
		d.Unproven = true
		d.Why = "the last committed root, after a full check: the file is a copy, made while it was open or after a crash"
	default:
		d.Working, d.Unproven = true, true
		d.Why = "the working root, after a full check: nothing vouches for a file on this medium that was copied or outlived its machine"
	}
	if !d.Working && d.Slot == nil {
		return d, p.Corrupt("superblock", p.Regions().Superblock[0], "the slot that would be the truth after the previous session is damaged, or none is intact")
	}
	return d, nil
}

// withSequence returns the slot of the one commit that counts, nil if it is damaged:
// what an older one reaches may have been reused.
func withSequence(slots []pmem.Slot, sequence uint64) *pmem.Slot {
	for i := range slots {
		if slots[i].Sequence == sequence {
			return &slots[i]
		}
	}
	return nil
}

// WorkingRoot returns the offset of the root area that the working root pointer
// names.
func WorkingRoot(p *pmem.Pool) (uint64, error) {
	r := p.Regions()
	at := p.Load(r.Control + layout.ControlRoot)
	if at != r.Root[0] && at != r.Root[1] {
		return 0, p.Corrupt("working root pointer", r.Control, "%#x is neither root area", at)
	}
	return at, nil
}

// Roots are the roots of a tree of the table that nobody changes any more.
type Roots struct {
	Stripes  []uint64 // stripe root words
	Metadata uint64
	area     uint64 // the root area that they were read from, 0 for none
}

// readRoots copies the roots of a root area.
func readRoots(p *pmem.Pool, area uint64) Roots {
	r := Roots{Stripes: make([]uint64, p.Geometry().Stripes), area: area}
	for i := range r.Stripes {
		r.Stripes[i] = p.Load(area + layout.RootStripes + uint64(i)*layout.WordBytes)
	}
	r.Metadata = p.Load(area + layout.RootMetadata)
	return r
}

func slotRoots(s *pmem.Slot) Roots { return Roots{Stripes: s.Roots, Metadata: s.Metadata} }
