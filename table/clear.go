package table

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// Clear removes every entry, at once for all readers and across any crash; the
// metadata stays. It takes microseconds under all stripe locks; the old entries'
// space is given back in the background.
//
//  1. every version advances: a reader that may still be looking at the idle root
//     area, the one in use before the last Clear, will not trust what it read.
//  2. an empty root is written to the idle area and made durable. The working root
//     pointer still names the old one.
//  3. the intent to store the pointer is made durable. From here on a crash that
//     keeps the working root ends with the new one: so nobody sees an emptiness
//     that a crash could take back.
//  4. the pointer is stored and made durable; readers begin at the new root.
//  5. the intent is cleared.
//  6. the old tree is unlinked, in this epoch and at these versions. It is walked
//     and freed when no protector, version or pin holds it any more.
func (t *Table) Clear() (err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0]
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	return t.replaceTree(&tree{call: "clear", stripes: make([]uint64, len(t.stripes)), counts: make([]int64, len(t.stripes))})
}

// tree is what comes in the place of all that a table holds.
type tree struct {
	stripes     []uint64 // their roots
	counts      []int64
	setMetadata bool
	metadata    uint64 // the record, if setMetadata; 0 for none
	call        string // whose it is
	watch       *watch // nil unless slow calls are reported
}

// replaceTree is steps 1 to 6 of Clear, with next in the place of the empty tree.
func (t *Table) replaceTree(next *tree) (err error) {
	next.watch = t.slow.begin(locking)
	defer func() { t.slow.end(next.watch, t.pool.Path(), slowCall{operation: next.call}, err) }()
	old, epoch, err := t.swapRoots(next)
	if err != nil {
		return err
	}
	t.condemned.begin(epoch, func() {
		_ = t.guarded(func() error { t.freeTree(old, epoch); return nil })
	})
	next.watch.enters(committing)
	return t.acknowledge(point{epoch: epoch}, true)
}

// trees are the cleared trees whose space is not given back yet.
type trees struct {
	work sync.WaitGroup // for Close, which comes when none can begin any more
	mu   sync.Mutex     // guards unlinked
	// unlinked are the epochs in which they were, for those who wait for room.
	unlinked []uint64
}

func (c *trees) begin(epoch uint64, free func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlinked = append(c.unlinked, epoch)
	c.work.Go(func() {
		free()
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.unlinked, epoch)
		c.unlinked = slices.Delete(c.unlinked, i, i+1)
	})
}

// soonFree tells whether some tree is about to be given back: one that a snapshot
// holds is not, and whoever waits for room may be the one who has the snapshot.
func (t *Table) soonFree() bool {
	c := &t.condemned
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.unlinked, func(epoch uint64) bool { return !t.epochs.holds(epoch) })
}

// swapRoots is steps 1 to 5 of Clear.
func (t *Table) swapRoots(next *tree) (old recovery.Roots, epoch uint64, err error) {
	t.intentMu.Lock()
	defer t.intentMu.Unlock()
	t.lockAll()
	defer t.unlockAll()
	next.watch.enters(changing)
	if err := t.poison(); err != nil { // readers have gone back to the last commit
		return old, 0, err
	}
	t.advanceVersions()
	p, r := t.pool, t.pool.Regions()
	from := t.roots.Load() - layout.RootStripes
	to := r.Root[0]
	if from == to {
		to = r.Root[1]
	}
	old.Stripes = make([]uint64, len(t.stripes))
	metadata := p.Load(from + layout.RootMetadata)
	if next.setMetadata {
		old.Metadata, metadata = metadata, next.metadata
	}
	p.Store(to+layout.RootMetadata, metadata)
	for i := range old.Stripes {
		old.Stripes[i] = p.Load(t.rootAt(i))
		p.Store(to+layout.RootStripes+uint64(i)*layout.WordBytes, next.stripes[i])
	}
	p.Persist(pmem.Range{Offset: to, Bytes: layout.RootStripes + len(t.stripes)*layout.WordBytes})

	pointer := r.Control + layout.ControlRoot
	t.redo.close()
	t.intents++
	p.WriteIntent(t.intents, []layout.IntentStore{{Offset: pointer, Word: to}})
	p.Store(pointer, to)
	p.PersistWord(pointer)
	t.useRootArea(to)
	p.ClearIntent()

	t.pool.Count(layout.CounterClears, 1)
	epoch = t.epoch.Load()
	for i := range t.stripes {
		s := &t.stripes[i]
		s.heads.forget()
		s.count, s.based, s.lastChange, s.lastLogged = next.counts[i], true, epoch, 0
		// What was linked since the last commit is no longer reached and may be
		// reused: the next commit must not list it.
		s.born, s.bornOver = s.born[:0], true
	}
	if old.Metadata != 0 {
		// Its birth is not read; 0 errs to the safe side.
		t.retire(&t.stripes[0], old.Metadata, 0, layout.UnitBytes)
	}
	return old, epoch, nil
}

// advanceVersions advances every stripe's version; all stripes are locked.
func (t *Table) advanceVersions() {
	for i := range t.stripes {
		t.pool.Store(t.versionAt(i), t.version(i)+1)
	}
	flush.Fence()
}

// nextVersions advances every stripe's version, and returns those before.
func (t *Table) nextVersions() []uint64 {
	versions := make([]uint64, len(t.stripes))
	t.lockAll()
	defer t.unlockAll()
	for i := range versions {
		versions[i] = t.version(i)
	}
	t.advanceVersions()
	return versions
}

// freeTree gives the blocks of a tree back that was unlinked in the given epoch.
// It ends early when the table closes: the next open finds the rest free.
func (t *Table) freeTree(roots recovery.Roots, epoch uint64) {
	held := func() bool { return t.epochs.holds(epoch) }
	if t.pool.Media() == pmem.PageCache && held() {
		<-t.pool.Swept()
		_ = t.waitCommitted(epoch) // so that the committed root does not hold it
	}
	if !t.waitWhile(held) {
		return
	}
	versions := t.nextVersions()
	var buf [pinCount]uint64
	searching := func() bool {
		for i, v := range versions {
			if pins := t.pins.of(i, buf[:]); pins.searching && pins.oldest <= v&pinVersionMask {
				return true
			}
		}
		return false
	}
	if !t.waitWhile(searching) {
		return
	}
	err := recovery.Blocks(t.pool, roots, func(off uint64) error {
		pins := t.pins.of(0, buf[:])
		pins.searching = false
		if pins.holds(off, 0) {
			// A View looks at it, and may itself be waiting for room: so it is not
			// waited for. Its birth is not read; 0 errs to the safe side.
			s := &t.stripes[0]
			s.mu.Lock()
			t.retire(s, off, 0, layout.UnitBytes)
			s.mu.Unlock()
			return t.ctx.Err()
		}
		t.pool.Free(off)
		return t.ctx.Err()
	})
	if err != nil && t.ctx.Err() == nil {
		t.pool.Logger().Error("a cleared tree is damaged: its space stays out of use until the next open", "err", err)
	}
}

// waitWhile polls until cond is false; false if the table closes first.
func (t *Table) waitWhile(cond func() bool) bool {
	for cond() {
		if !t.pause() {
			return false
		}
	}
	return t.ctx.Err() == nil
}

// pause waits a moment, in background work only; false if the table closes.
func (t *Table) pause() bool {
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(time.Millisecond):
		return true
	}
}
