package pmem

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"pmemtable/internal/layout"
)

// The allocator's state is volatile: what no root reaches is free, and recovery
// finds that out after each open. Nothing is persisted when a block is taken or
// given back; only a chunk's descriptor is, before the chunk's first use.
//
// Blocks come from shards, which take a few at a time from the chunks that all
// share, so that writers of different stripes seldom meet and a small table stays
// a small file whatever the number of stripes and size classes.

var errMaxSize = errors.New("the maximum size is reached")

// initialChunks of a new pool: the descriptors' and the reserve.
const initialChunks = 1 + reserveChunks

// reserveChunks are kept for requests that are more than usual: so a delete or a
// checkpoint, which make room, find some themselves.
const reserveChunks = 4

// Urgency says how much of the reserve a request may use.
type Urgency int

const (
	// Usual requests use none of it.
	Usual Urgency = iota
	// Passing requests use half of it: what the block replaces is free again after
	// the next commit. So an entry can be stored where another was deleted, which
	// takes a copy of the segment, though no whole chunk came free.
	Passing
	// Urgent requests use all of it: they make room.
	Urgent
)

var reserved = [...]int{Usual: reserveChunks, Passing: reserveChunks / 2, Urgent: 0}

// unsweptWaitBytes: in files up to this size, a request that the file could only
// meet by growing waits for recovery's marking, which is then a matter of
// milliseconds, so that small files do not grow by being opened.
const unsweptWaitBytes = 64 << 20

// errNoSession: see Alloc.
var errNoSession = errors.New("pmem: nothing can be allocated before a session has begun: it is not known what is free")

type chunkState uint8

const (
	chunkFree    chunkState = iota
	chunkUnknown            // in the file at open, not swept yet
	chunkSmall              // blocks of one class
	chunkRunHead            // begins a large block
	chunkRunTail            // continues one
	chunkMeta               // holds descriptors
)

// noLimit is above every chunk.
const noLimit = int(^uint(0) >> 1)

// chunk is what the allocator knows of a chunk. All of it is guarded by allocator.mu.
type chunk struct {
	free    bitset // of a small chunk's blocks
	nfree   int32
	run     int32 // chunks of a run, at its head
	class   uint8
	state   chunkState
	partial bool // on its class's partial list
}

type allocator struct {
	p            *Pool
	classes      *layout.Classes
	segmentClass int
	shards       []shard
	steady       atomic.Bool // see settle

	mu        sync.Mutex
	chunks    chunkTable
	nfree     int              // chunks that are free
	limit     int              // blocks come from chunks before it; noLimit but during a compaction
	partial   [][]uint32       // per class: chunks that may have free blocks; checked when popped
	fresh     map[int]struct{} // chunks whose descriptors no commit covers yet
	queue     []uint64         // blocks freed in chunks that are not swept yet
	unswept   int              // chunks that are
	atOpen    int              // chunks in the file at open
	swept     chan struct{}    // closed when sweepOver
	sweepOver bool             // the sweep is done, or was given up
	sweepDue  bool             // somebody will say that it is
	stopped   bool
	ahead     bool  // growAhead runs
	wanted    bool  // it has not looked since it was asked to
	full      error // why the last growth failed, nil if it did not

	growMu sync.Mutex // one growth at a time; taken before mu
}

// newAllocator knows nothing of the chunks that the file has.
func newAllocator(p *Pool, chunks int) *allocator {
	a := &allocator{
		p:       p,
		classes: layout.NewClasses(p.geometry.ChunkBytes),
		atOpen:  chunks,
		limit:   noLimit,
		fresh:   make(map[int]struct{}),
		swept:   make(chan struct{}),
	}
	a.segmentClass, _ = a.classes.Of(p.geometry.SegmentBytes)
	a.partial = make([][]uint32, len(a.classes.Sizes))
	a.shards = newShards()
	a.chunks = newChunkTable(p.geometry, chunks)
	a.unswept = chunks
	return a
}

func (a *allocator) chunkAt(i int) uint64 {
	return a.p.regions.Arena + uint64(i)*uint64(a.p.geometry.ChunkBytes)
}

// chunkOf returns the index of the chunk that holds off, false outside the arena.
func (p *Pool) chunkOf(off uint64) (int, bool) {
	if off < p.regions.Arena || off >= p.size.Load() {
		return 0, false
	}
	return int((off - p.regions.Arena) / uint64(p.geometry.ChunkBytes)), true
}

