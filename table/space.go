package table

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// When may a block be used again? It was born in epoch b and unlinked from stripe
// s in epoch f, when s was at version v. Three things can still need it:
//
//   - a root of an epoch in [b, f): a committed one, one being committed, one
//     that recovery is marking. Each is a protector.
//   - a reader that began before the unlinking and checks s's version at its end:
//     so the version advances past v before the block is reused.
//   - a pin of s at a version up to v, or of the block.
//
// A block waits in its stripe's list for the last two, then with a protector for
// the first.

// retired is a block that nothing in the current tree links to any more.
type retired struct {
	block       uint64
	birth       uint64
	unlinked    uint64 // the epoch
	version     uint64 // of the stripe
	recordBytes int    // 0: it is no record
}

// Bounds of a stripe's list: then the version advances once for all of them.
const (
	retireCount = 32
	retireBytes = 64 << 10
)

// retire puts an unlinked block on the stripe's list. The stripe is locked, and
// the unlinking is durable.
func (t *Table) retire(s *stripe, block, birth uint64, sizeBytes int) {
	t.retireAs(s, retired{block: block, birth: birth}, sizeBytes)
}

// retireRecord is retire for a record, whose block was taken for just its size.
func (t *Table) retireRecord(s *stripe, block, birth uint64, sizeBytes int) {
	t.retireAs(s, retired{block: block, birth: birth, recordBytes: sizeBytes}, sizeBytes)
}

func (t *Table) retireAs(s *stripe, r retired, sizeBytes int) {
	if t.asideOf != nil { // nobody reads it
		t.pool.Free(r.block)
		return
	}
	t.forgetBorn(s, r.block)
	r.unlinked, r.version = t.epoch.Load(), t.versionLines[s.index].Load(0)
	s.retired = append(s.retired, r)
	s.retiredBytes += sizeBytes
}

// collect gives blocks of the stripe's list back that no reader can be looking
// at. The stripe is locked.
func (t *Table) collect(s *stripe) {
	if len(s.retired) == 0 {
		return
	}
	t.pool.Store(t.versionAt(s.index), t.versionLines[s.index].Load(0)+1)
	flush.Fence() // the version is visible before the pins are read, and before any reuse
	var buf [pinCount]uint64
	pins := t.pins.of(s.index, buf[:])
	protected := t.epochs.count.Load() != 0 // none comes while the stripe is locked
	kept, keptBytes := s.retired[:0], 0
	records := s.freeable[:0]
	for _, r := range s.retired {
		switch {
		case pins.holds(r.block, r.version):
			kept = append(kept, r)
			keptBytes += s.retiredBytes / len(s.retired)
		case protected && t.epochs.defers(r):
		case r.recordBytes == 0:
			t.pool.Free(r.block)
		default:
			records = append(records, pmem.Range{Offset: r.block, Bytes: r.recordBytes})
		}
	}
	s.retired, s.retiredBytes = kept, 0
	if len(kept) > 0 {
		s.retiredBytes = min(keptBytes, retireBytes/2)
	}
	t.pool.Recycle(s.index, records)
	s.freeable = records[:0]
}

// collectDue collects when the list is long enough to pay for it.
func (t *Table) collectDue(s *stripe) {
	if len(s.retired) >= s.collectAt || s.retiredBytes >= retireBytes {
		t.collect(s)
		s.collectAt = len(s.retired) + retireCount
	}
}

// protector is a root whose tree must stay as it is.
type protector struct {
	epoch uint64
	held  []retired // blocks that wait for this one
	bytes int64
}

// epochSet holds the protectors of a table.
type epochSet struct {
	free  func(blocks ...uint64)
	count atomic.Int32 // of protectors, to pass the lock by on media that have none

	mu         sync.Mutex
	protectors []*protector
}

// protect adds a protector for the root of an epoch. Every stripe is locked, or
// no writer has begun.
func (e *epochSet) protect(epoch uint64) *protector {
	p := &protector{epoch: epoch}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.protectors = append(e.protectors, p)
	e.count.Store(int32(len(e.protectors)))
	return p
}

