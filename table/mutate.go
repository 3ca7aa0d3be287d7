package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime/debug"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Every change of one key is a mutation: a condition on what is there, and what
// to do when it holds. Its steps on the media, and what an open finds after a
// crash between them:
//
//  1. the new record is filled into a fresh block and made durable, outside the
//     lock. Nothing reaches it: the block is free.
//  2. under the lock, if the segment is of an older epoch, it is copied; if its
//     window is full, it is split. Each is one pointer swap (see structure.go)
//     that changes no entry.
//  3. if the slot lies behind the home line and some line before it has no
//     overflow bit yet, the bits are set and made durable. Alone they only make
//     lookups look further.
//  4. the slot is stored and made durable: before, the key is as it was; after, it is
//     changed. In between, either; the slot is named as in flight, so that a reader
//     makes it durable itself before it answers, and so does a session that follows
//     a kill.
//
// The old record is retired after step 4: so it is reused only when no durable
// slot can lead to it.
type mutation struct {
	kind    mutationKind
	key     []byte
	value   []byte // of kinds that store
	expect  []byte // of kinds that compare
	block   uint64 // of storeIfBlock
	keep    bool   // append the old value to old
	batched bool   // of a batch, for the counters

	inline bool // of a table of inline entries: words are set
	words  words

	hash   uint64
	record uint64 // the filled block, 0 for none or when it is linked
	kit    kit
	watch  *watch // nil unless slow calls are reported

	// Results.
	existed bool
	changed bool
	held    bool // the condition of a kind that changes nothing
	old     []byte
	at      point // what must be durable before the call may return
}

type mutationKind uint8

const (
	store         mutationKind = iota // always
	storeIfAbsent                     // when the key is absent
	storeIfEqual                      // when the value is expect
	storeIfBlock                      // when the record is the one at block
	remove                            // when the key is present
	removeIfEqual                     // when the value is expect
	holdsEqual                        // changes nothing: is the value expect?
	holdsAbsent                       // changes nothing: is the key absent?
)

func (k mutationKind) stores() bool { return k <= storeIfBlock }

// urgency is that of a request for what a structural change needs.
func (m *mutation) urgency(n need) pmem.Urgency {
	if !m.kind.stores() {
		return pmem.Urgent // what removes makes room
	}
	return n.urgency()
}

// carryOut is mutate without its watch.
func (t *Table) carryOut(m *mutation) (err error) {
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	if err := t.aim(m); err != nil {
		return err
	}
	s := &t.stripes[layout.StripeOf(m.hash, t.stripeBits)]
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	if err := t.attempt(s, m); err != nil {
		return err
	}
	m.watch.enters(committing)
	return t.acknowledge(m.at, m.changed)
}

func checkSizes(m *mutation) error {
	if len(m.key) > layout.MaxKeyBytes {
		return tooLargeKey(len(m.key))
	}
	if len(m.value) > layout.MaxValueBytes {
		return fmt.Errorf("%w: a value of %d bytes, the limit is %d", ErrTooLarge, len(m.value), layout.MaxValueBytes)
	}
	return nil
}

func tooLargeKey(n int) error {
	return fmt.Errorf("%w: a key of %d bytes, the limit is %d", ErrTooLarge, n, layout.MaxKeyBytes)
}

// attempt fills the record and tries under the lock until no structural change
// lacks a block. What was taken and not used goes back.
func (t *Table) attempt(s *stripe, m *mutation) error {
	switch {
	case t.inline:
		t.lineAhead(m.hash)
	case m.kind.stores():
		if err := t.fill(s, m); err != nil {
			return err
		}
	}
	return t.attemptFilled(s, m)
}

// attemptFilled is attempt with the record filled.
func (t *Table) attemptFilled(s *stripe, m *mutation) error {
	for {
		missing, err := t.applyLocked(s, m)
		if err == nil && !missing.nothing() {
			m.watch.enters(allocating)
			if err = t.stock(&m.kit, missing, s.index, m.urgency(missing)); err == nil {
				continue
			}
		}
		if m.record != 0 {
			t.pool.Free(m.record)
			m.record = 0
		}
		t.unpack(&m.kit)
		return err
	}
}

