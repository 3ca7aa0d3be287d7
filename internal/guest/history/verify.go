package history

import (
	"fmt"
	"maps"
	"time"
)

// Promise says what a table owes after a crash.
type Promise int

const (
	// All: everything acknowledged. Always owes it after power loss; every
	// durability does after a kill -9, and on persistent memory.
	All Promise = iota
	// Recent: all but the last Interval of writing.
	Recent
	// Synced: what was acknowledged before the last Sync that returned.
	Synced
)

// Ack is an acknowledged step, and when its call began and returned, by the
// monotonic clock of the machine that made it.
type Ack struct {
	N          uint64
	Start, End time.Duration

	changed bool // it was no delete of an absent key
}

// State is what a writer's keys hold.
type State map[int]Stamp

// Table is what the observer of a table knows: what it held when it was last
// verified, and what has been acknowledged since.
type Table struct {
	Name     string
	Seed     uint64
	Promise  Promise
	Interval time.Duration // for Recent
	Writers  []Writer
	// LastSeen is the time of the last sign of life, of this table or another.
	LastSeen time.Duration
	// changing is when the last acknowledged change of this table began, and
	// committing that of any table that owes All: it was committed since.
	changing, committing time.Duration
}

// Slack is by how much a commit may be overtaken by those of other tables that are
// begun later, on an emulated machine that shares its processors: nobody can promise
// when a medium is done.
const Slack = 4 * time.Second

// Writer is what the observer knows of one writer.
type Writer struct {
	Base   State  // verified
	BaseN  uint64 // the step that led to it
	Acks   []Ack  // since, in order
	Synced uint64 // the last step that a Sync covered, 0 none

	now State // after the acknowledged steps, whatever the boots in the stamps
}

// NewTable returns a table of which nothing was acknowledged.
func NewTable(name string, seed uint64, promise Promise, interval time.Duration, writers int) *Table {
	t := &Table{Name: name, Seed: seed, Promise: promise, Interval: interval, Writers: make([]Writer, writers)}
	for i := range t.Writers {
		t.Writers[i].Base, t.Writers[i].now = State{}, State{}
	}
	return t
}

// Acknowledge adds an acknowledged step of a writer of one of the tables of a disk.
func Acknowledge(tables []*Table, table, writer int, a Ack) error {
	if table < 0 || table >= len(tables) {
		return fmt.Errorf("no table %d", table)
	}
	t := tables[table]
	if writer < 0 || writer >= len(t.Writers) {
		return fmt.Errorf("%s: no writer %d", t.Name, writer)
	}
	w := &t.Writers[writer]
	if last := w.lastAck(); a.N != last+1 {
		return fmt.Errorf("%s: writer %d acknowledged step %d after %d", t.Name, writer, a.N, last)
	}
	op := OpAt(t.Seed, writer, a.N)
	_, there := w.now[op.Key]
	a.changed = there || !op.Delete
	apply(w.now, op, Stamp{N: a.N})
	w.Acks = append(w.Acks, a)
	if a.changed {
		t.changing = max(t.changing, a.Start)
	}
	for _, other := range tables {
		other.LastSeen = max(other.LastSeen, a.End)
		if a.changed && t.Promise == All {
			other.committing = max(other.committing, a.Start)
		}
	}
	return nil
}

// Sync adds a Sync that returned, and the step of each writer that it covers.
func (t *Table) Sync(covered []uint64) error {
	if len(covered) != len(t.Writers) {
		return fmt.Errorf("%s: a sync of %d writers", t.Name, len(covered))
	}
	for i, n := range covered {
		t.Writers[i].Synced = max(t.Writers[i].Synced, n)
	}
	return nil
}

func (w *Writer) lastAck() uint64 {
	if len(w.Acks) == 0 {
		return w.BaseN
	}
	return w.Acks[len(w.Acks)-1].N
}

// Verdict is the result of a verification.
type Verdict struct {
	Acknowledged int // since the last verification
	Kept         int // of them
	Lost         int // acknowledged, owed and not there
	// OldestMissing is for how long, at the last sign of life, the oldest write that
	// is not there had been acknowledged.
	OldestMissing time.Duration
	Problems      []string
	Prefix        []uint64 // the last step of each writer that is there
}

func (v *Verdict) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// Verify compares what was found, for each writer, with what is owed. boot is the
// one in which the steps since the last verification were made.
func (t *Table) Verify(found []State, boot uint32) Verdict {
	var v Verdict
	if len(found) != len(t.Writers) {
		v.problem("%s: found %d writers, not %d", t.Name, len(found), len(t.Writers))
		return v
	}
	var order ordering
	for i := range t.Writers {
		w := &t.Writers[i]
		low, high, ok := w.prefixes(t.Seed, i, found[i], boot)
		if !ok {
			v.problem("%s: writer %d: what is there is no prefix of what it did: %s", t.Name, i, w.difference(t.Seed, i, found[i], boot))
			low, high = w.BaseN, w.BaseN
		}
		v.Prefix = append(v.Prefix, high)
		v.Acknowledged += len(w.Acks)
		first := high // of the steps that are owed, those behind it are lost
		for _, a := range w.Acks {
			if a.N <= high {
				v.Kept++
			} else {
				v.OldestMissing = max(v.OldestMissing, t.LastSeen-a.End)
				if t.owed(w, a) {
					v.Lost++
					t.problemOnce(&v, first, a, i)
				}
			}
			order.add(a, i, a.N <= low, a.N > high)
		}
	}
	order.report(t.Name, &v)
	return v
}

