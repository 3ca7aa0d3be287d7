package table

import (
	"fmt"
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
// value, which is valid until fn returns, or ErrNotFound or another error. The
// lookups of a group overlap: first all home lines are asked for, then all records,
// then each key is answered as by Get. It is not a snapshot: each key is answered
// as of a moment of its own. fn may call the table.
func (t *Table) GetMany(keys [][]byte, fn func(i int, value []byte, err error)) {
	defer runtime.KeepAlive(t)
	var buf []byte
	for first := 0; first < len(keys); first += manyGroup {
		group := keys[first:min(first+manyGroup, len(keys))]
		t.ahead(group)
		for i, key := range group {
			value, err := t.AppendGet(buf[:0], key)
			if err != nil {
				fn(first+i, nil, err)
				continue
			}
			buf = value
			fn(first+i, value, nil)
		}
	}
}

// ahead asks for the lines and then for the records of a group of keys.
func (t *Table) ahead(keys [][]byte) {
	var err error // of a page that is gone: Get meets it too
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.closing.Load() {
		return
	}
	var hints [manyGroup]hint
	for i, key := range keys {
		hints[i] = t.lineAhead(t.hash(key))
	}
	for i := range keys {
		t.recordAhead(hints[i])
	}
}

// PutMany stores values[i] under keys[i], in their order, so that the last one of
// equal keys counts. Each entry is stored as by Put; it is not a Batch: after an
// error or a crash some may be stored and others not. It is faster than as many
// Puts: one drain makes the records of a group durable, and one their slots.
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
	hints   [manyGroup]hint
	stripes []int
	waiting []int // stripes of which an op is left for later
	later   []int // ops that need a structural change first, and those behind them
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
	g.ops, g.stripes, g.waiting, g.later = g.ops[:0], g.stripes[:0], g.waiting[:0], g.later[:0]
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
	for i, key := range keys {
		g.ops = append(g.ops, mutation{kind: store, key: key, value: values[i], watch: g.watch})
		m := &g.ops[i]
		if err := checkSizes(m); err != nil {
			return err
		}
		m.hash = t.hash(key)
		g.hints[i] = t.lineAhead(m.hash)
		g.stripes = append(g.stripes, layout.StripeOf(m.hash, t.stripeBits))
	}
	for i := range g.ops {
		m := &g.ops[i]
		if err := t.takeRecord(&t.stripes[g.stripes[i]], m); err != nil {
			return err
		}
		t.blockAhead(m.record, layout.RecordBytes(len(m.key), len(m.value)))
	}
	g.ranges = g.ranges[:0]
	for i := range g.ops {
		t.recordAhead(g.hints[i])
		g.ranges = append(g.ranges, t.fillOnly(&g.ops[i]))
	}
	t.pool.Persist(g.ranges...)
	slices.Sort(g.stripes)
	g.stripes = slices.Compact(g.stripes)
	return nil
}

// publishLocked is publish under the locks of the group's stripes.
func (g *putGroup) publishLocked() error {
	t := g.table
	g.watch.enters(locking)
	for _, i := range g.stripes {
		t.stripes[i].mu.Lock()
	}
	g.watch.enters(changing)
	defer func() { // by defer, for a fault
		for _, i := range g.stripes {
			t.stripes[i].mu.Unlock()
		}
	}()
	err := g.publish()
	for _, i := range g.stripes {
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
	for i := range g.ops {
		m := &g.ops[i]
		s := &t.stripes[layout.StripeOf(m.hash, t.stripeBits)]
		var at place
		waiting := slices.Contains(g.waiting, s.index)
		if !waiting {
			if err := t.locate(s, &at, m.key, m.hash); err != nil {
				g.finish()
				return err
			}
		}
		if waiting || !t.fits(&at) {
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

// finish drains what of the group was stored.
func (g *putGroup) finish() {
	if len(g.ranges) == 0 {
		return
	}
	g.table.pool.Persist(g.ranges...)
	for _, i := range g.stripes {
		g.table.land(&g.table.stripes[i])
	}
	g.ranges = g.ranges[:0]
}
