package pmem

import (
	"runtime"
	"slices"
	"sync"
)

// shard is a small cache of free blocks. Writers choose one by their stripe, so
// that they seldom wait for each other.
type shard struct {
	mu          sync.Mutex
	blocks      [][]uint64 // per class, nil until there are any; guarded by mu, as the next
	cachedBytes int
	_           [64]byte // neighbours' locks do not share a line
}

const (
	shardMaxBlocks = 32
	shardMaxBytes  = 4096 // of one class that a shard takes at a time

	// recycledMaxBytes bounds what a shard keeps of blocks that came back to it.
	recycledMaxBytes = 32 << 10
)

// shardBatch is how many blocks of a size a shard takes at a time.
func shardBatch(sizeBytes int) int {
	return max(1, min(shardMaxBlocks, shardMaxBytes/sizeBytes))
}

func newShards() []shard {
	n := 4
	for n < 4*runtime.GOMAXPROCS(0) && n < 256 {
		n *= 2
	}
	return make([]shard, n)
}

func (a *allocator) shardOf(near int) *shard { return &a.shards[near&(len(a.shards)-1)] }

// pop returns a block of the class, 0 if the shard has none.
func (s *shard) pop(class, sizeBytes int) (off uint64) {
	s.mu.Lock()
	if class < len(s.blocks) {
		if list := s.blocks[class]; len(list) > 0 {
			off = list[len(list)-1]
			s.blocks[class] = list[:len(list)-1]
			s.cachedBytes -= sizeBytes
		}
	}
	s.mu.Unlock()
	return off
}

// push keeps blocks for later; they go out in the order in which they lie, since
// pop takes from the end.
func (s *shard) push(class int, blocks []uint64, a *allocator) {
	if len(blocks) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if class < len(s.blocks) && len(s.blocks[class]) > 0 { // another writer of the stripe was as quick
		a.p.Free(blocks...)
		return
	}
	s.begin(a)
	s.blocks[class] = slices.Grow(s.blocks[class], len(blocks))
	for i := len(blocks) - 1; i >= 0; i-- {
		s.keep(class, blocks[i], a)
	}
}

// begin makes the lists of a shard that has none. The shard is locked.
func (s *shard) begin(a *allocator) {
	if s.blocks == nil {
		s.blocks = make([][]uint64, len(a.classes.Sizes))
	}
}

// keep adds a block of the class to the lists that there are. The shard is locked.
func (s *shard) keep(class int, off uint64, a *allocator) {
	s.blocks[class] = append(s.blocks[class], off)
	s.cachedBytes += a.classes.Sizes[class]
}

// Recycle is Free for blocks of which the caller still knows the size that it asked for.
// Some of them wait in the shard of near, so that the next calls of Alloc there take them
// while their lines and pages are in the processor's caches, and nobody has to look for
// their chunks. It changes the order of blocks.
func (p *Pool) Recycle(near int, blocks []Range) {
	a := p.space
	rest := blocks[:0]
	s := a.shardOf(near)
	s.mu.Lock()
	s.begin(a)
	steady := a.steady.Load()
	sizeBytes, class, small := -1, 0, false
	for _, b := range blocks {
		if b.Bytes != sizeBytes { // most are of one size
			sizeBytes = b.Bytes
			class, small = a.classes.Of(sizeBytes)
		}
		if steady && small && s.cachedBytes+a.classes.Sizes[class] <= recycledMaxBytes {
			s.keep(class, b.Offset, a)
		} else {
			rest = append(rest, b)
		}
	}
	s.mu.Unlock()
	if len(rest) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, b := range rest {
		a.freeBlock(b.Offset)
	}
}

// settle has shards keep blocks that are given back, unless somebody must know which
// chunks these lie in: before the sweep, or if there will be none, and in a compaction.
// It is called with mu held.
func (a *allocator) settle() {
	a.steady.Store(a.sweepOver && a.unswept == 0 && a.limit == noLimit)
}

// DrainShards gives every cached block back to its chunk, so that whole chunks
// may become free: before a request fails for want of room.
func (p *Pool) DrainShards() {
	for i := range p.space.shards {
		s := &p.space.shards[i]
		s.mu.Lock()
		for class, list := range s.blocks {
			if len(list) > 0 {
				p.Free(list...)
				s.blocks[class] = list[:0]
			}
		}
		s.cachedBytes = 0
		s.mu.Unlock()
	}
}