// Alloc takes a block of at least sizeBytes. Nothing reaches it, so a crash frees
// it. near spreads callers over the allocator's shards: a stripe's number. ErrFull
// if there is no room; then nothing changed. It may make system calls: no stripe
// lock may be held.
//
// What is free in a file that was there before nobody knows until Sweep, or GiveUpSweep.
// Until then Alloc takes new chunks of the file, or waits, once a session has begun: who
// begins one must end that wait. Before a session it does not wait, and fails.
func (p *Pool) Alloc(sizeBytes, near int, urgency Urgency) (uint64, error) {
	a := p.space
	class, small := a.classes.Of(sizeBytes)
	if !small {
		return a.allocRun(sizeBytes, urgency)
	}
	s := a.shardOf(near)
	if off := s.pop(class, a.classes.Sizes[class]); off != 0 {
		return off, nil
	}
	return a.refill(s, class, urgency)
}

// refill takes a block, and some more for the shard.
func (a *allocator) refill(s *shard, class int, urgency Urgency) (uint64, error) {
	var got [shardMaxBlocks]uint64
	blocks, err := a.take(class, got[:shardBatch(a.classes.Sizes[class])], urgency)
	if err != nil {
		if urgency == Urgent {
			if off, ok := a.larger(class); ok {
				return off, nil
			}
		}
		return 0, err
	}
	s.push(class, blocks[1:], a)
	return blocks[0], nil
}

// larger takes a free block of any larger class: the last resort of a request that
// makes room, since the chunks of the reserve go to the classes that ask first.
func (a *allocator) larger(class int) (uint64, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out [1]uint64
	for c := class + 1; c < len(a.partial); c++ {
		if a.classes.Sizes[c]%layout.LineBytes != 0 { // a segment lies on lines
			continue
		}
		if i := a.partialChunk(c); i >= 0 {
			a.takeFrom(i, out[:])
			return out[0], true
		}
	}
	return 0, false
}

// take fills out with free blocks of a class, at least one and as many more as
// the partly used chunks and one fresh chunk have.
func (a *allocator) take(class int, out []uint64, urgency Urgency) ([]uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.nfree < reserveChunks {
		out = out[:1] // what lies in a shard, no other stripe finds
	}
	n := 0
	for n < len(out) {
		i := a.partialChunk(class)
		if i < 0 || a.spared(class, urgency) {
			if n > 0 {
				break
			}
			var err error
			if i, err = a.freshChunks(1, a.classes.Sizes[class], urgency); err != nil {
				return nil, err
			}
			if a.partialChunk(class) < 0 || a.spared(class, urgency) {
				a.describe(i, layout.Descriptor{Kind: layout.ChunkSmall, Class: class})
				a.openChunk(i, class)
			} else {
				a.release(i, 1) // another one made room while this one grew the file
			}
			continue
		}
		n += a.takeFrom(i, out[n:])
	}
	return out[:n], nil
}

// spared tells whether the free blocks of the segments' class are kept from a
// request. The reserve is counted in segments, be they free chunks or free blocks:
// what a delete copied from it comes back as blocks after the next commit, and
// must not go to splits, which fill the medium up.
func (a *allocator) spared(class int, urgency Urgency) bool {
	keep := (reserved[urgency] - a.nfree) * a.blocksOf(class)
	if class != a.segmentClass || keep <= 0 {
		return false
	}
	for _, i := range a.partial[class] {
		if int(i) >= a.chunks.n {
			continue
		}
		if c := a.chunks.at(int(i)); c.state == chunkSmall && int(c.class) == class {
			keep -= int(c.nfree)
		}
	}
	return keep >= 0
}

// takeFrom moves free blocks of chunk i to out.
func (a *allocator) takeFrom(i int, out []uint64) int {
	c := a.chunks.at(i)
	size, base := uint64(a.classes.Sizes[c.class]), a.chunkAt(i)
	n := 0
	for b := c.free.next(0); b >= 0 && n < len(out); b = c.free.next(b) {
		c.free.clear(b)
		c.nfree--
		out[n] = base + uint64(b)*size
		n++
	}
	return n
}

