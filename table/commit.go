package table

import (
	"context"
	"fmt"
	"runtime/debug"
	"runtime/trace"
	"sync"
	"sync/atomic"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// A commit makes the table as it stands at one instant durable on a medium of the
// page cache, while writers go on:
//
//  1. cut: under all stripe locks, for microseconds, the stripe roots are copied
//     and the epoch goes up. From here on a writer that would store into anything
//     born before copies it first, so the copied roots name a frozen tree.
//     A crash finds the previous committed root; the tree it reaches is whole,
//     since its protector is still there.
//  2. the file is synced: the frozen tree is durable. Later stores that the sync
//     catches too touch nothing of it.
//  3. the roots go to the idle superblock slot, and the file is synced. A crash
//     finds either slot, and both trees are whole.
//  4. the previous protector goes: what only the older root reached may be reused.
type committer struct {
	turn sync.Mutex // held by the one checkpoint under way; guards the next four
	next uint64     // sequence of the next commit
	idle int        // slot of the next commit
	// slots protect what the superblock slots reach that a crash could need.
	slots []*protector
	// settled: the committed root is known to be durable, so that a commit by one
	// sync can fall back to it.
	settled bool

	failed atomic.Pointer[error] // the sync that failed; never nil again afterwards

	mu        sync.Mutex     // guards all below to leading; no lock is taken under it
	good      int            // slot of the last durable commit
	sure      bool           // that it is durable: not yet after a kill, which may have come in its middle
	last      uint64         // sequence of the last durable commit
	goodLog   layout.LogSpan // the log that goes on from it
	goodEnd   uint64         // how far, for one of an earlier session
	count     uint64         // checkpoints
	wake      sync.Cond      // on mu
	committed uint64         // epochs up to it are durable
	leading   bool           // some waiter runs a checkpoint for all
	logged    uint64         // position up to which this session's log is durable
	flushing  bool           // some waiter flushes the log for all
	failing   bool           // nothing more is logged

	crowded atomic.Bool // a checkpoint to make room in the log has begun

	// For Interval: when the oldest write that no cut has caught was made, and the
	// oldest that the checkpoint under way will commit. By now(), 0 none.
	oldest, oldestCut atomic.Int64
	dirty             chan struct{}

	// How long cuts held the stripe locks, for Stats. Nanoseconds.
	cuts, lastCut, longestCut atomic.Int64
}

func (c *committer) init(next uint64, idle int) {
	c.next, c.idle, c.good = next, idle, idle^1
	c.wake.L = &c.mu
	c.dirty = make(chan struct{}, 1)
}

// settle takes notice that what the open found committed is durable.
func (c *committer) settle() {
	c.mu.Lock()
	c.sure = true
	c.mu.Unlock()
}

// frozen is a tree that nobody changes any more, and its counts.
type frozen struct {
	epoch  uint64
	roots  recovery.Roots
	counts []uint64 // nil if not known
	guard  *protector
	born   []layout.Extent  // all that was linked in the epoch, nil if that is too much
	fresh  map[int]struct{} // chunks whose descriptors no commit covers
	log    layout.LogSpan   // what follows in the log
}

// cut freezes the table at this instant. A cut for a commit takes the lists of
// what was linked since the last one.
func (t *Table) cut(commits bool) frozen {
	f := frozen{ // before the locks: an allocation may have to help the collector
		roots:  recovery.Roots{Stripes: make([]uint64, len(t.stripes))},
		counts: make([]uint64, len(t.stripes)),
	}
	defer trace.StartRegion(context.Background(), "pmemtable.cut").End()
	began, tried := t.lockForCut()
	t.freeze(&f, commits)
	t.commits.noteCut(max(tried, time.Since(began)))
	return f
}

// lockForCut is lockAll for a cut, which is not to hold up all writers while it
// waits for one, who may be in a page fault that the disk has to answer. So it
// keeps the locks that it has for a moment only, and then waits without them. It
// returns when the try began by which it got all, and how long any before it took.
func (t *Table) lockForCut() (began time.Time, tried time.Duration) {
	for range 128 {
		began = time.Now()
		busy := t.tryLockAll(began)
		if busy == nil {
			return began, tried
		}
		tried = max(tried, time.Since(began))
		t.commits.noteHeld(tried)
		busy.mu.Lock()
		busy.mu.Unlock() // only to wait for whoever holds it
	}
	began = time.Now() // so many writers that there is always one
	t.lockAll()
	return began, tried
}

// tryLockAll locks all stripes, or none and returns the one that was locked for
// longer than a writer takes that nothing stops.
func (t *Table) tryLockAll(began time.Time) (busy *stripe) {
	const patience = 4 * time.Microsecond
	for i := range t.stripes {
		s := &t.stripes[i]
		for !s.mu.TryLock() {
			if time.Since(began) > patience {
				for j := range i {
					t.stripes[j].mu.Unlock()
				}
				return s
			}
		}
	}
	return nil
}

// freeze is what a cut does under all stripe locks, which it leaves.
func (t *Table) freeze(f *frozen, commits bool) {
	defer t.unlockAll()
	f.epoch, f.roots.Metadata = t.epoch.Load(), t.pool.Load(t.metadataAt.Load())
	for i := range t.stripes {
		s := &t.stripes[i]
		f.roots.Stripes[i] = t.pool.Load(t.rootAt(i))
		if !s.based {
			f.counts = nil
		}
		if f.counts != nil {
			f.counts[i] = uint64(s.count)
		}
	}
	if commits {
		t.takeBorn(f)
		t.commits.catchOldest()
		f.log = t.redo.cut(f.epoch)
	}
	f.guard = t.epochs.protect(f.epoch)
	at := t.pool.Regions().Control + layout.ControlEpoch
	t.pool.Store(at, f.epoch+1)
	t.pool.PersistWord(at) // before any birth in the new epoch
	t.epoch.Store(f.epoch + 1)
}

// noteCut counts a cut that held stripe locks for so long, from the first on.
func (c *committer) noteCut(held time.Duration) {
	c.cuts.Add(1)
	c.lastCut.Store(int64(held))
	c.noteHeld(held)
}

// noteHeld keeps the longest time for which a cut held a stripe lock.
func (c *committer) noteHeld(held time.Duration) {
	for {
		longest := c.longestCut.Load()
		if int64(held) <= longest || c.longestCut.CompareAndSwap(longest, int64(held)) {
			return
		}
	}
}

// checkpoint cuts and commits. It returns ErrPoisoned when a sync failed.
func (t *Table) checkpoint() (err error) {
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	c := &t.commits
	c.turn.Lock()
	defer c.turn.Unlock()
	if err := t.poison(); err != nil {
		return err
	}
	t.growLog()
	defer trace.StartRegion(context.Background(), "pmemtable.checkpoint").End()
	began := now()
	f := t.cut(true)
	defer c.oldestCut.Store(0)
	sb := pmem.Superblock{
		Sequence:    c.next,
		Epoch:       f.epoch,
		Metadata:    f.roots.Metadata,
		CountsKnown: f.counts != nil,
		Roots:       f.roots.Stripes,
		Counts:      f.counts,
		Log:         f.log,
	}
	if f.counts == nil {
		sb.Counts = make([]uint64, len(t.stripes))
	}
	if c.settled {
		sb.Extents = t.extentsOf(&f)
	}
	if err := t.pool.Commit(&sb, c.idle); err != nil {
		return t.fail(err)
	}
	if err := t.adopt(&f); err != nil {
		return err
	}
	c.settled = true
	t.countLogSizes()
	for _, p := range c.slots {
		t.epochs.release(p)
	}
	c.slots = append(c.slots[:0], f.guard)
	c.wake.Broadcast()
	t.checkpointed(began)
	c.idle ^= 1
	c.next++
	if t.pool.Media() != pmem.PageCache {
		// Only a closed table's committed root counts on these media, and the
		// session that follows a Close voids it.
		t.epochs.release(f.guard)
		c.slots = c.slots[:0]
	}
	return nil
}

// point is what must be durable before a call may return that changed, or saw, what a
// stripe holds: the log up to a position, or everything of an epoch.
type point struct {
	epoch  uint64
	logged uint64 // 0: it is not in the log
}

// and is the point at which both are durable.
func (p point) and(q point) point {
	switch {
	case p.epoch == 0:
		return q
	case q.epoch == 0:
		return p
	case p.logged == 0 || q.logged == 0:
		return point{epoch: max(p.epoch, q.epoch)}
	}
	return point{max(p.epoch, q.epoch), max(p.logged, q.logged)}
}

// adopt makes a root that is durable the one that counts, unless a flush of the log has
// failed meanwhile: then it was decided to which state the table goes back, the next
// open voids the new slot, and nobody may return for the sake of it.
func (t *Table) adopt(f *frozen) error {
	c := &t.commits
	c.mu.Lock()
	if c.failing {
		c.mu.Unlock()
		return t.failedAlready()
	}
	t.redo.committed(f.log)
	c.good, c.sure, c.last, c.committed, c.goodLog = c.idle, true, c.next, f.epoch, f.log
	c.count++
	c.mu.Unlock()
	return nil
}

// failedAlready waits for the error of a sync that another caller's failed.
func (t *Table) failedAlready() error {
	c := &t.commits
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.failed.Load() == nil {
		c.wake.Wait()
	}
	return *c.failed.Load()
}

// committedEpoch is the epoch up to which all is durable in the tree.
func (c *committer) committedEpoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.committed
}