// applyLocked is apply under the stripe's lock.
func (t *Table) applyLocked(s *stripe, m *mutation) (need, error) {
	m.watch.enters(locking)
	s.mu.Lock()
	defer s.mu.Unlock() // by defer, for a fault
	m.watch.enters(changing)
	missing, err := t.apply(s, m)
	t.collectDue(s)
	return missing, err
}

// fill is step 1. Meanwhile the lines that the next steps read are on their way.
func (t *Table) fill(s *stripe, m *mutation) error {
	home := t.lineAhead(m.hash)
	if err := t.takeRecord(s, m); err != nil {
		return err
	}
	filled := t.fillOnly(m)
	t.recordAhead(&home)
	t.pool.Persist(filled)
	return nil
}

// takeRecord takes the block that the record will be filled into.
func (t *Table) takeRecord(s *stripe, m *mutation) (err error) {
	m.watch.enters(allocating)
	m.record, err = t.alloc(layout.RecordBytes(len(m.key), len(m.value)), s.index, pmem.Usual)
	m.watch.enters(filling)
	return err
}

// fillOnly fills the record and leaves it to the caller to make it durable.
func (t *Table) fillOnly(m *mutation) pmem.Range {
	block, sizeBytes := m.record, layout.RecordBytes(len(m.key), len(m.value))
	var head [layout.LineBytes]byte
	n := layout.RecordHeader((*[layout.MaxRecordHeaderBytes]byte)(head[:]), t.epoch.Load(), len(m.key), len(m.value))
	end := n + len(m.key)
	if end <= len(head) { // a short key goes with the header
		copy(head[n:], m.key)
		t.pool.Copy(block+4, head[4:end])
	} else {
		t.pool.Copy(block+4, head[4:n])
		t.pool.Copy(block+uint64(n), m.key)
	}
	t.pool.Copy(block+uint64(end), m.value)
	// In place, because what the checksum function is given escapes to the heap.
	binary.LittleEndian.PutUint32(head[:], layout.RecordChecksum(t.pool.Bytes(block, sizeBytes)))
	t.pool.Copy(block, head[:4])
	return pmem.Range{Offset: block, Bytes: sizeBytes}
}

// apply carries the mutation out under the stripe's lock, or says what blocks a
// structural change needs first.
func (t *Table) apply(s *stripe, m *mutation) (need, error) {
	if err := t.poison(); err != nil { // readers have gone back to the last commit
		return need{}, err
	}
	at := place{want: m.words.want}
	ready := t.locateHome(s, &at, m.key, m.hash)
	for {
		if !ready {
			if err := t.locate(s, &at, m.key, m.hash); err != nil {
				return need{}, err
			}
		}
		m.existed = at.slot != 0
		m.words.old = at.value
		if m.keep && m.existed {
			m.old = append(m.old[:0], at.oldValue()...)
		}
		if !m.holds(&at) {
			m.at, m.changed = s.last(), false
			t.countUnchanged(s, m)
			return need{}, nil
		}
		if !ready {
			var missing need
			var err error
			if ready, missing, err = t.prepare(s, &m.kit, m.hash, &at); err != nil || !missing.nothing() {
				return missing, err
			}
		}
		switch {
		case !ready: // something was prepared: the place is another one
		case t.inline:
			t.publishInline(s, m, &at)
			return need{}, nil
		default:
			t.publish(s, m, &at)
			return need{}, nil
		}
	}
}

// holds evaluates the mutation's condition: whether there is something to do.
func (m *mutation) holds(at *place) bool {
	switch m.kind {
	case storeIfAbsent:
		return !m.existed
	case remove:
		return m.existed
	case holdsEqual:
		m.held = m.equals(at)
		return false
	case holdsAbsent:
		m.held = !m.existed
		return false
	case storeIfBlock:
		return m.existed && at.block == m.block
	case storeIfEqual, removeIfEqual:
		return m.equals(at)
	}
	return true
}

// equals tells whether the value that is there is expect.
func (m *mutation) equals(at *place) bool {
	if m.inline {
		return m.existed && !m.words.never && at.value == m.words.expect
	}
	return m.existed && bytes.Equal(at.oldValue(), m.expect)
}

