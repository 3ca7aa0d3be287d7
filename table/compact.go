package table

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/trace"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// Compact gives space back to the file system, after mass deletes, while others
// read and write: buddy segments that are sparse are merged, directories shrink,
// what lies in the last part of the file moves to free room before it, and the
// file is cut off. Each step is an ordinary change of one stripe, so a crash in
// the middle leaves a whole table. It needs some room, and does what it can: what
// writers take meanwhile, snapshots hold or View looks at stays where it is, and
// while another process has the table open for reading the file keeps its size.
// Its time grows with the table.
func (t *Table) Compact() error { return t.CompactWith(context.Background(), CompactOptions{}) }

// CompactOptions say how a Compact goes.
type CompactOptions struct {
	// Progress, if set, is told which part of the work is done, from 0 to 1.
	Progress func(share float64)
}

// CompactWith is Compact until ctx ends: then it fails with ctx's error after the step
// that it is at, and what was done until then stays.
func (t *Table) CompactWith(ctx context.Context, opts CompactOptions) (err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	t.compactMu.Lock()
	defer t.compactMu.Unlock()
	defer trace.StartRegion(context.Background(), "pmemtable.compact").End()
	<-t.pool.Swept()
	if err := t.opened.markErr.Load(); err != nil {
		return *err
	}
	c := compaction{ctx: ctx, table: t, options: opts}
	if err := c.eachStripe(c.mergeStripe); err != nil {
		return err
	}
	t.makeRoom() // the blocks of what was merged are free
	c.from = t.pool.BeginCompaction()
	defer t.pool.EndCompaction()
	if err := c.eachStripe(c.moveStripe); err != nil {
		return err
	}
	if err := c.moveMetadata(); err != nil {
		return err
	}
	t.makeRoom() // and commits, so that no root reaches what was moved
	t.nextVersions()
	freed, err := t.pool.Shrink()
	if err == nil && freed > 0 {
		err = t.waitCommitted(t.last().epoch)
	}
	return err
}

// compaction is one Compact under way.
type compaction struct {
	ctx     context.Context
	table   *Table
	options CompactOptions
	done    int    // stripes that were merged or moved
	from    uint64 // blocks from this offset on are to move
	kit     kit
}

// eachStripe is one of the two passes over the stripes.
func (c *compaction) eachStripe(fn func(s *stripe) error) error {
	for i := range c.table.stripes {
		if err := fn(&c.table.stripes[i]); err != nil {
			return err
		}
		if c.done++; c.options.Progress != nil {
			c.options.Progress(float64(c.done) / float64(2*len(c.table.stripes)))
		}
	}
	return nil
}

// eachSegment calls fn under the stripe's lock for the segment at every position
// of a stripe's hashes, in order. fn says which blocks it lacks, or whether it did
// a change after which the position is looked at anew.
func (c *compaction) eachSegment(s *stripe, fn func(at *place) (again bool, missing need, err error)) error {
	t := c.table
	defer t.unpack(&c.kit)
	first := uint64(s.index) << (64 - t.stripeBits)
	for cursor := first; ; {
		root, end, again, missing, err := c.oneSegment(s, cursor, fn)
		if err == nil && !missing.nothing() {
			again, err = true, t.stock(&c.kit, missing, s.index, pmem.Usual)
		}
		if err == nil && !again {
			err = c.writableMeanwhile()
		}
		switch {
		case err != nil:
			return err
		case again:
		case root == 0 || end == 0 || layout.StripeOf(end, t.stripeBits) != s.index:
			return nil
		default:
			cursor = end
		}
	}
}

// oneSegment is one call of eachSegment. root is 0 for an empty stripe.
func (c *compaction) oneSegment(s *stripe, cursor uint64, fn func(at *place) (bool, need, error)) (
	root, end uint64, again bool, missing need, err error) {
	t := c.table
	s.mu.Lock()
	defer s.mu.Unlock()                // by defer, for a fault
	if err := t.poison(); err != nil { // then the roots are the last commit's slot, which nobody may store to
		return 0, 0, false, need{}, err
	}
	at, end, err := t.placeOf(s, cursor)
	if err == nil && at.root != 0 {
		again, missing, err = fn(&at)
	}
	t.collectDue(s)
	return at.root, end, again, missing, err
}

func (c *compaction) writableMeanwhile() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	return c.table.writableMeanwhile()
}