// partialChunk returns a chunk of the class that has free blocks, -1 if none has.
// Entries of the list may be stale: chunks that filled up or changed class.
func (a *allocator) partialChunk(class int) int {
	list := a.partial[class]
	for len(list) > 0 {
		i := int(list[len(list)-1])
		if i >= a.chunks.n { // the file has shrunk since
			list = list[:len(list)-1]
			continue
		}
		c := a.chunks.at(i)
		if c.state == chunkSmall && int(c.class) == class && c.nfree > 0 && i < a.limit {
			break
		}
		if c.state != chunkSmall || int(c.class) == class {
			c.partial = false
		}
		list = list[:len(list)-1]
	}
	a.partial[class] = list
	if len(list) == 0 {
		return -1
	}
	return int(list[len(list)-1])
}

// openChunk makes chunk i a chunk of free blocks.
func (a *allocator) openChunk(i, class int) {
	blocks := a.blocksOf(class)
	c := a.chunks.at(i)
	*c = chunk{state: chunkSmall, class: uint8(class), nfree: int32(blocks), free: newBitset(blocks), partial: true}
	c.free.fill(blocks)
	a.partial[class] = append(a.partial[class], uint32(i))
}

// describe persists the descriptor of chunk i before the chunk's first use.
func (a *allocator) describe(i int, d layout.Descriptor) {
	chunk, offset := a.p.geometry.DescriptorPlace(i)
	at := a.chunkAt(chunk) + offset
	// On a page cache also where it is there already: after a sync that failed, the page
	// may count as clean and not be on the medium.
	if w := d.Word(i); a.p.syncs || a.p.Load(at) != w {
		a.p.Store(at, w)
	}
	a.p.PersistWord(at) // also one that was there: a kill may have left it undrained
	if a.p.syncs {
		a.fresh[i] = struct{}{}
	}
}

// TakeFresh returns the set of chunks whose descriptors no commit covers yet, for
// one that begins now, and begins a new set.
func (p *Pool) TakeFresh() map[int]struct{} {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := a.fresh
	a.fresh = make(map[int]struct{})
	return fresh
}

// FreshDescriptors adds to extents the descriptors of those chunks in fresh that
// hold blocks. They do not change while a block of theirs is in use.
func (p *Pool) FreshDescriptors(fresh map[int]struct{}, blocks, extents []layout.Extent) []layout.Extent {
	seen := make(map[int]bool)
	for _, b := range blocks {
		i, ok := p.chunkOf(b.Offset)
		if _, isFresh := fresh[i]; !ok || !isFresh || seen[i] {
			continue
		}
		seen[i] = true
		chunk, offset := p.geometry.DescriptorPlace(i)
		extents = append(extents, p.Checksum(p.space.chunkAt(chunk)+offset, layout.WordBytes))
	}
	return extents
}