// publish is steps 3 and 4.
func (t *Table) publish(s *stripe, m *mutation, at *place) {
	slot := at.slot
	if slot == 0 {
		slot = at.free
		t.setOverflow(at)
	}
	word := at.slotWord(m) | t.pool.Load(slot)&layout.SlotOverflow // which only a line's first slot has
	logged := t.logChange(m)
	t.takeOff(s, slot)
	t.pool.Store(slot, word)
	t.drainSlot(s, slot)
	t.settle(s, m, at, logged)
}

// drainSlot makes the slot durable that the stripe has in flight.
func (t *Table) drainSlot(s *stripe, slot uint64) {
	if t.pool.Flushes() {
		began := s.drainBegins()
		t.pool.PersistWord(slot)
		t.drained(began)
		t.land(s)
	}
}

// logChange appends a mutation to the log, before it is published; see redoLog.add.
func (t *Table) logChange(m *mutation) (logged uint64) {
	if !t.redo.enabled {
		return 0
	}
	return t.redo.add(t.logged(m))
}

// logged is the change that goes into the log for a mutation.
func (t *Table) logged(m *mutation) change {
	switch {
	case t.inline && m.kind.stores():
		return change{layout.LogPut, t.inlineRecord(nil, m)}
	case t.inline:
		return change{layout.LogDelete, t.inlineKey(nil, m.hash, m.words.want)}
	case m.kind.stores():
		return change{layout.LogPut, t.pool.Bytes(m.record, layout.RecordBytes(len(m.key), len(m.value)))}
	}
	return change{layout.LogDelete, m.key}
}

// slotWord is what the mutation makes of its slot.
func (at *place) slotWord(m *mutation) uint64 {
	switch {
	case !m.kind.stores():
		return 0
	case at.slot != 0:
		return layout.Slot(m.record, at.tag, layout.SlotDisplacement(at.word))
	}
	return layout.Slot(m.record, at.tag, at.freeDisplacement)
}

// settle notes what a published mutation made of its stripe, and where in the log it
// is, and retires the record that it unlinked.
func (t *Table) settle(s *stripe, m *mutation, at *place, logged uint64) {
	switch {
	case !m.kind.stores():
		s.count--
	case at.slot == 0:
		s.count++
	}
	if m.kind.stores() && !t.inline {
		t.noteBorn(s, m.record, layout.RecordBytes(len(m.key), len(m.value)))
	}
	if at.slot != 0 && !t.inline {
		t.retireRecord(s, at.block, at.shape.Birth, len(at.bytes))
	}
	t.countChange(s, m, at.slot == 0)
	s.lastChange, s.lastLogged = t.epoch.Load(), logged
	m.record = 0
	m.at, m.changed = s.last(), true
}

// setOverflow is step 3: every line that a lookup passes on its way to the free
// slot says that it must go on.
func (t *Table) setOverflow(at *place) {
	if at.freeSegment == 0 && at.freeLine == at.home {
		return // the first line of all
	}
	var set overflowBits
	for i := 0; i <= at.freeSegment; i++ {
		first, end := 0, t.lines
		if i == 0 {
			first, end = at.home, at.home+layout.WindowLines
		}
		if i == at.freeSegment {
			end = at.freeLine
		}
		for l := first; l < end; l++ {
			set.add(t.pool, at.seg(i)+layout.LineBytes*uint64(l+1))
		}
	}
	set.persist(t.pool)
}

// overflowBits sets the overflow bits of lines, and makes them durable.
type overflowBits struct {
	lines [layout.WindowLines]pmem.Range // set and not drained yet
	n     int
}

func (o *overflowBits) add(p *pmem.Pool, line uint64) {
	w := p.Load(line)
	if w&layout.SlotOverflow != 0 {
		return
	}
	p.Store(line, w|layout.SlotOverflow)
	if o.n == len(o.lines) {
		o.persist(p)
	}
	o.lines[o.n] = pmem.Range{Offset: line, Bytes: layout.WordBytes}
	o.n++
}

func (o *overflowBits) persist(p *pmem.Pool) {
	if o.n > 0 {
		p.Persist(o.lines[:o.n]...)
		o.n = 0
	}
}
