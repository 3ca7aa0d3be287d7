package table

import (
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// manyGroup is how many keys GetMany and PutMany work on at a time: enough to
// overlap the latencies of memory, few enough to hold a group's stripes shortly.
const manyGroup = 32

// GetMany looks many keys up, and calls fn for each in their order: with the
// value, which is valid until fn returns, or ErrNotFound or another error. The lookups
// of a group of up to 32 keys overlap: first all home lines are asked for, then all
// records, and then all are read, before fn is called for the first of the group. It is
// not a snapshot: each key is answered as of a moment of its own during the call. fn may
// call the table.
func (t *Table) GetMany(keys [][]byte, fn func(i int, value []byte, err error)) {
	defer runtime.KeepAlive(t)
	g := getGroups.Get().(*getGroup)
	defer g.release()
	for first := 0; first < len(keys); first += manyGroup {
		group := keys[first:min(first+manyGroup, len(keys))]
		g.read(t, group)
		begin := 0
		for i, key := range group {
			end := g.ends[i]
			switch g.saw[i] {
			case present:
				fn(first+i, g.values[begin:end:end], nil)
			case absent:
				fn(first+i, nil, ErrNotFound)
			default:
				value, err := t.AppendGet(g.alone[:0], key)
				if err != nil {
					fn(first+i, nil, err)
					break
				}
				g.alone = value
				fn(first+i, value, nil)
			}
			begin = end
		}
	}
}

// getGroup is what GetMany reads at a time: of each key what a glance saw of it, and the
// end of its value, if there is one, among the values.
type getGroup struct {
	values []byte
	ends   [manyGroup]int
	saw    [manyGroup]outcome
	alone  []byte // the value of a key that a glance did not do for
}

// groupValueBytes bounds the values that are read ahead of their turn.
const groupValueBytes = 64 << 10

// getGroups keeps the memory of groups for the next calls.
var getGroups = sync.Pool{New: func() any { return new(getGroup) }}

// release gives the group's memory back.
func (g *getGroup) release() {
	if cap(g.alone) > groupValueBytes {
		g.alone = nil
	}
	getGroups.Put(g)
}

// read reads a group of keys, in passes, so that the waits of its keys for memory
// overlap.
func (g *getGroup) read(t *Table, keys [][]byte) {
	g.values = g.values[:0]
	for i := range keys {
		g.saw[i], g.ends[i] = unsure, 0
	}
	if !t.glances {
		return
	}
	var err error // of a page that is gone: Get meets it too
	defer t.caught(debug.SetPanicOnFault(true), &err)
	var glances [manyGroup]glance
	for i, key := range keys {
		glances[i] = t.lineAhead(t.hash(key))
	}
	var records [manyGroup]uint64
	for i := range keys {
		records[i] = t.recordAhead(&glances[i])
	}
	for i, key := range keys { // a fault leaves the rest unsure
		if records[i] != noGlance && len(key) <= layout.MaxKeyBytes {
			g.values, g.saw[i] = t.take(&glances[i], records[i], g.values, key, groupValueBytes)
		}
		g.ends[i] = len(g.values)
	}
}

// PutMany stores values[i] under keys[i], in their order, so that the last one of
// equal keys counts. Each entry is stored as by Put; it is not a Batch: after an
// error or a crash some may be stored and others not. It is faster than as many
// Puts: one drain makes the records of a group of up to 32 durable, and one the slots
// of those whose stripes no other writer has at that moment.
func (t *Table) PutMany(keys, values [][]byte) (err error) {
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	if len(keys) != len(values) {
		return fmt.Errorf("put many: %d keys, but %d values", len(keys), len(values))
	}
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	if t.inline {
		return t.putManyInline(keys, values)
	}
	g := putGroups.Get().(*putGroup)
	defer g.release()
	g.table, g.watch = t, t.slow.begin(filling)
	defer g.watched(len(keys), &err)
	for first := 0; first < len(keys); first += manyGroup {
		end := min(first+manyGroup, len(keys))
		if err := g.put(keys[first:end], values[first:end]); err != nil {
			return err
		}
	}
	g.watch.enters(committing)
	return t.acknowledge(g.at, true)
}

// putGroup stores a group of entries under the locks of all their stripes.
type putGroup struct {
	table   *Table
	ops     []mutation
	glances [manyGroup]glance
	stripes []int
	held    []int // those of them that this call has locked
	waiting []int // stripes of which an op is left for later
	later   []int // ops whose stripe was not to be had, or that need a structural change first, and those behind them
	ranges  []pmem.Range
	at      point // when all of them are durable
	watch   *watch
	did     structural
}

// putGroups keeps the memory of groups for the next calls.
var putGroups = sync.Pool{New: func() any { return new(putGroup) }}

// release gives the group's memory back. It keeps nothing of the caller's.
func (g *putGroup) release() {
	clear(g.ops[:cap(g.ops)])
	g.table, g.at, g.watch, g.did = nil, point{}, nil, structural{}
	putGroups.Put(g)
}

func (g *putGroup) put(keys, values [][]byte) (err error) {
	t := g.table
	g.ops = slices.Grow(g.ops[:0], len(keys))[:len(keys)]
	clear(g.ops)
	g.stripes, g.held, g.waiting, g.later = g.stripes[:0], g.held[:0], g.waiting[:0], g.later[:0]
	defer func() {
		for i := range g.ops {
			if g.ops[i].record != 0 {
				t.pool.Free(g.ops[i].record)
			}
		}
	}()
	if err := g.fill(keys, values); err != nil {
		return err
	}
	err = g.publishLocked()
	for _, i := range g.later {
		if err != nil {
			break
		}
		m := &g.ops[i]
		err = t.attemptFilled(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], m)
		g.at = g.at.and(m.at)
		g.did.add(m.kit.did)
	}
	return err
}