// waitCommitted returns when everything of the epoch is durable on the medium.
func (t *Table) waitCommitted(epoch uint64) error { return t.waitDurable(point{epoch: epoch}) }

// waitDurable returns when what the point says is durable on the medium. Of many
// callers one flushes the log, or runs the checkpoint, for all; those that come while
// one is under way share the next.
func (t *Table) waitDurable(p point) error {
	if t.pool.Media() != pmem.PageCache {
		return nil
	}
	c := &t.commits
	c.mu.Lock()
	defer c.mu.Unlock()
	first := uint64(0) // the epoch that must be committed first
	for c.committed < p.epoch && (p.logged == 0 || c.logged < p.logged) {
		if p.logged == 0 {
			first = p.epoch
		} else if first <= c.committed {
			first = 0
		}
		switch {
		case c.failed.Load() != nil:
			return *c.failed.Load()
		case first != 0 && c.leading, first == 0 && c.flushing:
			c.wake.Wait()
		case first != 0:
			t.leadCheckpoint()
		default:
			first = t.leadFlush()
		}
	}
	return nil
}

// leadCheckpoint runs a checkpoint for all who wait for one. commits.mu is held, but
// not meanwhile.
func (t *Table) leadCheckpoint() {
	c := &t.commits
	c.leading = true
	c.mu.Unlock()
	_ = t.checkpoint() // an error is in failed
	c.mu.Lock()
	c.leading = false
	c.wake.Broadcast()
}

