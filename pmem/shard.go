package pmem

import (
	"runtime"
	"slices"
	"sync"
)

// shard is a small cache of free blocks. Writers choose one by their stripe, so
// that they seldom wait for each other.
type shard struct {
	mu     sync.Mutex
	blocks [][]uint64 // per class, nil until there are any; guarded by mu
	_      [64]byte   // neighbours' locks do not share a line
}

const (
	shardMaxBlocks = 32
	shardMaxBytes  = 4096 // of one class in one shard
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

func (s *shard) pop(class int) (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocks == nil || len(s.blocks[class]) == 0 {
		return 0, false
	}
	list := s.blocks[class]
	s.blocks[class] = list[:len(list)-1]
	return list[len(list)-1], true
}

// push keeps blocks for later; they go out in the order in which they lie, since
// pop takes from the end.
func (s *shard) push(class int, blocks []uint64, a *allocator) {
	if len(blocks) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blocks == nil {
		s.blocks = make([][]uint64, len(a.classes.Sizes))
	}
	if len(s.blocks[class]) > 0 { // another writer of the stripe was as quick
		a.p.Free(blocks...)
		return
	}
	s.blocks[class] = slices.Grow(s.blocks[class], len(blocks))
	for i := len(blocks) - 1; i >= 0; i-- {
		s.blocks[class] = append(s.blocks[class], blocks[i])
	}
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
		s.mu.Unlock()
	}
}
