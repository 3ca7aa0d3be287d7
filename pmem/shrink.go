package pmem

import "pmemtable/internal/layout"

// BeginCompaction chooses the chunk from which on the file could be emptied,
// given the room below, and hands no block from there on out any more, until
// EndCompaction. It returns the chunk's offset; the end of the file if there is
// nothing to gain.
func (p *Pool) BeginCompaction() uint64 {
	a := p.space
	a.steady.Store(false)
	p.DrainShards()
	a.mu.Lock()
	limit := a.compactable()
	a.limit = limit
	a.settle()
	a.mu.Unlock()
	p.DrainShards() // what they hold from there on goes back, and stays
	return a.chunkAt(limit)
}

// compactable is the lowest chunk whose blocks, and those of all behind it, find
// room before it.
func (a *allocator) compactable() int {
	freeBlocks := make([]int, len(a.classes.Sizes)) // before chunk i
	freeChunks := a.nfree
	a.chunks.each(func(_ int, c *chunk) {
		if c.state == chunkSmall {
			freeBlocks[c.class] += int(c.nfree)
		}
	})
	moved := make([]int, len(a.classes.Sizes)) // used blocks from chunk i on
	runs, limit, copied := 0, a.chunks.n, -1
	if a.p.syncs {
		// Each segment may be copied on write, and its old block stays until the
		// next commit; so may the directories, which share a few chunks.
		copied, _ = a.classes.Of(a.p.geometry.SegmentBytes)
		moved[copied] = a.usedBlocks(copied)
		runs = copyCushionChunks
	}
	for i := a.chunks.n - 1; i >= 0; i-- {
		switch a.chunks.state(i) {
		case chunkFree:
			freeChunks--
		case chunkSmall:
			c := a.chunks.at(i)
			freeBlocks[c.class] -= int(c.nfree)
			if int(c.class) != copied {
				moved[c.class] += a.blocksOf(int(c.class)) - int(c.nfree)
			}
		case chunkRunHead:
			runs += int(a.chunks.at(i).run)
		case chunkUnknown:
			return limit
		}
		need := runs
		for class, n := range moved {
			if n > 0 {
				n += a.cachedBlocks(class)
			}
			if over := n - freeBlocks[class]; over > 0 {
				need += (over + a.blocksOf(class) - 1) / a.blocksOf(class)
			}
		}
		if need > freeChunks || need > a.nfree-reserveChunks {
			break
		}
		limit = i
	}
	return limit
}

// cachedBlocks is how many blocks of a class may lie in shards while a compaction
// needs one in another. Without room for them its last blocks would go to a chunk
// at the end of the file, and hold it there.
func (a *allocator) cachedBlocks(class int) int {
	return min(len(a.shards), a.p.geometry.Stripes) * (shardBatch(a.classes.Sizes[class]) - 1)
}

// copyCushionChunks is room for the directories that a compaction copies.
const copyCushionChunks = 2

// usedBlocks counts the blocks of a class that are in use.
func (a *allocator) usedBlocks(class int) int {
	n := 0
	a.chunks.each(func(_ int, c *chunk) {
		if c.state == chunkSmall && int(c.class) == class {
			n += a.blocksOf(class) - int(c.nfree)
		}
	})
	return n
}

// blocksOf is the number of blocks in a chunk of a class.
func (a *allocator) blocksOf(class int) int { return a.p.geometry.ChunkBytes / a.classes.Sizes[class] }

// EndCompaction lets blocks be taken from the whole file again.
func (p *Pool) EndCompaction() {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	a.liftLimit()
}

// liftLimit ends the limit; chunks that were passed over go back on their lists.
func (a *allocator) liftLimit() {
	if a.limit == noLimit {
		return
	}
	a.limit = noLimit
	a.settle()
	a.chunks.each(func(i int, c *chunk) {
		if c.state == chunkSmall && c.nfree > 0 && !c.partial {
			c.partial = true
			a.partial[c.class] = append(a.partial[c.class], uint32(i))
		}
	})
}

// Shrink cuts free chunks off the end of the file, but for the reserve, and
// returns how many bytes. The caller has seen to it that no root reaches the end
// of the file, durably, and has advanced all stripe versions since: a reader may
// still look there, but trusts nothing of it.
//
//  1. readers of other processes are kept out; if some have the file open, it
//     keeps its size.
//  2. the smaller size is published: offsets behind it are not valid any more.
//  3. zero pages are laid over the end of the mapping: whoever still looks there
//     reads zeros instead of faulting.
//  4. the file is truncated. A crash before leaves free chunks at its end.
func (p *Pool) Shrink() (int64, error) {
	a := p.space
	a.growMu.Lock()
	defer a.growMu.Unlock()
	a.mu.Lock()
	have, keep := a.chunks.n, a.endOfUse()
	stopped := a.stopped || !a.sweepOver || a.unswept > 0
	a.mu.Unlock()
	if keep >= have || stopped {
		return 0, nil
	}
	unlock, err := p.backend.keepReadersOut()
	if err != nil {
		return 0, nil // they go on, and the file keeps its size
	}
	defer unlock()

	a.mu.Lock()
	if now := a.endOfUse(); now > keep { // somebody took a block meanwhile
		keep = now
	}
	if keep >= have {
		a.mu.Unlock()
		return 0, nil
	}
	a.nfree -= a.chunks.cut(keep)
	size := a.chunkAt(keep)
	p.size.Store(size)
	a.mu.Unlock()

	p.Store(p.regions.Control+layout.ControlSize, size)
	if err := p.backend.shrink(int64(size)); err != nil {
		return 0, err
	}
	return int64(a.chunkAt(have) - size), nil
}

// endOfUse is the chunk behind the last one in use and the reserve.
func (a *allocator) endOfUse() int {
	last := a.chunks.n - 1
	for ; last > 0; last-- {
		if s := a.chunks.state(last); s != chunkFree && s != chunkMeta {
			break
		}
	}
	keep := last + 1
	for free := 0; free < reserveChunks && keep < a.chunks.n; keep++ {
		if a.chunks.state(keep) == chunkFree {
			free++
		}
	}
	return keep
}