// writableMeanwhile ends long work early when the table is closing.
func (t *Table) writableMeanwhile() error {
	if t.closing.Load() {
		return ErrClosed
	}
	return t.poison()
}

// placeOf describes the segment that holds a hash, with its whole chain, and says
// at which hash it ends (0: the last one).
func (t *Table) placeOf(s *stripe, hash uint64) (at place, end uint64, err error) {
	// No key: what is looked for is in no slot, so the search ends at the home line.
	if err := t.locate(s, &at, nil, hash); err != nil || at.root == 0 {
		return at, 0, err
	}
	chain, err := t.wholeChain(&at)
	if err != nil {
		return at, 0, err
	}
	at.segments, at.far = 0, nil
	for _, segment := range chain {
		at.addSegment(segment)
	}
	shift := 64 - t.stripeBits - at.header.Depth
	if shift >= 64 {
		return at, 0, nil
	}
	return at, (hash>>shift + 1) << shift, nil
}

// moveStripe moves what of a stripe's tree lies from c.from on.
func (c *compaction) moveStripe(s *stripe) error {
	t := c.table
	var keys [][]byte
	var blocks []uint64
	err := c.eachSegment(s, func(at *place) (bool, need, error) {
		moved, missing, err := c.moveStructure(s, at)
		if moved || err != nil || !missing.nothing() {
			return true, missing, err
		}
		keys, blocks = c.recordsToMove(at, keys, blocks)
		return false, need{}, nil
	})
	for i := range keys {
		if err != nil {
			break
		}
		err = t.moveRecord(keys[i], blocks[i])
	}
	return err
}

// moveStructure copies the directory or one segment of the place if it must move.
func (c *compaction) moveStructure(s *stripe, at *place) (moved bool, missing need, err error) {
	t, epoch := c.table, c.table.epoch.Load()
	if c.kit.reaches(c.from) { // there is no room before it any more: the rest stays
		return false, need{}, nil
	}
	if at.directory >= c.from {
		n := need{directory: true, depth: at.depth}
		if !c.kit.has(n) {
			return false, n, nil
		}
		t.replaceDirectory(s, &c.kit, at, at.depth, t.directoryWords(at, at.depth))
		return true, need{}, nil
	}
	for i := at.segments - 1; i >= 0; i-- {
		if at.seg(i) < c.from {
			continue
		}
		first := i // the segments before it must be of this epoch, for the link
		for j := i - 1; j >= 0 && t.birthOf(at.seg(j)) != epoch; j-- {
			first = j
		}
		missing, err = t.copySegment(s, &c.kit, at, first)
		return missing.nothing(), missing, err
	}
	return false, need{}, nil
}

// recordsToMove lists the records of a place that must move, with their keys.
func (c *compaction) recordsToMove(at *place, keys [][]byte, blocks []uint64) ([][]byte, []uint64) {
	t := c.table
	if t.inline { // there are none
		return keys, blocks
	}
	for i := range at.segments {
		for l := range t.lines {
			line := t.pool.Line(at.seg(i) + layout.LineBytes*uint64(l+1))
			for slot := range layout.SlotsPerLine {
				block := layout.SlotRecord(line.Load(slot))
				if block < c.from || block == 0 {
					continue
				}
				if rec, err := recovery.ReadRecord(t.pool, block); err == nil { // a damaged one stays
					keys = append(keys, append([]byte(nil), rec.Key...))
					blocks = append(blocks, block)
				}
			}
		}
	}
	return keys, blocks
}

// moveRecord stores the value of a key anew, unless it has changed since.
func (t *Table) moveRecord(key []byte, block uint64) error {
	value, err := t.Get(key)
	if err != nil {
		if err == ErrNotFound {
			return nil
		}
		return err
	}
	m := mutation{kind: storeIfBlock, key: key, value: value, block: block, hash: t.hash(key)}
	return t.attempt(&t.stripes[layout.StripeOf(m.hash, t.stripeBits)], &m)
}

// moveMetadata stores the metadata record anew if it must move.
func (c *compaction) moveMetadata() error {
	t := c.table
	word := t.loadMetadataWord()
	if word < c.from {
		return nil
	}
	meta, err := t.Metadata()
	if err != nil {
		return err
	}
	return t.storeMetadata(meta, word)
}