// allocRun takes a block that is larger than a chunk.
func (a *allocator) allocRun(sizeBytes int, urgency Urgency) (uint64, error) {
	n := (sizeBytes + a.p.geometry.ChunkBytes - 1) / a.p.geometry.ChunkBytes
	if n > a.p.geometry.MaxRunChunks() {
		return 0, &FullError{Path: a.p.path, SizeBytes: sizeBytes,
			Reason: fmt.Errorf("a pool with chunks of %d bytes has blocks of at most %d chunks", a.p.geometry.ChunkBytes, a.p.geometry.MaxRunChunks())}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i, err := a.freshChunks(n, sizeBytes, urgency)
	if err != nil {
		return 0, err
	}
	a.describe(i, layout.Descriptor{Kind: layout.ChunkRun, Run: n})
	a.markRun(i, n)
	return a.chunkAt(i), nil
}

// markRun makes n chunks from i one large block.
func (a *allocator) markRun(i, n int) {
	*a.chunks.at(i) = chunk{state: chunkRunHead, run: int32(n)}
	for j := 1; j < n; j++ {
		*a.chunks.at(i + j) = chunk{state: chunkRunTail}
	}
}

// freshChunks takes n consecutive free chunks; it grows the file if it must. It is
// called with mu held, and lets go of it while it grows.
func (a *allocator) freshChunks(n, sizeBytes int, urgency Urgency) (int, error) {
	keep := reserved[urgency]
	for {
		i := -1
		if a.nfree >= n+keep {
			i = a.chunks.freeRun(n)
		}
		if i < 0 || i+n > a.limit {
			a.liftLimit() // serving writers matters more than compacting
		}
		if i >= 0 {
			for j := range n {
				a.chunks.setFree(i+j, false)
				a.chunks.at(i + j).state = chunkSmall // the caller says what it is
			}
			a.nfree -= n
			if a.nfree < keep+a.extentChunks()/2 {
				a.startAhead()
			}
			return i, nil
		}
		before, sweeping, due, lack := a.chunks.n, !a.sweepOver, a.sweepDue, a.lacking(n, keep)
		if sweeping && !due {
			return 0, fmt.Errorf("%s: %w", a.p.path, errNoSession)
		}
		a.mu.Unlock()
		var err error
		if !sweeping || a.p.size.Load() > unsweptWaitBytes {
			err = a.grow(before, max(lack, a.extentChunksOf(before)), lack)
		}
		if sweeping && (err != nil || a.p.size.Load() <= unsweptWaitBytes) {
			<-a.swept
			err = nil
		}
		a.mu.Lock()
		if err != nil {
			return 0, &FullError{Path: a.p.path, SizeBytes: sizeBytes, Reason: err}
		}
	}
}

// lacking is how many chunks the file must grow by to have n consecutive free ones
// and keep others: a run may begin with the free chunks at its end, and goes over
// no chunk of descriptors.
func (a *allocator) lacking(n, keep int) int {
	run, added := 0, 0
	for i := a.chunks.n - 1; i >= 0 && run < n && a.chunks.isFree(i); i-- {
		run++
	}
	for i := a.chunks.n; run < n || a.nfree+added < n+keep; i++ {
		if a.p.geometry.HoldsDescriptors(i) {
			run = 0
			continue
		}
		run++
		added++
	}
	return added
}

// release makes n chunks from i free.
func (a *allocator) release(i, n int) {
	for j := range n {
		*a.chunks.at(i + j) = chunk{state: chunkFree}
		a.chunks.setFree(i+j, true)
	}
	a.nfree += n
}

// Free gives blocks back. Nothing durable may reach them any more, and no reader
// may be looking at them.
func (p *Pool) Free(blocks ...uint64) {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, off := range blocks {
		a.freeBlock(off)
	}
}

func (a *allocator) freeBlock(off uint64) {
	i, ok := a.p.chunkOf(off)
	if !ok || i >= a.chunks.n {
		return
	}
	c := a.chunks.at(i)
	switch c.state {
	case chunkUnknown:
		a.queue = append(a.queue, off)
	case chunkRunHead:
		a.release(i, int(c.run))
	case chunkSmall:
		b := int((off - a.chunkAt(i)) / uint64(a.classes.Sizes[c.class]))
		if c.free.has(b) {
			a.p.logger.Error("block freed twice", "offset", off) // a bug; leaking is the safe side
			return
		}
		c.free.set(b)
		c.nfree++
		if int(c.nfree) == a.blocksOf(int(c.class)) {
			a.release(i, 1)
		} else if !c.partial {
			c.partial = true
			a.partial[c.class] = append(a.partial[c.class], uint32(i))
		}
	}
}

// BlockBytes is the size of the blocks from which a request for sizeBytes is met.
func (p *Pool) BlockBytes(sizeBytes int) int {
	if class, ok := p.space.classes.Of(sizeBytes); ok {
		return p.space.classes.Sizes[class]
	}
	return int(roundUp(int64(sizeBytes), int64(p.geometry.ChunkBytes)))
}

// Space is how the arena is used. It is a snapshot: numbers of one moment.
type Space struct {
	Chunks, FreeChunks int
	FreeBytes          int64 // in free chunks and free blocks
	UnsweptChunks      int   // not known yet
}

// Space returns how the arena is used; its cost grows with the number of chunks in use.
func (p *Pool) Space() Space {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Space{Chunks: a.chunks.n, FreeChunks: a.nfree, UnsweptChunks: a.unswept}
	s.FreeBytes = int64(a.nfree) * int64(p.geometry.ChunkBytes)
	a.chunks.each(func(_ int, c *chunk) {
		if c.state == chunkSmall && c.free != nil {
			s.FreeBytes += int64(c.nfree) * int64(a.classes.Sizes[c.class])
		}
	})
	return s
}
