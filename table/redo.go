package table

import (
	"sync"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// On the page cache a call of a table that is Always durable does not wait for a
// checkpoint: it waits until its change is in the log, a ring in a region of its own,
// of which each flush writes and syncs a few pages and nothing else. (A redo log with
// group commit, as every database since ARIES has it; the tree beside it stays the one
// copy that is read.)
//
//  1. under the stripe's lock, before the store that publishes it, the change is
//     appended to the frames in memory. So the log has the order in which readers and
//     other writers can see the changes, and a prefix of it is one of the history.
//  2. after the lock, one of the waiting writers hands all frames to the ring and syncs
//     their pages. A crash before that is over may leave any part of them: what is not
//     a whole frame ends the log. No call of theirs has returned.
//  3. they return. A crash from now on finds the committed root and, from the position
//     that its superblock slot names, these frames: an open takes them up (replay.go).
//  4. a checkpoint cuts. The position of the cut goes into its slot: the frames before
//     are in its tree. When the slot is durable, their part of the ring is free.
//
// A change that does not go into the log (it is too large, the ring is full, Clear)
// closes it: nothing is appended any more, and calls wait for a checkpoint. The cut of
// that checkpoint opens the log again, and what is appended behind it counts only from
// the new root on; so no frame is flushed, or acknowledged, before that is durable. The
// ring changes its size in the same way.
type redoLog struct {
	enabled          bool // the durability and the medium ask for one, and the file has room
	seed, generation uint64
	most             uint64 // bytes of the region

	mu     sync.Mutex // guards all below; no lock is taken under it
	open   bool       // changes are appended
	first  uint64     // frames are not to be flushed before this epoch is committed; 0: they may
	ring   uint64     // bytes of the ring in use
	fit    uint64     // bytes of the region that can be stored to
	want   uint64     // bytes that the next checkpoint is to make fit
	start  uint64     // position from which on a root may need the ring
	next   uint64     // position of frames
	frames []byte     // not flushed yet
	frame  int        // where the one begins that changes go to, -1: none does
	held   logFlush   // how many frames and changes these are
	spare  []byte
	// resumed is what is left of an earlier session's log, only while it is taken up.
	resumed layout.LogSpan
}

// logFlush is what one flush makes durable.
type logFlush struct {
	bytes           []byte
	at, ring        uint64 // position, and the size of the ring
	frames, changes uint64 // how many
}

const (
	// firstRing of the region is what a log begins with.
	firstRing = 64
	// logShare bounds a change that goes into the log: larger ones would leave no room
	// for others.
	logShare = 4
)

func (l *redoLog) init(p *pmem.Pool, enabled bool, ringBytes uint64) {
	l.most = uint64(p.Geometry().LogBytes)
	l.enabled = enabled && l.most > 0
	l.seed, l.generation = p.Header().HashSeed, p.Generation()
	l.ring, l.fit = ringBytes, ringBytes
	if l.enabled {
		l.want = max(ringBytes, l.most/firstRing, layout.MinLogBytes)
	}
	l.frame = -1
}

// resume has cuts name what is left of the log of an earlier session, as long as it is
// being taken up; the zero span ends that.
func (l *redoLog) resume(left layout.LogSpan) {
	l.mu.Lock()
	l.resumed = left
	l.mu.Unlock()
}

// change is one change to be logged.
type change struct {
	kind layout.LogKind
	body []byte
}

// add appends changes that take effect together and returns the position behind them,
// 0 if the log is closed. The locks of their stripes are held, and none of them is
// visible yet.
func (l *redoLog) add(changes ...change) uint64 {
	if !l.enabled {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	size := 0
	for _, c := range changes {
		size += layout.LogChangeBytes + len(c.body)
	}
	if !l.admits(uint64(size)) {
		return 0
	}
	if l.frame < 0 {
		l.frame = len(l.frames)
		l.frames = layout.BeginFrame(l.frames)
	}
	for _, c := range changes {
		l.frames = layout.AppendChange(l.frames, c.kind, c.body)
	}
	l.held.changes += uint64(len(changes))
	return l.next + uint64(len(l.frames))
}

// admits tells whether changes of so many bytes go into the log, and closes it if
// they do not. mu is held.
func (l *redoLog) admits(size uint64) bool {
	if !l.open {
		return false
	}
	used := l.next + uint64(len(l.frames)) - l.start
	full := used+size+layout.LogFrameBytes+2*layout.LogAlign > l.ring
	large := size > l.ring/logShare
	if !full && !large {
		return true
	}
	if full {
		l.want = min(l.most, max(l.want, 2*l.ring))
	}
	for large && l.want < l.most && size > l.want/logShare {
		l.want *= 2
	}
	l.open = false
	return false
}

// close ends the appending of a change that is not logged; the locks of all its
// stripes are held.
func (l *redoLog) close() {
	l.mu.Lock()
	l.open = false
	l.mu.Unlock()
}

// seal completes the frame that changes go to. mu is held.
func (l *redoLog) seal() {
	if l.frame >= 0 {
		l.frames = layout.EndFrame(l.frames, l.frame, l.next+uint64(l.frame))
		l.frame = -1
		l.held.frames++
	}
}

// cut says where the log goes on from the root of an epoch that is cut for a
// checkpoint; all stripes are locked. A closed log is open from here on.
func (l *redoLog) cut(epoch uint64) layout.LogSpan {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.resumed.Generation != 0 {
		return l.resumed
	}
	if !l.enabled || l.fit == 0 {
		return layout.LogSpan{}
	}
	l.seal()
	if !l.open || l.ring != l.fit {
		// Who waits for what is not flushed yet, waits for this checkpoint now. The gap
		// keeps who reads on from an older root from what comes behind this one.
		l.next += uint64(len(l.frames)) + layout.LogAlign
		l.frames, l.held = l.frames[:0], logFlush{}
		l.start, l.ring = l.next, l.fit
		l.open, l.first = true, epoch
	}
	return layout.LogSpan{Generation: l.generation, Start: l.next + uint64(len(l.frames)), RingBytes: l.ring}
}

// committed takes notice that the root is durable from which on the log is span.
func (l *redoLog) committed(span layout.LogSpan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.enabled && span.Generation == l.generation {
		l.start, l.first = span.Start, 0
	}
}

// drop is the end of the log, at Close: nobody is left who would write to it. It returns
// the size of the ring.
func (l *redoLog) drop() (sizeBytes uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sizeBytes = l.fit
	l.enabled, l.fit, l.start = false, 0, l.next+uint64(len(l.frames))
	return sizeBytes
}

// take hands out what is to be flushed, or the epoch that must be committed first. Only
// one flush is under way at a time.
func (l *redoLog) take() (f logFlush, first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first != 0 {
		return f, l.first
	}
	l.seal()
	f, l.held = l.held, logFlush{}
	f.bytes, f.at, f.ring = l.frames, l.next, l.ring
	l.next += uint64(len(f.bytes))
	l.frames, l.spare = l.spare[:0], nil
	return f, 0
}

// giveBack returns the memory of frames that were taken, and tells whether a
// checkpoint should make room: before the ring is full, so that writers go on
// meanwhile.
func (l *redoLog) giveBack(frames []byte, arenaBytes uint64) (crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = frames[:0]
	if l.next-l.start <= l.ring/2 {
		return false
	}
	if l.ring < arenaBytes { // a small table has a small log
		l.want = min(l.most, max(l.want, 2*l.ring))
	}
	return true
}

// sizes are those of the ring, and of what a root may need of it.
func (l *redoLog) sizes() (sizeBytes, usedBytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.fit), int64(l.next + uint64(len(l.frames)) - l.start)
}

// countLogSizes shows the sizes to readers of other processes.
func (t *Table) countLogSizes() {
	sizeBytes, usedBytes := t.redo.sizes()
	t.pool.SetCounter(layout.CounterLogSize, uint64(sizeBytes))
	t.pool.SetCounter(layout.CounterLogUsed, uint64(usedBytes))
}

// flushed counts a flush that was begun at a moment and ended well.
func (t *Table) flushed(f *logFlush, began int64) {
	t.pool.CountLatency(layout.CounterLogFlushes, time.Duration(now()-began))
	t.pool.Count(layout.CounterLogFrames, f.frames)
	t.pool.Count(layout.CounterLogChanges, f.changes)
	t.pool.Count(layout.CounterLogBytes, uint64(len(f.bytes)))
	t.countLogSizes()
}

// growLog makes the region fit for the ring that is wanted. No lock is held but the turn
// of checkpoints. Where there is no room the log stays as it is, or none.
func (t *Table) growLog() {
	l := &t.redo
	if !l.enabled {
		return
	}
	l.mu.Lock()
	fit, want := l.fit, l.want
	l.mu.Unlock()
	if want <= fit {
		return
	}
	err := t.pool.GrowLog(fit, want)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.most, l.want = fit, fit
		t.pool.Logger().Warn("no room for a larger log", "path", t.pool.Path(), "wantedBytes", want, "hasBytes", fit, "err", err)
		return
	}
	l.fit = want
}

// flushLog makes durable what the log holds, and returns the position up to which all
// is; or the epoch that must be committed first.
func (t *Table) flushLog() (end, first uint64, err error) {
	l := &t.redo
	f, first := l.take()
	if first != 0 {
		return 0, first, nil
	}
	if len(f.bytes) > 0 {
		began := now()
		layout.SealFrames(f.bytes, l.seed, l.generation)
		if err := t.pool.AppendLog(f.at, f.bytes, f.ring); err != nil {
			return 0, 0, t.fail(err)
		}
		t.flushed(&f, began)
	}
	end = f.at + uint64(len(f.bytes))
	arena := t.pool.SizeBytes() - t.pool.Regions().Arena
	if l.giveBack(f.bytes, arena) && t.commits.crowded.CompareAndSwap(false, true) {
		t.work.Go(t.makeRoomInLog) // Close waits for the writer that this is, then for it
	}
	return end, 0, nil
}

// makeRoomInLog is a checkpoint for the log's sake, beside the writers.
func (t *Table) makeRoomInLog() {
	_ = t.waitCommitted(t.epoch.Load()) // an error is in failed
	t.commits.crowded.Store(false)
}