// leadFlush flushes the log for all who wait for that, or returns the epoch that must
// be committed first. commits.mu is held, but not meanwhile.
func (t *Table) leadFlush() (first uint64) {
	c := &t.commits
	c.flushing = true
	c.mu.Unlock()
	var end uint64
	err := t.guarded(func() (err error) {
		end, first, err = t.flushLog()
		return err
	})
	c.mu.Lock()
	c.flushing = false
	if err == nil && first == 0 && !c.failing {
		c.logged = end
	}
	c.wake.Broadcast()
	return first
}

// fail poisons the table: it is unknown what the medium holds of what was stored
// since the last good commit, and the kernel may have dropped it, so readers go
// back to that commit, with what the log is known to hold laid over it, and nobody
// writes any more.
func (t *Table) fail(cause error) error {
	c := &t.commits
	c.mu.Lock()
	if c.failing {
		c.mu.Unlock()
		return t.failedAlready()
	}
	c.failing = true // a flush or commit that succeeds from now on does not count
	good, last, log, end := c.good, c.last, c.goodLog, c.goodEnd
	if !c.sure {
		last = 0
	}
	if log.Generation == t.redo.generation {
		end = c.logged
	}
	c.mu.Unlock()
	err := fmt.Errorf("%s: %w: %w", t.pool.Path(), ErrPoisoned, cause)
	tail, unread := t.readTail(log, end)
	if unread != nil {
		err = fmt.Errorf("%w (and the log cannot be read: %w)", err, unread)
	}
	t.lockAll()
	t.tail.Store(tail) // in this order, see find
	t.advanceVersions()
	t.roots.Store(t.pool.SlotRoots(good))
	t.metadataAt.Store(t.pool.SlotMetadata(good))
	c.failed.Store(&err) // before a writer can take the slot's roots for its own
	t.unlockAll()
	c.mu.Lock() // who has looked at failed is waiting by now
	c.mu.Unlock()
	c.wake.Broadcast()
	if e := t.pool.MarkPoisoned(last, end); e != nil {
		t.pool.Logger().Error("the failed sync could not be recorded", "path", t.pool.Path(), "err", e)
	}
	t.pool.Logger().Error("a sync failed: the table takes no writes any more", "path", t.pool.Path(), "err", cause)
	return err
}

