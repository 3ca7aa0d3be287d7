package table

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// MaxBatch is how many keys a batch can change, beside the metadata record.
const MaxBatch = 4091

// Batch collects changes of several keys, and of the metadata record, for Apply.
// The last change of a key counts. It copies what it is given, and is for one
// goroutine at a time. It takes any number of keys; Apply takes a batch of at most
// MaxBatch.
type Batch struct {
	ops      []batchOp
	index    map[string]int // of the last change of a key
	metadata []byte
	hasMeta  bool
}

type batchOp struct {
	key, value []byte
	remove     bool
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{index: make(map[string]int)} }

// Put stores value under key when the batch is applied.
func (b *Batch) Put(key, value []byte) {
	b.add(batchOp{key: slices.Clone(key), value: slices.Clone(value)})
}

// Delete removes key when the batch is applied.
func (b *Batch) Delete(key []byte) { b.add(batchOp{key: slices.Clone(key), remove: true}) }

func (b *Batch) add(op batchOp) {
	if i, ok := b.index[string(op.key)]; ok {
		b.ops[i] = op
		return
	}
	b.index[string(op.key)] = len(b.ops)
	b.ops = append(b.ops, op)
}

// SetMetadata replaces the table's metadata record when the batch is applied: a
// replicated state machine stores its applied index there.
func (b *Batch) SetMetadata(meta []byte) { b.metadata, b.hasMeta = slices.Clone(meta), true }

// Len is the number of keys that the batch changes.
func (b *Batch) Len() int { return len(b.ops) }

// Reset empties the batch for another use.
func (b *Batch) Reset() {
	b.ops, b.metadata, b.hasMeta = b.ops[:0], nil, false
	clear(b.index)
}

// batchRun is one Apply under way.
type batchRun struct {
	table     *Table
	watch     *watch // nil unless slow calls are reported
	ops       []mutation
	stripes   []int // ascending, each once
	kits      map[int]*kit
	meta      uint64 // the filled metadata record, 0 for none
	hasMeta   bool
	metaBytes int
	// onlyOver: do it only if this is the metadata record's block; 0 for always.
	onlyOver uint64
	oldMeta  struct { // the one that it replaces
		recovery.Record
		offset uint64 // 0: none
	}

	// The plan, made under the locks of all stripes; the intent is its stores.
	places  []place // of each op
	act     []bool  // whether it changes anything
	targets []uint64
	taken   map[uint64]bool // free slots that an op of this batch will fill
	stores  []layout.IntentStore
}

// Apply makes all changes of a batch, or none, across any crash, and returns when
// they are durable as Options.Durability says. Other writers of the keys see all
// or none; a reader without a lock may see some of the keys changed a moment
// before the others. ErrTooLarge if the batch has more than MaxBatch keys (fewer in a
// pool whose geometry has a smaller intent record, half as many of inline entries), or
// for a key or value that is too large; then, as after ErrFull, nothing was changed.
//
//  1. the records are filled and made durable. Nothing reaches them.
//  2. all stripes concerned are locked, in ascending order. Segments are copied and
//     split until every change is the store of one slot; overflow bits are set.
//  3. the intent, slots and new words, is made durable. From here on a crash ends
//     with the whole batch: an open redoes it. So nothing is named as in flight.
//  4. the slots and the metadata word are stored and made durable.
//  5. the intent is cleared, durably.
//  6. the old records are retired, and the stripes unlocked.
func (t *Table) Apply(b *Batch) (err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	if limit := t.batchLimit(); len(b.ops) > limit {
		return fmt.Errorf("%w: a batch of %d changes, the limit is %d", ErrTooLarge, len(b.ops), limit)
	}
	r := batchRun{table: t, kits: make(map[int]*kit), hasMeta: b.hasMeta, watch: t.slow.begin(filling)}
	defer r.watched(&err)
	defer r.unpack()
	if err := r.fill(b); err != nil {
		return err
	}
	if len(r.stripes) == 0 {
		return nil
	}
	at, changed, err := r.run()
	if err != nil {
		return err
	}
	t.countBatch(changed)
	r.watch.enters(committing)
	return t.acknowledge(at, changed)
}

// batchLimit is how many changes the stores of which fit the intent record.
func (t *Table) batchLimit() int {
	limit := t.geometry.MaxIntentStores() - 1 // for the metadata word
	if t.inline {
		limit /= len(inlineChange{}.stores)
	}
	return limit
}

// storeMetadata replaces the metadata record; if onlyOver is not 0, only where it is
// the record at that offset.
func (t *Table) storeMetadata(meta []byte, onlyOver uint64) error {
	r := batchRun{table: t, kits: make(map[int]*kit), hasMeta: true, onlyOver: onlyOver}
	defer r.unpack()
	b := NewBatch()
	b.SetMetadata(meta)
	if err := r.fill(b); err != nil {
		return err
	}
	_, _, err := r.run()
	return err
}