// problemOnce names the first lost write of a writer.
func (t *Table) problemOnce(v *Verdict, high uint64, a Ack, writer int) {
	if a.N == high+1 {
		v.problem("%s: writer %d: step %d was acknowledged at %v and is lost; the last acknowledged change began at %v, the last that is committed on the same disk at %v, the last sign of life came at %v",
			t.Name, writer, a.N, a.End, t.changing, t.committing, t.LastSeen)
	}
}

// owed tells whether an acknowledged step must be there.
//
// For Recent the clock is that of the table's own changes: one that began a whole
// interval after another step had been acknowledged may only be acknowledged once
// that other one is durable. What changes nothing waits for what it saw alone, and so
// proves nothing of others. When writers are still, the table commits by itself, in a
// time that is the medium's; that it did not is proven by a change of another table
// that was begun much later and is committed.
func (t *Table) owed(w *Writer, a Ack) bool {
	switch t.Promise {
	case Recent:
		return t.changing-a.End >= t.Interval || t.committing-a.End >= t.Interval+Slack
	case Synced:
		return a.N <= w.Synced
	}
	return true
}

// maxUnacknowledged bounds the steps that a writer can have made behind its last
// acknowledgement that arrived.
const maxUnacknowledged = 64

// prefixes returns the lowest and the highest step after which the writer's keys
// hold what was found.
func (w *Writer) prefixes(seed uint64, writer int, found State, boot uint32) (low, high uint64, ok bool) {
	now := maps.Clone(w.Base)
	wrong := 0 // keys that differ
	for k := range Keys {
		if now[k] != found[k] {
			wrong++
		}
	}
	for n := w.BaseN; ; n++ {
		if wrong == 0 {
			if !ok {
				low = n
			}
			high, ok = n, true
		}
		if n >= w.lastAck()+maxUnacknowledged {
			return low, high, ok
		}
		op := OpAt(seed, writer, n+1)
		before := now[op.Key] == found[op.Key]
		apply(now, op, Stamp{boot, n + 1})
		after := now[op.Key] == found[op.Key]
		switch {
		case before && !after:
			wrong++
		case after && !before:
			wrong--
		}
	}
}

func apply(s State, op Op, stamp Stamp) {
	if op.Delete {
		delete(s, op.Key)
		return
	}
	s[op.Key] = stamp
}

// difference describes what was found beside the state after the newest step that
// can be seen in it.
func (w *Writer) difference(seed uint64, writer int, found State, boot uint32) string {
	newest := w.BaseN
	for _, s := range found {
		if s.Boot == boot {
			newest = max(newest, s.N)
		}
	}
	now := maps.Clone(w.Base)
	for n := w.BaseN + 1; n <= min(newest, w.lastAck()+maxUnacknowledged); n++ {
		apply(now, OpAt(seed, writer, n), Stamp{boot, n})
	}
	text := fmt.Sprintf("verified to step %d, acknowledged to %d, newest found %d;", w.BaseN, w.lastAck(), newest)
	shown := 0
	for k := range Keys {
		if now[k] != found[k] && shown < 5 {
			shown++
			text += fmt.Sprintf(" key %d: %v, not %v;", k, found[k], now[k])
		}
	}
	return text
}

// ordering finds a write that is there although one that had been acknowledged
// before it began is not: across writers, what is there is a prefix too.
type ordering struct {
	missing, present             Ack
	missingWriter, presentWriter int
	some                         bool
}

func (o *ordering) add(a Ack, writer int, there, gone bool) {
	if gone && (!o.some || a.End < o.missing.End) {
		o.missing, o.missingWriter, o.some = a, writer, true
	}
	if there && a.Start > o.present.Start {
		o.present, o.presentWriter = a, writer
	}
}

func (o *ordering) report(name string, v *Verdict) {
	if o.some && o.present.Start > o.missing.End {
		v.problem("%s: step %d of writer %d, acknowledged at %v, is missing, but step %d of writer %d, begun at %v, is there",
			name, o.missing.N, o.missingWriter, o.missing.End, o.present.N, o.presentWriter, o.present.Start)
	}
}

// Rebase makes what was found what is verified.
func (t *Table) Rebase(found []State, prefix []uint64) {
	t.LastSeen, t.changing, t.committing = 0, 0, 0
	for i := range t.Writers {
		t.Writers[i] = Writer{Base: maps.Clone(found[i]), BaseN: prefix[i], now: maps.Clone(found[i])}
	}
}