// fill fills the records of the group and makes them durable by one drain. It goes
// over the group in passes, so that the waits of its keys for memory overlap.
func (g *putGroup) fill(keys, values [][]byte) error {
	t := g.table
	var all stripeSet
	for i, key := range keys {
		m := &g.ops[i]
		m.kind, m.key, m.value, m.watch = store, key, values[i], g.watch
		if err := checkSizes(m); err != nil {
			return err
		}
		m.hash = t.hash(key)
		g.glances[i] = t.lineAhead(m.hash)
		all.add(layout.StripeOf(m.hash, t.stripeBits))
	}
	g.stripes = all.list(g.stripes)
	for i := range g.ops {
		m := &g.ops[i]
		if err := t.takeRecord(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], m); err != nil {
			return err
		}
		t.blockAhead(m.record, layout.RecordBytes(len(m.key), len(m.value)))
	}
	g.ranges = g.ranges[:0]
	for i := range g.ops {
		t.recordAhead(&g.glances[i])
		g.ranges = append(g.ranges, t.fillOnly(&g.ops[i]))
	}
	t.pool.Persist(g.ranges...)
	return nil
}

// stripeSet is a set of stripes.
type stripeSet [layout.MaxStripes / 64]uint64

func (s *stripeSet) add(stripe int) { s[stripe/64] |= 1 << (stripe % 64) }

// list appends the stripes to to, in ascending order.
func (s *stripeSet) list(to []int) []int {
	for i, word := range s {
		for ; word != 0; word &= word - 1 {
			to = append(to, i*64+bits.TrailingZeros64(word))
		}
	}
	return to
}

// publishLocked is publish under the locks of those of the group's stripes that nobody
// else has. A group has many of a table's stripes: who waited for one with the others
// locked would have all writers wait.
func (g *putGroup) publishLocked() error {
	t := g.table
	g.watch.enters(locking)
	for _, i := range g.stripes {
		if t.stripes[i].mu.TryLock() {
			g.held = append(g.held, i)
		} else {
			g.waiting = append(g.waiting, i)
		}
	}
	g.watch.enters(changing)
	defer func() { // by defer, for a fault
		for _, i := range g.held {
			t.stripes[i].mu.Unlock()
		}
	}()
	err := g.publish()
	for _, i := range g.held {
		t.collectDue(&t.stripes[i])
	}
	return err
}

// publish stores every slot of the group and makes them durable by one drain, or by
// more where so many are of one stripe that they cannot all be in flight. A key that
// needs a structural change is left for later, and with it every later op of its stripe,
// so that their order holds.
func (g *putGroup) publish() error {
	t := g.table
	if err := t.poison(); err != nil {
		return err
	}
	g.ranges = g.ranges[:0]
	var at place
	for i := range g.ops {
		m := &g.ops[i]
		s := &t.stripes[layout.StripeOf(m.hash, t.stripeBits)]
		fits, err := false, error(nil)
		if !slices.Contains(g.waiting, s.index) {
			if fits, err = t.locateFitting(s, &at, m); err != nil {
				g.finish()
				return err
			}
		}
		if !fits {
			g.waiting = append(g.waiting, s.index)
			g.later = append(g.later, i)
			continue
		}
		slot := at.slot
		if slot == 0 {
			slot = at.free
			t.setOverflow(&at)
		}
		if s.flying == layout.InFlightSlots {
			g.finish()
		}
		word := at.slotWord(m) | t.pool.Load(slot)&layout.SlotOverflow
		logged := t.logChange(m)
		t.takeOff(s, slot)
		t.pool.Store(slot, word)
		g.ranges = append(g.ranges, pmem.Range{Offset: slot, Bytes: layout.WordBytes})
		t.settle(s, m, &at, logged)
		g.at = g.at.and(m.at)
	}
	g.finish()
	return nil
}

// locateFitting locates the key of a mutation, and tells whether it can be published as
// things are.
func (t *Table) locateFitting(s *stripe, at *place, m *mutation) (fits bool, err error) {
	at.reset()
	if t.locateHome(s, at, m.key, m.hash) {
		return true, nil
	}
	err = t.locate(s, at, m.key, m.hash)
	return err == nil && t.fits(at), err
}

// finish drains what of the group was stored.
func (g *putGroup) finish() {
	if len(g.ranges) == 0 {
		return
	}
	g.table.pool.Persist(g.ranges...)
	for _, i := range g.held {
		g.table.land(&g.table.stripes[i])
	}
	g.ranges = g.ranges[:0]
}