// fill is step 1.
func (r *batchRun) fill(b *Batch) error {
	t := r.table
	for _, op := range b.ops {
		m := mutation{kind: store, key: op.key, value: op.value, batched: true, watch: r.watch}
		if op.remove {
			m.kind = remove
		}
		if err := t.aim(&m); err != nil {
			return err
		}
		stripe := layout.StripeOf(m.hash, t.stripeBits)
		if m.kind.stores() && !t.inline {
			if err := t.fill(&t.stripes[stripe], &m); err != nil {
				return err
			}
		}
		r.ops = append(r.ops, m)
		r.stripes = append(r.stripes, stripe)
	}
	if b.hasMeta {
		m := mutation{value: b.metadata}
		if err := checkSizes(&m); err != nil {
			return err
		}
		if err := t.fill(&t.stripes[0], &m); err != nil {
			return err
		}
		r.meta, r.metaBytes = m.record, len(b.metadata)
		r.stripes = append(r.stripes, 0) // whose version guards the old one
	}
	slices.Sort(r.stripes)
	r.stripes = slices.Compact(r.stripes)
	return nil
}

// run is steps 2 to 6.
func (r *batchRun) run() (at point, changed bool, err error) {
	t := r.table
	r.watch.enters(locking)
	t.intentMu.Lock()
	defer t.intentMu.Unlock()
	for round := 0; ; round++ {
		missing, err := r.planLocked()
		if err == nil && len(missing) == 0 {
			break
		}
		if err == nil {
			r.watch.enters(allocating)
			err = r.stock(missing, round)
		}
		if err != nil {
			return point{}, false, err
		}
	}
	defer r.unlock()
	if len(r.stores) == 0 {
		committed := t.commits.committedEpoch()
		for _, i := range r.stripes {
			if s := &t.stripes[i]; s.lastChange > committed {
				at = at.and(s.last())
			}
		}
		return at, false, nil
	}
	at = point{t.epoch.Load(), r.log()}
	t.intents++
	t.pool.WriteIntent(t.intents, r.stores)
	ranges := make([]pmem.Range, 0, len(r.stores))
	for i, s := range r.stores {
		t.pool.Store(s.Offset, s.Word)
		if i == 0 || !t.inline || s.Offset^layout.WordBytes != r.stores[i-1].Offset { // else it is the same slot
			ranges = append(ranges, pmem.Range{Offset: s.Offset, Bytes: layout.WordBytes})
		}
	}
	t.pool.Persist(ranges...)
	t.pool.ClearIntent()
	r.settle(at.logged)
	return at, true, nil
}

// log appends the batch to the log, as one that takes effect whole or not at all.
func (r *batchRun) log() uint64 {
	t := r.table
	if !t.redo.enabled {
		return 0
	}
	var changes []change
	for i := range r.ops {
		if r.act[i] {
			changes = append(changes, t.logged(&r.ops[i]))
		}
	}
	if r.hasMeta {
		changes = append(changes, change{layout.LogMetadata, t.pool.Bytes(r.meta, layout.RecordBytes(0, r.metaBytes))})
	}
	return t.redo.add(changes...)
}