// defers hands a block to a protector that needs it, and tells whether one did.
func (e *epochSet) defers(r retired) bool {
	if e.count.Load() == 0 {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.place(r)
}

func (e *epochSet) place(r retired) bool {
	for i := len(e.protectors) - 1; i >= 0; i-- {
		if p := e.protectors[i]; r.birth <= p.epoch && p.epoch < r.unlinked {
			p.held = append(p.held, r)
			return true
		}
	}
	return false
}

// release removes a protector. What it held goes to another one that needs it,
// or is free.
func (e *epochSet) release(p *protector) {
	if p == nil {
		return
	}
	e.mu.Lock()
	for i, q := range e.protectors {
		if q == p {
			e.protectors = append(e.protectors[:i], e.protectors[i+1:]...)
			break
		}
	}
	e.count.Store(int32(len(e.protectors)))
	held := p.held
	p.held = nil
	e.mu.Unlock()
	for group := range slices.Chunk(held, releaseGroup) {
		e.settle(group)
	}
}

// releaseGroup bounds for how many blocks a release holds a lock at a time: it may
// have hundreds of thousands to free, and writers and cuts want the same locks.
const releaseGroup = 256

// settle gives blocks that no protector holds to one that needs them, else frees
// them. Between two groups of a release protectors may come and go: a new one is
// of an epoch that no unlinked block needs, and one that goes needs nothing more.
func (e *epochSet) settle(group []retired) {
	free := make([]uint64, 0, len(group))
	e.mu.Lock()
	for _, r := range group {
		if !e.place(r) {
			free = append(free, r.block)
		}
	}
	e.mu.Unlock()
	e.free(free...)
}

// holds tells whether any protector's epoch lies below unlinked: whether a whole
// tree that was unlinked then is still needed.
func (e *epochSet) holds(unlinked uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.protectors {
		if p.epoch < unlinked {
			return true
		}
	}
	return false
}

// waiting counts the blocks that wait for protectors.
func (e *epochSet) waiting() (blocks int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.protectors {
		blocks += len(p.held)
	}
	return blocks
}

// kit is the blocks that a structural change will need, taken before the stripe
// is locked: under the lock nothing allocates, grows the file or waits.
type kit struct {
	segments  []uint64
	directory uint64
	depth     uint // of the directory that fits the block

	did structural // what it was used for
}

// need is what a structural change found missing in its kit.
type need struct {
	segments  int
	directory bool
	depth     uint
	passing   bool // what it replaces is free again after the next commit
}

// urgency is that of a request for what a mutation needs which does not make room.
func (n need) urgency() pmem.Urgency {
	if n.passing {
		return pmem.Passing
	}
	return pmem.Usual
}

func (n need) nothing() bool { return n.segments == 0 && !n.directory }

// has tells whether the kit covers n.
func (k *kit) has(n need) bool {
	return len(k.segments) >= n.segments && (!n.directory || k.directory != 0 && k.depth == n.depth)
}

// reaches tells whether some block of the kit lies at off or behind it.
func (k *kit) reaches(off uint64) bool {
	return k.directory >= off || slices.ContainsFunc(k.segments, func(s uint64) bool { return s >= off })
}

func (k *kit) takeSegment() uint64 {
	s := k.segments[len(k.segments)-1]
	k.segments = k.segments[:len(k.segments)-1]
	return s
}

func (k *kit) takeDirectory() uint64 {
	d := k.directory
	k.directory = 0
	return d
}

// stock fills the kit up to n. No stripe lock is held.
func (t *Table) stock(k *kit, n need, stripe int, urgency pmem.Urgency) error {
	for len(k.segments) < n.segments {
		off, err := t.alloc(t.geometry.SegmentBytes, stripe, urgency)
		if err != nil {
			return err
		}
		k.segments = append(k.segments, off)
	}
	if !n.directory || k.directory != 0 && k.depth == n.depth {
		return nil
	}
	if k.directory != 0 {
		t.pool.Free(k.takeDirectory())
	}
	off, err := t.alloc(layout.DirectoryBytes(n.depth), stripe, urgency)
	k.directory, k.depth = off, n.depth
	return err
}

// unpack gives what is left of a kit back.
func (t *Table) unpack(k *kit) {
	if len(k.segments) > 0 {
		t.pool.Free(k.segments...)
		k.segments = nil
	}
	if k.directory != 0 {
		t.pool.Free(k.takeDirectory())
	}
}

// urgentTries is how often a request that makes room itself, like a delete's, has
// room made before it gives up: other callers may take what became free first.
const urgentTries = 16

// alloc takes a block; before it gives up it makes room, once if nothing depends on
// the request.
func (t *Table) alloc(sizeBytes, stripe int, urgency pmem.Urgency) (off uint64, err error) {
	tries := 1
	if urgency == pmem.Urgent {
		tries = urgentTries
	}
	for try := 0; ; try++ {
		off, err = t.pool.Alloc(sizeBytes, stripe, urgency)
		if err == nil || try == tries || try > 0 && !errors.Is(err, ErrFull) {
			return off, err
		}
		t.makeRoom()
	}
}

func (t *Table) collectLocked(s *stripe) {
	s.mu.Lock()
	defer s.mu.Unlock() // by defer, for a fault
	t.collect(s)
}

// makeRoom frees what can be: it waits for recovery's sweep and for the walks of
// cleared trees, collects every stripe's list, and commits, so that blocks which
// only the last committed root reached are free. No stripe lock is held.
func (t *Table) makeRoom() {
	if t.asideOf != nil {
		t.asideOf.makeRoom()
		return
	}
	<-t.pool.Swept()
	for range 2 {
		for i := range t.stripes {
			s := &t.stripes[i]
			t.collectLocked(s)
		}
		if t.pool.Media() == pmem.PageCache {
			if t.checkpoint() != nil {
				break
			}
		}
	}
	t.waitWhile(t.soonFree)
	t.pool.DrainShards()
}
