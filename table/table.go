package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/trace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// Table is an open table. All its methods may be called from many goroutines at
// the same time, Close included.
type Table struct {
	pool          *pmem.Pool
	geometry      pmem.Geometry
	stripeBits    uint
	lines         int  // bucket lines of a segment
	inline        bool // entries lie in the bucket lines: inline.go
	glances       bool // lookups of records begin with one: glance.go. A read-only table's do not
	glancesInline bool // those of inline entries
	inlineMap     *layout.InlineMap
	seed          uint64
	collide       func(key []byte) uint64 // replaces the hash in tests of collisions
	versions      uint64
	versionLines  []pmem.Line // at versions
	trust         bool
	durability    Durability
	slow          *slowLog // nil: slow calls are not reported

	// roots is the offset of the array of stripe roots that readers begin at: the
	// working root's, or after a failed sync the last good slot's. It changes
	// under all stripe locks.
	roots atomic.Uint64
	// metadataAt is the offset of the metadata word beside them.
	metadataAt atomic.Uint64
	// epoch mirrors the epoch word; it changes under all stripe locks.
	epoch atomic.Uint64

	stripes []stripe
	pins    pinSet
	// overlay holds the words of a batch that a crash cut off, for a read-only
	// table, which cannot redo it; nil for none.
	overlay    atomic.Pointer[map[uint64]uint64]
	overlaidIn atomic.Uint64 // the generation whose batch it is; set before it
	// tail is laid over the roots that readers begin at, nil for none.
	tail    atomic.Pointer[logTail]
	epochs  epochSet
	commits committer
	redo    redoLog

	closing   atomic.Bool
	closeOnce sync.Once
	closeErr  error
	iterErr   atomic.Pointer[error]

	intentMu  sync.Mutex // one intent at a time; taken before stripe locks
	intents   uint64     // numbers them; guarded by intentMu
	compactMu sync.Mutex // one Compact at a time; taken before everything else
	condemned trees
	asideOf   *Table // the table for which this one builds a tree that nothing reaches yet
	background
	snapshots snapshots
	conflicts atomic.Uint64 // of a read-only table: a writer's are in the mapping
	builders  sync.Pool     // of *builder
	opened    opening
}

// background is the work that goes on beside the callers.
type background struct {
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	counted chan struct{} // closed when every stripe's count is based, or never will be
	marker  *protector

	marksBeside bool // the marking is such work
}

// opening is how the open went, for Stats.
type opening struct {
	decision     recovery.Decision
	openDuration time.Duration
	markDuration atomic.Int64 // 0 while marking
	markEntries  atomic.Int64
	markErr      atomic.Pointer[error]
	counts       []uint64 // of a read-only open, nil if not known
	generation   uint64   // of the session whose record a read-only open chose by

	replayed       int // changes that the log held
	replayDuration time.Duration
}

// Open opens the table in the file at path, or creates it. It takes milliseconds
// whatever the size: the free space of all but small files is found while the table
// serves. Only a file that nothing vouches for (a copy of one that was open, say)
// is checked whole first.
func Open(path string, opts *Options) (*Table, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	po, err := o.poolOptions()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	began := time.Now()
	p, err := pmem.Open(path, po)
	if err != nil {
		return nil, err
	}
	return openPool(p, o, began, nil)
}

// OpenPool opens the table in a pool that the caller has opened, for pools on a
// test medium or of a geometry of its own. The table owns the pool from then on,
// and closes it, also when OpenPool fails. Of opts it heeds what the pool has not
// settled: Durability, TrustMedia and SlowOperation.
func OpenPool(p *pmem.Pool, opts *Options) (*Table, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	return openPool(p, o, time.Now(), nil)
}