// stock takes the blocks that a plan lacked. Each round of plans costs as much as the
// whole batch, so those after the first are asked for more segments at a time, as long as
// there is room.
func (r *batchRun) stock(missing map[int]need, round int) error {
	t := r.table
	changes := make(map[int]int, len(r.stripes)) // of each stripe
	for i := range r.ops {
		changes[layout.StripeOf(r.ops[i].hash, t.stripeBits)]++
	}
	for _, stripe := range r.stripes {
		lack, lacks := missing[stripe]
		if !lacks {
			continue
		}
		more := lack
		more.segments = max(lack.segments, min(lack.segments<<min(round, 16), changes[stripe]))
		err := t.stock(r.kit(stripe), more, stripe, lack.urgency())
		if err != nil && more != lack {
			err = t.stock(r.kit(stripe), lack, stripe, lack.urgency())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// planLocked is plan under the locks of all stripes, which it keeps if all is ready.
func (r *batchRun) planLocked() (missing map[int]need, err error) {
	r.lock()
	ready := false
	defer func() { // by defer, for a fault
		if !ready {
			r.unlock()
		}
	}()
	missing, err = r.plan()
	ready = err == nil && len(missing) == 0
	return missing, err
}

func (r *batchRun) lock() {
	r.watch.enters(locking)
	for _, i := range r.stripes {
		r.table.stripes[i].mu.Lock()
	}
	r.watch.enters(changing)
}

func (r *batchRun) unlock() {
	defer func() {
		for _, i := range r.stripes {
			r.table.stripes[i].mu.Unlock()
		}
	}()
	for _, i := range r.stripes {
		r.table.collectDue(&r.table.stripes[i])
	}
}

func (r *batchRun) kit(stripe int) *kit {
	k := r.kits[stripe]
	if k == nil {
		k = new(kit)
		r.kits[stripe] = k
	}
	return k
}

// plan finds a slot for every change. A structural change may move what was planned
// before it, so after a pass that made one all is planned anew. missing says which blocks
// such changes need first, by stripe.
func (r *batchRun) plan() (missing map[int]need, err error) {
	if err := r.table.poison(); err != nil {
		return nil, err
	}
	r.places, r.act = make([]place, len(r.ops)), make([]bool, len(r.ops))
	r.targets = make([]uint64, len(r.ops))
	r.taken = make(map[uint64]bool, len(r.ops))
	for {
		changed, missing, err := r.pass()
		if err != nil || len(missing) > 0 {
			return missing, err
		}
		if !changed {
			return nil, r.list()
		}
	}
}

// pass plans every change, and makes every structural change that it meets and has the
// blocks for: so that passes are few, whatever the size of the batch.
func (r *batchRun) pass() (changed bool, missing map[int]need, err error) {
	clear(r.taken)
	for i := range r.ops {
		stripe := layout.StripeOf(r.ops[i].hash, r.table.stripeBits)
		for ready := false; !ready; {
			if _, lacks := missing[stripe]; lacks {
				break
			}
			var lack need
			if ready, lack, err = r.planOne(stripe, i); err != nil {
				return changed, nil, err
			}
			changed = changed || !ready
			if !lack.nothing() {
				if missing == nil {
					missing = make(map[int]need)
				}
				missing[stripe] = lack
			}
		}
	}
	return changed, missing, nil
}

// planOne plans one change; ready is false after a structural change, and when blocks
// are missing for one.
func (r *batchRun) planOne(stripe, i int) (ready bool, missing need, err error) {
	t, m, at := r.table, &r.ops[i], &r.places[i]
	s := &t.stripes[stripe]
	at.taken, at.want = r.taken, m.words.want
	if err := t.locate(s, at, m.key, m.hash); err != nil {
		return false, need{}, err
	}
	m.existed = at.slot != 0
	if r.act[i] = m.holds(at); !r.act[i] {
		return true, need{}, nil
	}
	ready, missing, err = t.prepare(s, r.kit(stripe), m.hash, at)
	if err != nil || !ready {
		return false, missing, err
	}
	r.targets[i] = at.slot
	if at.slot == 0 {
		r.targets[i] = at.free
		r.taken[at.free] = true
	}
	return true, need{}, nil
}

// list turns the plan into stores, and sets the overflow bits that they need.
func (r *batchRun) list() error {
	t := r.table
	r.stores = r.stores[:0]
	for i := range r.ops {
		switch at := &r.places[i]; {
		case !r.act[i] || at.slot != 0:
		case t.inline:
			t.setOverflowInline(at)
		default:
			t.setOverflow(at)
		}
	}
	for i := range r.ops {
		if r.act[i] && t.inline {
			c := t.inlineChange(&r.ops[i], &r.places[i])
			t.reuseSlot(&t.stripes[layout.StripeOf(r.ops[i].hash, t.stripeBits)], &c)
			r.stores = append(r.stores, c.stores[:c.n]...)
			continue
		}
		if r.act[i] {
			word := r.places[i].slotWord(&r.ops[i])
			word |= t.pool.Load(r.targets[i]) & layout.SlotOverflow
			r.stores = append(r.stores, layout.IntentStore{Offset: r.targets[i], Word: word})
		}
	}
	if !r.hasMeta || r.onlyOver != 0 && r.onlyOver != t.pool.Load(t.metadataAt.Load()) {
		return nil
	}
	r.stores = append(r.stores, layout.IntentStore{Offset: t.metadataAt.Load(), Word: r.meta})
	r.oldMeta.offset = t.pool.Load(t.metadataAt.Load())
	if r.oldMeta.offset == 0 {
		return nil
	}
	var err error
	r.oldMeta.Record, err = recovery.ReadRecord(t.pool, r.oldMeta.offset)
	return err
}

// settle is step 6: what the stores made of the stripes.
func (r *batchRun) settle(logged uint64) {
	t := r.table
	for i := range r.ops {
		m, at := &r.ops[i], &r.places[i]
		if !r.act[i] {
			continue
		}
		t.settle(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], m, at, logged)
	}
	if r.hasMeta {
		s := &t.stripes[0]
		s.lastChange, s.lastLogged = t.epoch.Load(), logged
		t.noteBorn(s, r.meta, layout.RecordBytes(0, r.metaBytes))
		if r.oldMeta.offset != 0 {
			t.retire(s, r.oldMeta.offset, r.oldMeta.Birth, r.oldMeta.Size())
		}
		r.meta = 0
	}
}

// unpack gives back what was taken and not used.
func (r *batchRun) unpack() {
	for i := range r.ops {
		if r.ops[i].record != 0 {
			r.table.pool.Free(r.ops[i].record)
		}
	}
	if r.meta != 0 {
		r.table.pool.Free(r.meta)
	}
	for _, k := range r.kits {
		if k != nil {
			r.table.unpack(k)
		}
	}
}
