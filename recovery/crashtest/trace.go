package crashtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

const (
	wordBytes = 8
	lineBytes = 64
	pageBytes = 4096
)

// Trace is the log of a run.
type Trace struct {
	Events []Event

	initial []byte
	from    int // Crashes passes over points before this event
}

// From returns the trace with crashes only from the given event on: what comes
// before belongs to the history that the later images depend on.
func (t *Trace) From(event int) *Trace {
	c := *t
	c.from = event
	return &c
}

// Find returns the number of the first event of a kind, and of an operation for
// Begin and Ack, at or after from; -1 if there is none.
func (t *Trace) Find(from int, kind Kind, op int) int {
	for i := from; i < len(t.Events); i++ {
		if e := &t.Events[i]; e.Kind == kind && (kind < Begin || e.Op == op) {
			return i
		}
	}
	return -1
}

// Full is the medium with every store.
func (t *Trace) Full() []byte {
	image := extended(slices.Clone(t.initial), uint64(len(t.initial)))
	for i := range t.Events {
		switch e := &t.Events[i]; e.Kind {
		case Store:
			image = extended(image, e.Off+wordBytes)
			putWord(image, e.Off, e.Word)
		case Copy:
			image = extended(image, e.Off+uint64(e.Bytes))
			copy(image[e.Off:], e.Data)
		}
	}
	return image
}

// Resume returns a tracer that goes on after the given number of events: the
// process was killed there and another one begins on the same machine, so what
// was stored is there and what was not durable still is not. Operations that had
// begun stay as they are: pending for ever.
func (t *Trace) Resume(events int) *Tracer {
	r := &Tracer{trace: Trace{initial: t.initial, from: events}}
	for _, e := range t.Events[:events] {
		e.Goroutine |= 1 << 63 // nobody drains any more what a dead goroutine wrote back
		if e.Kind == SyncBegin || e.Kind == SyncEnd {
			e.Op -= 1 << 32
		}
		r.trace.Events = append(r.trace.Events, e)
	}
	return r
}

// Audit compares the medium with the log: a difference is a store that went
// around the hook.
func (t *Trace) Audit(medium []byte) error {
	full := t.Full()
	if bytes.Equal(full, medium) {
		return nil
	}
	for i := range max(len(full), len(medium)) {
		var want, got byte
		if i < len(full) {
			want = full[i]
		}
		if i < len(medium) {
			got = medium[i]
		}
		if want != got {
			return fmt.Errorf("the byte at %#x is %#02x but the log says %#02x: a store went around the hook", i, got, want)
		}
	}
	return nil
}

// Counts is how many of each there are in a part of a log.
type Counts struct{ Stores, WriteBacks, Drains, Syncs int }

// Count counts between the Begin and the Ack of an operation, all goroutines'.
func (t *Trace) Count(op int) Counts {
	var c Counts
	first := t.Find(0, Begin, op)
	last := t.Find(max(first, 0), Ack, op)
	if first < 0 || last < 0 {
		return c
	}
	for _, e := range t.Events[first:last] {
		switch e.Kind {
		case Store, Copy:
			c.Stores++
		case WriteBack:
			c.WriteBacks++
		case Drain:
			c.Drains++
		case SyncEnd:
			c.Syncs++
		}
	}
	return c
}

// Unguaranteed lists the aligned words whose last store a crash at the end of the
// log could lose.
func (t *Trace) Unguaranteed(model Model) []uint64 {
	m := newMachine(model, t.initial)
	for i := range t.Events {
		m.step(&t.Events[i])
	}
	words := map[uint64]bool{}
	for _, c := range m.cells {
		for _, s := range c.stores {
			if m.wordOf(m.safe, s.off) != m.wordOf(m.now, s.off) {
				words[s.off] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(words))
}

func getWord(b []byte, off uint64) uint64    { return binary.LittleEndian.Uint64(b[off:]) }
func putWord(b []byte, off uint64, w uint64) { binary.LittleEndian.PutUint64(b[off:], w) }
