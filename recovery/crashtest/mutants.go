package crashtest

import (
	"fmt"
	"slices"
)

// Mutant is a trace of a program with one mistake more.
type Mutant struct {
	Event int    // that was changed
	Site  string // who asked for it
	What  string // was done to it

	trace *Trace
	to    Event // what the event became
	moved int   // where it went, Event if it stayed
}

// String says it in a line.
func (m Mutant) String() string { return fmt.Sprintf("%s: %s (event %d)", m.Site, m.What, m.Event) }

// Trace makes the trace with the mistake. It begins where the mistake does: crashes
// before it leave what they leave without it. It takes time and memory in
// proportion to the log.
func (m Mutant) Trace() *Trace {
	c := m.trace.From(max(m.trace.from, m.moved))
	c.Events = slices.Clone(m.trace.Events)
	if m.moved != m.Event {
		c.Events = slices.Insert(slices.Delete(c.Events, m.Event, m.Event+1), m.moved, m.to)
	} else {
		c.Events[m.Event] = m.to
	}
	return c
}

// Mutants returns the trace with each mistake in turn, in the part after From: a
// write-back dropped, its range shorter by a line at either end or shifted by one, a
// drain dropped (or weakened to a barrier that only orders), a sync that does not
// sync, and a word stored before the drain that it followed. None of them changes
// what a program reads, so a program with the mistake would have left this log.
//
// Each should be caught by some crash. One that no crash catches is a test that is
// missing, or an instruction that is useless.
func (t *Trace) Mutants() []Mutant {
	var out []Mutant
	for i := t.from; i < len(t.Events); i++ {
		e := t.Events[i]
		add := func(what string, to Event) {
			out = append(out, Mutant{i, e.Site, what, t, to, i})
		}
		nothing := Event{Kind: WriteBack, Goroutine: e.Goroutine, Off: e.Off, Site: e.Site}
		switch e.Kind {
		case WriteBack:
			if e.Bytes <= 0 {
				continue
			}
			what := fmt.Sprintf("write-back of %d bytes ", e.Bytes)
			add(what+"dropped", nothing)
			shifted := e
			shifted.Off += lineBytes
			add(what+"shifted by a line", shifted)
			if first, last := e.Off/lineBytes, (e.Off+uint64(e.Bytes)-1)/lineBytes; first != last {
				shorter := e
				shorter.Bytes = int(last*lineBytes - e.Off)
				add(what+"shorter by its last line", shorter)
				shorter.Off = (first + 1) * lineBytes
				shorter.Bytes = e.Bytes - int(shorter.Off-e.Off)
				add(what+"shorter by its first line", shorter)
			}
		case Drain:
			add("drain dropped", nothing)
		case SyncEnd:
			if !e.Failed {
				to := e
				to.Failed = true
				add("sync dropped", to)
			}
		case Store:
			if to, ok := t.hoisted(i); ok {
				out = append(out, Mutant{i, e.Site, "store before the drain that it follows", t, e, to})
			}
		}
	}
	return out
}

// hoisted finds where a store goes that moves before the write-backs and the drain
// that it follows.
func (t *Trace) hoisted(i int) (to int, ok bool) {
	g := t.Events[i].Goroutine
	to = i
	for to > t.from {
		e := &t.Events[to-1]
		if e.Goroutine == g && e.Kind != WriteBack && e.Kind != Drain {
			break
		}
		to--
	}
	drain := t.Find(to, Drain, 0)
	return to, drain >= 0 && drain <= i
}
