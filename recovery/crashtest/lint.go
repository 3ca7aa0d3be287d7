package crashtest

import "fmt"

// Finding is something that Lint found.
type Finding struct {
	Event int
	Site  string
	What  string
}

// String says it in a line.
func (f Finding) String() string { return fmt.Sprintf("event %d %s: %s", f.Event, f.Site, f.What) }

// lineState counts the stores to a line, whether they change it or not.
type lineState struct{ stored, guaranteed int }

type linter struct {
	trace   *Trace
	ignore  func(off, old, word uint64) bool
	now     *machine // for the old words
	lines   map[uint64]*lineState
	pending map[uint64][]capture // by goroutine
	running map[int]uint64       // operations that have begun, and by whom
	owed    map[int][]owed
	found   []Finding
}

// owed is a store that must be guaranteed before its operation is acknowledged.
type owed struct {
	event int
	line  uint64
	count int
}

// Lint looks, in the part of the log after From, for
//
//   - a write-back that captures nothing new: no line of it was stored to since
//     the same goroutine wrote it back, or since it was guaranteed,
//   - a drain of a goroutine that has written nothing back since its last,
//   - an operation that is acknowledged while a store that its goroutine made
//     for it is not guaranteed, on a medium that is persistent memory. ignore,
//     unless nil, names stores that need not be durable.
//
// The first two cost time only, and recovery, which cannot know what was lost, has
// reason for them.
func (t *Trace) Lint(ignore func(off, old, word uint64) bool) []Finding {
	l := &linter{
		trace: t, ignore: ignore, now: newMachine(Kill, t.initial),
		lines: map[uint64]*lineState{}, pending: map[uint64][]capture{},
		running: map[int]uint64{}, owed: map[int][]owed{},
	}
	for i := range t.Events {
		e := &t.Events[i]
		switch e.Kind {
		case Store, Copy:
			l.stored(i, e)
		case WriteBack:
			l.writeBack(i, e)
		case Drain:
			l.drain(i, e)
		case Begin:
			l.running[e.Op] = e.Goroutine
		case Ack:
			l.ack(i, e)
		}
		l.now.step(e)
	}
	return l.found
}

func (l *linter) add(i int, format string, args ...any) {
	if i >= l.trace.from {
		l.found = append(l.found, Finding{i, l.trace.Events[i].Site, fmt.Sprintf(format, args...)})
	}
}

func (l *linter) line(at uint64) *lineState {
	s := l.lines[at]
	if s == nil {
		s = &lineState{}
		l.lines[at] = s
	}
	return s
}

func (l *linter) stored(i int, e *Event) {
	l.now.extend(e.Off + uint64(e.Bytes))
	word := func(off, word uint64) {
		at := off &^ (lineBytes - 1)
		s := l.line(at)
		s.stored++
		if l.ignore != nil && l.ignore(off, getWord(l.now.now, off), word) {
			return
		}
		for op, goroutine := range l.running {
			if goroutine == e.Goroutine {
				l.owed[op] = append(l.owed[op], owed{i, at, s.stored})
			}
		}
	}
	if e.Kind == Store {
		word(e.Off, e.Word)
		return
	}
	eachWord(l.now.now, e.Off, e.Data, word)
}

func (l *linter) writeBack(i int, e *Event) {
	fresh := false
	end := (e.Off + uint64(e.Bytes) + lineBytes - 1) &^ (lineBytes - 1)
	for at := e.Off &^ (lineBytes - 1); at < end; at += lineBytes {
		s := l.line(at)
		caught := s.guaranteed
		for _, c := range l.pending[e.Goroutine] {
			if c.at == at {
				caught = max(caught, c.count)
			}
		}
		if s.stored > caught {
			fresh = true
			l.pending[e.Goroutine] = append(l.pending[e.Goroutine], capture{at, s.stored})
		}
	}
	if !fresh {
		l.add(i, "the write-back of %d bytes at %#x captures nothing new", e.Bytes, e.Off)
	}
}

func (l *linter) drain(i int, e *Event) {
	if len(l.pending[e.Goroutine]) == 0 {
		l.add(i, "the drain has nothing to wait for")
	}
	for _, c := range l.pending[e.Goroutine] {
		s := l.line(c.at)
		s.guaranteed = max(s.guaranteed, c.count)
	}
	delete(l.pending, e.Goroutine)
}

func (l *linter) ack(i int, e *Event) {
	for _, o := range l.owed[e.Op] {
		if l.line(o.line).guaranteed < o.count {
			l.add(i, "operation %d is acknowledged, but its store at %#x (event %d %s) is not durable",
				e.Op, l.trace.Events[o.event].Off, o.event, l.trace.Events[o.event].Site)
		}
	}
	delete(l.owed, e.Op)
	delete(l.running, e.Op)
}