func openPool(p *pmem.Pool, o Options, began time.Time, collide func([]byte) uint64) (*Table, error) {
	t := &Table{
		pool:          p,
		geometry:      p.Geometry(),
		stripeBits:    p.Geometry().StripeBits(),
		lines:         p.Geometry().Lines(),
		inline:        p.Geometry().Inline,
		glances:       !p.ReadOnly() && !p.Geometry().Inline,
		glancesInline: !p.ReadOnly() && p.Geometry().Inline,
		versionLines:  p.Lines(p.Regions().Versions, p.Geometry().Stripes),
		inlineMap:     p.InlineMap(),
		seed:          p.Header().HashSeed,
		collide:       collide,
		versions:      p.Regions().Versions,
		trust:         o.TrustMedia,
		durability:    o.Durability,
		slow:          newSlowLog(o.SlowOperation, p.Logger()),
		stripes:       make([]stripe, p.Geometry().Stripes),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.counted = make(chan struct{})
	t.marksBeside = o.markBeside || p.SizeBytes()-p.Regions().Arena > markAtOnceBytes
	t.epochs.free = p.Free
	for i := range t.stripes {
		t.stripes[i].init(i)
	}
	begin := t.begin
	if p.ReadOnly() {
		begin = t.beginView
	}
	defer trace.StartRegion(context.Background(), "pmemtable.open").End()
	if err := p.Guard(begin); err != nil {
		t.cancel()
		return nil, errors.Join(err, p.Close())
	}
	t.opened.openDuration = time.Since(began)
	t.reportOpened()
	return t, nil
}

// beginView begins a read-only open, beside whatever a writer is doing meanwhile.
func (t *Table) beginView() error {
	t.commits.init(0, 0)
	close(t.counted)
	return t.pool.Settled(t.chooseView)
}

// chooseView finds out what a read-only table shows.
func (t *Table) chooseView() error {
	v, err := recovery.OpenView(t.pool)
	if err != nil {
		return err
	}
	t.opened.decision, t.opened.counts = v.Decision, v.Counts
	t.opened.generation = t.pool.SettledGeneration()
	t.roots.Store(v.StripeRoots)
	t.metadataAt.Store(v.Metadata)
	t.overlay.Store(nil)
	if len(v.Overlay) > 0 {
		t.overlay.Store(&v.Overlay)
	}
	if slot := v.Decision.Slot; slot != nil && !v.Decision.Clean {
		t.redo.init(t.pool, false, slot.Log.RingBytes)
	}
	tail, err := t.readTail(v.Decision.Log, v.Decision.LogEnd)
	t.tail.Store(tail)
	return err
}

// markAtOnceBytes: a file of chunks of no more than so many bytes is marked before the
// open returns, in hardly more time than it takes to have another goroutine do it.
const markAtOnceBytes = 1 << 20

// begin begins a session for writing, and the marking of what the file holds.
func (t *Table) begin() error {
	s, err := recovery.Begin(t.pool)
	if err != nil {
		return err
	}
	t.opened.decision = s.Decision
	t.useRootArea(s.Area)
	t.epoch.Store(s.Epoch)
	t.commits.init(s.NextSequence, s.IdleSlot)
	t.commits.settled, t.commits.sure = s.Decision.Clean, s.Decision.Clean
	logs := t.durability.kind == always && t.pool.Media() == pmem.PageCache
	ring := uint64(0)
	if len(s.Protected) > 0 && !s.Decision.Clean {
		ring = s.Protected[0].Log.RingBytes
	}
	t.redo.init(t.pool, logs, ring)
	for i := range s.Protected {
		t.commits.slots = append(t.commits.slots, t.epochs.protect(s.Protected[i].Epoch))
	}
	if len(s.Protected) > 0 {
		t.commits.good, t.commits.last = s.Protected[0].Index, s.Protected[0].Sequence
		t.commits.goodLog, t.commits.goodEnd = s.Protected[0].Log, s.Decision.LogEnd
	}
	if s.Decision.Working {
		for i := range t.stripes { // what the session before left is not committed yet
			t.stripes[i].lastChange = s.Epoch - 1
		}
	}
	t.marker = t.epochs.protect(s.Epoch - 1)
	if s.Counts != nil {
		t.base(s.Counts)
		close(t.counted)
	}
	if t.marksBeside {
		t.work.Go(func() { t.mark(s) })
	} else {
		t.mark(s)
	}
	if s.Decision.Log.Generation != 0 {
		if err := t.replay(s); err != nil {
			t.cancel()
			t.work.Wait()
			return err
		}
	}
	if t.durability.kind == interval && t.pool.Media() == pmem.PageCache {
		t.work.Go(t.commitInIntervals)
		if s.Decision.Working {
			t.commits.noteWrite() // what a killed session left is committed in time too
		}
	}
	return nil
}

func (t *Table) useRootArea(area uint64) {
	t.metadataAt.Store(area + layout.RootMetadata) // first: who finds the new roots finds it too
	t.roots.Store(area + layout.RootStripes)
}

// mark finds the free space of the file as it was at open. Damage leaves it out
// of use: what lies there can still be salvaged.
func (t *Table) mark(s *recovery.Start) {
	defer trace.StartRegion(context.Background(), "pmemtable.mark").End()
	began := time.Now()
	var m *recovery.Marked
	err := t.pool.Guard(func() (err error) {
		m, err = t.markAll(s)
		return err
	})
	if err == nil {
		if err = s.Settle(t.pool); err != nil {
			err = t.fail(err)
		} else {
			t.commits.settle()
		}
	}
	t.marked(s, m, err, began)
}

// markAll is the marking itself.
func (t *Table) markAll(s *recovery.Start) (*recovery.Marked, error) {
	return recovery.Mark(t.ctx, t.pool, s, func(off uint64) {
		// Only a protected slot reaches it: as if it had been unlinked in the
		// session's first epoch. Its birth is not read; 0 errs to the safe side.
		r := retired{block: off, unlinked: s.Epoch}
		if !t.epochs.defers(r) {
			t.pool.Free(off)
		}
	})
}

// marked takes notice of what the marking found, or why it did not.
func (t *Table) marked(s *recovery.Start, m *recovery.Marked, err error, began time.Time) {
	// Before the sweep is said to be over: whoever waits for room must find what the
	// marking held. Until the sweep these blocks only queue.
	t.epochs.release(t.marker)
	if err == nil {
		t.pool.Sweep(m.Marks)
		t.opened.markEntries.Store(int64(m.Entries))
		if s.Counts == nil {
			t.base(m.Counts)
			close(t.counted)
		}
	} else {
		t.opened.markErr.Store(&err)
		t.pool.GiveUpSweep()
		if s.Counts == nil {
			close(t.counted)
		}
	}
	took := max(time.Since(began), 1)
	t.reportMarked(m, err, took)
	t.opened.markDuration.Store(int64(took))
}

// base adds the entries that the table held at open to the counts since.
func (t *Table) base(counts []uint64) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		if !s.based { // a Clear meanwhile made the old count void
			s.count += int64(counts[i])
			s.based = true
		}
		s.mu.Unlock()
	}
}