// poison is the error of a table whose sync failed, else nil.
func (t *Table) poison() error {
	if err := t.commits.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// acknowledge waits until a call may return that observed what is durable at a point.
//
// Interval: what is not committed was noted in oldest or oldestCut before its call
// returned. A change that begins an interval later finds it there, however slow a
// sync or starved a goroutine is, and waits for an epoch no older. So nothing is lost
// that returned an interval before a change began which has returned too.
func (t *Table) acknowledge(at point, changed bool) error {
	if t.pool.Media() != pmem.PageCache || at.epoch == 0 {
		return nil
	}
	switch t.durability.kind {
	case always:
		return t.waitDurable(at)
	case interval:
		if changed {
			t.commits.noteWrite()
		}
		if t.commits.age() > t.durability.interval*3/4 {
			return t.waitDurable(at)
		}
	}
	return nil
}

// started is the origin of now.
var started = time.Now()

// now is the monotonic clock, in nanoseconds, never 0: the wall clock may be set
// back, which would put a commit off by as much.
func now() int64 { return int64(time.Since(started)) + 1 }

// noteWrite starts the clock of Interval unless it runs.
func (c *committer) noteWrite() {
	if c.oldest.Load() == 0 && c.oldest.CompareAndSwap(0, now()) {
		select {
		case c.dirty <- struct{}{}:
		default:
		}
	}
}

// catchOldest hands the clock over to the commit that has just cut. A write that
// notes itself meanwhile keeps its time: that errs to the early side. At no moment
// is a waiting write in neither word.
func (c *committer) catchOldest() {
	first := c.oldest.Load()
	c.oldestCut.Store(first)
	c.oldest.CompareAndSwap(first, 0)
}

// age is how long the oldest write has waited that is not committed.
func (c *committer) age() time.Duration {
	first := c.oldest.Load()
	if cut := c.oldestCut.Load(); cut != 0 {
		first = cut
	}
	if first == 0 {
		return 0
	}
	return time.Duration(now() - first)
}

// commitInIntervals commits when the oldest write has waited for half of the
// interval: the other half is for the sync.
func (t *Table) commitInIntervals() {
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.commits.dirty:
		}
		select {
		case <-t.ctx.Done():
			return
		case <-time.After(t.durability.interval/2 - min(t.commits.age(), t.durability.interval/2)):
		}
		if t.waitCommitted(t.epoch.Load()) != nil {
			return
		}
	}
}
