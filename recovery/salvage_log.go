package recovery

import (
	"cmp"
	"errors"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// This file is what Salvage does with the log: it lays the last change of each key
// over what it finds. Which of the two is newer is told by epochs. A record was born
// in the epoch in which it was filled; a change of the log took effect in the highest
// epoch of any record before it in the log, or later, and behind the epoch of the root
// that the log goes on from. So a record that is not younger than that is older than
// the change. (The reverse would not do: the log has no epochs of its own, and a
// younger record may have been put by a change that went round the log.)
//
// Where the working root is the truth all changes of the log are in its tree, and
// later ones that nobody was told of. There the log counts for what damage cut off.

// logState is what the log says, in all.
type logState struct {
	keys  map[string]int // into last
	last  []logged       // change of each key, in the order of their first ones
	meta  *logged        // nil if the log does not change the metadata
	epoch uint64         // that the log has reached
}

// logged is a change of the log, and an epoch that was not over when it took effect.
type logged struct {
	LogChange
	epoch uint64
}

func (l *logState) add(changes []LogChange) {
	if l.keys == nil {
		l.keys = make(map[string]int)
	}
	for _, c := range changes {
		l.epoch = max(l.epoch, c.Record.Birth)
		change := logged{c, l.epoch}
		if c.Kind == layout.LogMetadata {
			l.meta = &change
			continue
		}
		i, known := l.keys[string(c.Key)]
		if !known {
			i = len(l.last)
			l.keys[string(c.Key)], l.last = i, append(l.last, change)
		}
		l.last[i] = change
	}
}

// of is what the log says last of a key, nil for nothing. l may be nil.
func (l *logState) of(key []byte) *logged {
	if l == nil {
		return nil
	}
	if i, ok := l.keys[string(key)]; ok {
		return &l.last[i]
	}
	return nil
}

// readLog reads the log that goes on from a superblock slot. Where the true one is
// damaged it takes what whole frames of the last session there are: then changes that
// the root had caught up with may be among them.
func (s *salvager) readLog(slot *pmem.Slot, reach Reach) {
	p := s.pool
	prev := p.Previous()
	generation := prev.Generation
	if !s.sessionKnown {
		generation = p.Load(p.Regions().Control + layout.ControlGeneration)
	} else if prev.Clean != 0 || prev.Medium != uint8(layout.MediumPageCache) {
		return // no log
	}
	if slot != nil {
		s.log.epoch = slot.Epoch + 1
	}
	if slot != nil && slot.Log.Generation == generation {
		s.followLog(slot.Log)
	} else if reach != ReachableOnly {
		// Only behind a commit of its own does a session write frames: if there are any,
		// the slot of that is damaged.
		s.searchLog(generation, 0)
		if s.LogFrames > 0 && slot != nil && !s.working && !s.guessed {
			s.problem("superblock", 0, "the commit that the log goes on from is damaged")
			s.guessed, s.counts = true, nil
			s.loseAll()
		}
	}
	if s.LogFrames == 0 && slot != nil && slot.Log.Generation != 0 && slot.Log.Generation < generation {
		s.followLog(slot.Log) // what the last session was still taking up
	}
	if s.LogFrames > 0 {
		s.hash = KeyHash(p) // the seed is under the checksums of frames
	}
}

// logEnd is the position from which on frames of a log do not count.
func (s *salvager) logEnd(span layout.LogSpan) uint64 {
	if s.sessionKnown {
		return EndOfLog(s.pool, span)
	}
	return noLogEnd
}

// followLog reads a log from its beginning to its end, and what lies behind damage.
func (s *salvager) followLog(span layout.LogSpan) {
	p := s.pool
	if p.LogRing(span.RingBytes) == nil {
		s.problem("log", p.Regions().Log, "it does not lie in the file")
		return
	}
	at := span.Start
	figures, err := readLog(p, span, s.logEnd(span), func(position uint64, changes []LogChange) error {
		at = position + 1
		s.log.add(changes)
		return nil
	})
	s.LogFrames, s.LogChanges = figures.Frames, figures.Changes
	if damage := (*pmem.CorruptError)(nil); errors.As(err, &damage) {
		s.problem(damage.Object, damage.Offset, "%s", damage.Reason)
		s.searchLog(span.Generation, at)
	}
}

// searchLog takes all whole frames of a generation from a position on, whatever ring
// they were written to: it grows in the course of a session.
func (s *salvager) searchLog(generation, from uint64) {
	p := s.pool
	found := make(map[uint64]layout.Frame)
	for size := uint64(layout.MinLogBytes); generation != 0 && size <= uint64(p.Geometry().LogBytes); size *= 2 {
		layout.FindFrames(p.LogRing(size), p.Header().HashSeed, generation, from, func(f layout.Frame) bool {
			found[f.Position] = f
			return s.ctx.Err() == nil
		})
	}
	frames := make([]layout.Frame, 0, len(found))
	end := s.logEnd(layout.LogSpan{Generation: generation, Start: from})
	for _, f := range found {
		if f.Position < end {
			frames = append(frames, f)
		}
	}
	slices.SortFunc(frames, func(a, b layout.Frame) int { return cmp.Compare(a.Position, b.Position) })
	for _, f := range frames {
		if changes, ok := LogChanges(f.Payload); ok {
			s.LogFrames++
			s.LogChanges += len(changes)
			s.log.add(changes)
		}
	}
}

// shadowed tells whether the log says something newer of the key of a record.
func (s *salvager) shadowed(rec Record) bool {
	l := s.over.of(rec.Key)
	if l == nil || rec.Birth > l.epoch {
		return false
	}
	if l.Kind == layout.LogDelete {
		s.LogRemoved++
	}
	return true
}

// keepLogged passes on what the log says last of each key, where it counts. What was
// passed on before stands: it is newer.
func (s *salvager) keepLogged() {
	lost := newLostSet(s.lost, s.pool.Geometry().StripeBits())
	for i := range s.log.last {
		l := &s.log.last[i]
		if l.Kind != layout.LogPut || s.failed != nil ||
			s.working && (len(s.lost) == 0 || s.hash != nil && !lost.has(s.hash(l.Key))) {
			continue
		}
		var fresh bool
		if fresh, s.failed = s.emit(l.Record); fresh {
			s.Logged++
		}
	}
}

// newestMetadata is what the log says of the metadata in place of the record that the
// root leads to, nil if that one stands; intact tells that there is one.
func (s *salvager) newestMetadata(rec Record, intact, damaged bool) *logged {
	m := s.log.meta
	if m == nil || intact && (s.working || rec.Birth > m.epoch) || s.working && !damaged {
		return nil
	}
	return m
}