// hash is the seeded hash of a key.
func (t *Table) hash(key []byte) uint64 {
	if t.inline {
		hash, _ := t.inlineOf(key)
		return hash
	}
	if t.collide != nil {
		return t.collide(bytes.Clone(key)) // cloned, so that key does not escape
	}
	return xxh3.HashSeed(key, t.seed)
}

// Close waits for the calls that write, commits, marks the session clean and
// releases the file. Calls that come later, or are waiting, get ErrClosed. It is
// idempotent. An error means that the next open will find an unclean end; what
// was acknowledged is kept as the durability promises.
func (t *Table) Close() error {
	t.closeOnce.Do(func() { t.closeErr = t.close() })
	return t.closeErr
}

func (t *Table) close() error {
	t.closing.Store(true)
	t.cancel()
	t.drainWriters()
	t.snapshots.drain()
	t.work.Wait()
	t.condemned.work.Wait()
	if t.pool.ReadOnly() {
		return t.pool.Close()
	}
	err := t.guarded(func() error {
		if err := t.poison(); err != nil {
			return err
		}
		// A closed table has no log: its slot names none, so that no session after it
		// takes the hole for a ring. Nobody is left who would log.
		ring := t.redo.drop()
		if err := t.checkpoint(); err != nil {
			return err
		}
		if err := t.pool.MarkClean(t.commits.last); err != nil {
			return err
		}
		t.pool.DropLog(ring)
		return nil
	})
	return errors.Join(err, t.pool.Close())
}

// Sync returns when everything that was written before the call is durable. On
// persistent memory it already is; on tmpfs nothing survives the machine, and
// Sync returns at once. Concurrent calls share commits. ErrPoisoned if the file
// cannot be synced.
func (t *Table) Sync() (err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return err
	}
	defer s.leave()
	w := t.slow.begin(committing)
	err = t.waitDurable(t.last())
	t.slow.end(w, t.pool.Path(), slowCall{operation: "sync"}, err)
	return err
}

// last is when everything is durable that the table shows.
func (t *Table) last() (last point) {
	committed := t.commits.committedEpoch()
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		if s.lastChange > committed {
			last = last.and(s.last())
		}
		s.mu.Unlock()
	}
	return last
}

// Len returns the number of entries, exactly: it holds all stripe locks for a
// moment. After an unclean open it waits until recovery has counted; where that
// is not possible (a read-only open of a table that was not closed, damage) it
// counts, in time that grows with the table.
func (t *Table) Len() (n int) {
	defer runtime.KeepAlive(t)
	var err error // of a page that is gone: the count is of no use then
	defer t.caught(debug.SetPanicOnFault(true), &err)
	<-t.counted
	if t.pool.ReadOnly() && t.opened.counts != nil && !t.writerBegan() {
		n := uint64(0)
		for _, c := range t.opened.counts {
			n += c
		}
		return int(n) + t.beyond(t.tailNow())
	}
	if !t.pool.ReadOnly() && t.poison() == nil { // else readers are back at a root of other counts
		if n, ok := t.countNow(); ok {
			return n
		}
	}
	return t.countSlots()
}

func (t *Table) countNow() (int, bool) {
	t.lockAll()
	defer t.unlockAll()
	n, based := int64(0), true
	for i := range t.stripes {
		n += t.stripes[i].count
		based = based && t.stripes[i].based
	}
	return int(n), based
}
