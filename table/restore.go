package table

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// Restore replaces all that the table holds, the metadata record too, by what a
// stream of Backup holds: all or nothing, at once for all readers and across any
// crash, and durably when it returns, as Options.Durability says. Until then the
// table is as before, and after an error it stays so; ErrBadBackup for a stream
// that is not whole. Others read and write meanwhile; what they write goes with
// the rest. Open snapshots stay. The file needs room for both contents (ErrFull);
// the old one's is given back in the background. A second Restore, and Compact,
// wait for it, and so does Close, which makes it end with ErrClosed at its next
// read from r. The time is that of storing all entries; O(stripes) under locks.
//
//  1. the stream's entries are put into a tree of its own, whose roots lie in a
//     block that nothing reaches. A crash finds the old table, and all of this free.
//  2. the trees are exchanged as in Clear, whose steps 1 to 6 these are, with the
//     new tree in the place of the empty one.
func (t *Table) Restore(r io.Reader) (err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	t.compactMu.Lock() // the end of the file must not go while only the new tree reaches it
	defer t.compactMu.Unlock()
	aside, err := t.newAside()
	if err != nil {
		return err
	}
	defer aside.discardRoots()
	next, err := aside.loadTree(whileWritable{t, r})
	if err == nil {
		err = t.replaceTree(next)
	}
	if err != nil {
		err = fmt.Errorf("restore into %s: %w", t.pool.Path(), err)
	}
	return err
}

// whileWritable reads until the table takes no writes any more.
type whileWritable struct {
	table *Table
	r     io.Reader
}

func (w whileWritable) Read(b []byte) (int, error) {
	if err := w.table.writableMeanwhile(); err != nil {
		return 0, err
	}
	return w.r.Read(b)
}

// newAside returns a table in the same pool whose stripe roots lie in a block of
// their own. Its entries are stored as any, but since nothing reaches them:
//
//   - what it unlinks is free at once, and it moves no version;
//   - its epoch stays that of its beginning: what is born in it is older than the
//     exchange, and no root of before reaches it;
//   - it has no metadata word and writes no intent: neither Apply nor Clear is for it.
func (t *Table) newAside() (*Table, error) {
	n := len(t.stripes)
	roots, err := t.alloc(n*layout.WordBytes, 0, pmem.Usual)
	if err != nil {
		return nil, err
	}
	for i := range n {
		t.pool.Store(roots+uint64(i)*layout.WordBytes, 0)
	}
	a := &Table{
		pool: t.pool, geometry: t.geometry, stripeBits: t.stripeBits, lines: t.lines, inline: t.inline, inlineMap: t.inlineMap,
		seed: t.seed, collide: t.collide, versions: t.versions, versionLines: t.versionLines, trust: t.trust,
		durability: OnSync, // it acknowledges to nobody
		stripes:    make([]stripe, n),
		asideOf:    t,
	}
	a.roots.Store(roots)
	a.epoch.Store(t.epoch.Load())
	for i := range a.stripes {
		a.stripes[i].init(i)
	}
	return a, nil
}

func (t *Table) discardRoots() { t.pool.Free(t.roots.Load()) }

// loadTree is step 1. After an error it has given back all that it took.
func (t *Table) loadTree(r io.Reader) (*tree, error) {
	meta, err := t.load(r)
	next := &tree{call: "restore", setMetadata: true}
	if err == nil && len(meta) > 0 {
		m := mutation{value: meta}
		if err = checkSizes(&m); err == nil {
			err = t.fill(&t.stripes[0], &m)
		}
		next.metadata = m.record
	}
	for i := range t.stripes {
		next.stripes = append(next.stripes, t.pool.Load(t.rootAt(i)))
		next.counts = append(next.counts, t.stripes[i].count)
	}
	if poisoned := t.poison(); poisoned != nil { // by a page that is gone: some lock may be lost with it
		return nil, t.asideOf.condemn(poisoned)
	}
	if err != nil {
		t.discard(next)
		return nil, err
	}
	return next, nil
}

// discard gives back the blocks of a tree that nothing came to reach.
func (t *Table) discard(next *tree) {
	free := func(off uint64) error { t.pool.Free(off); return nil }
	if err := recovery.Blocks(t.pool, recovery.Roots{Stripes: slices.Clone(next.stripes)}, free); err != nil {
		t.pool.Logger().Error("a tree that was not used is damaged: its space stays out of use until the next open", "err", err)
	}
	if next.metadata != 0 {
		t.pool.Free(next.metadata)
	}
}
