package pmem

// Classes are the sizes of blocks.
func (p *Pool) Classes() []int { return p.space.classes.Sizes }

// DescriptorChunks counts those among so many chunks that hold descriptors.
func (p *Pool) DescriptorChunks(chunks int) (n int) {
	return p.geometry.DescriptorChunksBelow(chunks)
}

// ChunkOf is the index of the chunk that holds a block.
func (p *Pool) ChunkOf(off uint64) (int, bool) { return p.chunkOf(off) }

// ErrMaxSize is the reason of an ErrFull that Options.MaxSizeBytes makes.
var ErrMaxSize = errMaxSize

// BlockAt is the size of the block at off, which is in use.
func (p *Pool) BlockAt(off uint64) int {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	i, _ := p.chunkOf(off)
	c := a.chunks.at(i)
	if c.state == chunkSmall {
		return a.classes.Sizes[c.class]
	}
	return int(c.run) * p.geometry.ChunkBytes
}
