package pmem

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"pmemtable/internal/layout"
)

// Marks collects which blocks the roots reach, for the sweep after an open. Mark
// may be called from many goroutines; the rest may not overlap with it.
type Marks struct {
	p     *Pool
	n     int  // chunks
	shift uint // by which an offset in the arena gives its chunk
	// pages are nil until one of their chunks is reached; see chunkTable.
	pages []atomic.Pointer[[]markedChunk]
}

type markedChunk struct {
	// bits has one bit per block; nil until the chunk is reached. It is replaced
	// once, by compare-and-swap, and its words are set by atomic or.
	bits atomic.Pointer[markedBits]
}

type markedBits struct {
	desc    layout.Descriptor
	size    uint64 // of a block
	inverse uint64 // 2^32 / size, rounded up: no division in Mark
	blocks  uint64
	bits    []uint64 // in few, where that is enough
	few     [8]uint64
}

// newMarkedBits is for a chunk of small blocks, or with one block of a run.
func newMarkedBits(d layout.Descriptor, sizeBytes, blocks int) *markedBits {
	mb := &markedBits{desc: d, size: uint64(sizeBytes), blocks: uint64(blocks)}
	if blocks > 1 {
		mb.inverse = (1<<32 + mb.size - 1) / mb.size
	}
	if n := (blocks + 63) / 64; n <= len(mb.few) {
		mb.bits = mb.few[:n]
	} else {
		mb.bits = make([]uint64, n)
	}
	return mb
}

// block is which block of a chunk begins at an offset in it, false if none does. For a
// multiple of the size the product with the inverse is exact, since the offset is below
// 2^20; for all else the product with the size is another one.
func (mb *markedBits) block(at uint64) (b uint64, ok bool) {
	b = at * mb.inverse >> 32
	return b, b*mb.size == at
}

// NewMarks returns an empty set over the chunks that the file had at open, for a
// Sweep.
func (p *Pool) NewMarks() *Marks { return p.newMarks(p.space.atOpen) }

// NewMarksNow returns an empty set over the chunks that the file has now, for a
// check.
func (p *Pool) NewMarksNow() *Marks {
	return p.newMarks(int((p.size.Load() - p.regions.Arena) / uint64(p.geometry.ChunkBytes)))
}

func (p *Pool) newMarks(chunks int) *Marks {
	return &Marks{p: p, n: chunks, shift: uint(bits.TrailingZeros(uint(p.geometry.ChunkBytes))), pages: make([]atomic.Pointer[[]markedChunk], pagesOf(chunks))}
}

// of is what is marked of chunk i, nil if nothing is.
func (m *Marks) of(i int) *markedBits {
	page := m.pages[i/chunksPerPage].Load()
	if page == nil {
		return nil
	}
	return (*page)[i%chunksPerPage].bits.Load()
}

// add has the first caller's bits be those of chunk i, and returns them.
func (m *Marks) add(i int, mb *markedBits) *markedBits {
	at := &m.pages[i/chunksPerPage]
	page := at.Load()
	if page == nil {
		chunks := make([]markedChunk, chunksFrom(i-i%chunksPerPage, m.n))
		page = &chunks
		if !at.CompareAndSwap(nil, page) {
			page = at.Load()
		}
	}
	if c := &(*page)[i%chunksPerPage]; !c.bits.CompareAndSwap(nil, mb) {
		return c.bits.Load()
	}
	return mb
}

// each calls fn with every chunk of which something is marked, until it returns false.
func (m *Marks) each(fn func(i int, mb *markedBits) bool) {
	for p := range m.pages {
		page := m.pages[p].Load()
		if page == nil {
			continue
		}
		for j := range *page {
			if mb := (*page)[j].bits.Load(); mb != nil && !fn(p*chunksPerPage+j, mb) {
				return
			}
		}
	}
}

// Mark adds the block at off that holds an object of sizeBytes. It returns
// whether the block was new, and an error if no block of that size can be there:
// the chunk's descriptor is damaged or says otherwise, or off is not a block's start.
func (m *Marks) Mark(off uint64, sizeBytes int) (fresh bool, err error) {
	i, at, ok := m.chunkOf(off)
	mb := m.at(i, ok)
	if mb == nil {
		if !ok || m.p.geometry.HoldsDescriptors(i) {
			return false, fmt.Errorf("offset %#x lies outside the blocks that the file had at open", off)
		}
		if mb, err = m.reach(i); err != nil {
			return false, err
		}
	}
	b, ok := mb.block(at)
	if uint64(sizeBytes) > mb.size || !ok {
		return false, fmt.Errorf("%d bytes at %#x are no block of a chunk with blocks of %d bytes", sizeBytes, off, mb.size)
	}
	if b >= mb.blocks {
		return false, fmt.Errorf("offset %#x lies behind the last block of its chunk", off)
	}
	old := atomic.OrUint64(&mb.bits[b/64], 1<<(b%64))
	return old>>(b%64)&1 == 0, nil
}

// Ahead asks for what Mark will need for the block at off, which need not be one.
func (m *Marks) Ahead(off uint64) {
	i, _, ok := m.chunkOf(off)
	if mb := m.at(i, ok); mb != nil { // of which nothing is read: that would wait for it
		prefetchWord(&mb.size)
		prefetchWord(&mb.few[0])
		prefetchWord(&mb.few[len(mb.few)-1])
	}
}

// chunkOf returns the chunk that holds off, and where in it.
func (m *Marks) chunkOf(off uint64) (i int, at uint64, ok bool) {
	off -= m.p.regions.Arena
	chunk := off >> m.shift
	return int(chunk), off & (1<<m.shift - 1), chunk < uint64(m.n)
}

// at is of for a chunk that there may be.
func (m *Marks) at(i int, ok bool) *markedBits {
	if !ok {
		return nil
	}
	return m.of(i)
}

// reach reads the descriptor of chunk i, which is trusted now that a root reaches
// a block of it.
func (m *Marks) reach(i int) (*markedBits, error) {
	p := m.p
	chunk, offset := p.geometry.DescriptorPlace(i)
	at := p.space.chunkAt(chunk) + offset
	d, ok := layout.DecodeDescriptor(p.Load(at), i)
	classes := p.space.classes.Sizes
	var mb *markedBits
	switch {
	case !ok || d.Kind == layout.ChunkSmall && d.Class >= len(classes):
		return nil, fmt.Errorf("the descriptor at %#x of chunk %d is damaged", at, i)
	case d.Kind == layout.ChunkSmall:
		mb = newMarkedBits(d, classes[d.Class], p.geometry.ChunkBytes/classes[d.Class])
	case i+d.Run > m.n:
		return nil, fmt.Errorf("the descriptor at %#x of chunk %d names a run of %d chunks, beyond the file", at, i, d.Run)
	default:
		mb = newMarkedBits(d, d.Run*p.geometry.ChunkBytes, 1)
	}
	return m.add(i, mb), nil
}

// Marked tells whether a block is in the set.
func (m *Marks) Marked(off uint64) bool {
	i, at, ok := m.chunkOf(off)
	mb := m.at(i, ok)
	if mb == nil {
		return false
	}
	b := at / mb.size
	return b < mb.blocks && atomic.LoadUint64(&mb.bits[b/64])>>(b%64)&1 != 0
}

// Validate checks what no single Mark can: that no run covers a chunk that is
// reached in another way.
func (m *Marks) Validate() (err error) {
	m.each(func(i int, mb *markedBits) bool {
		if mb.desc.Kind != layout.ChunkRun {
			return true
		}
		for j := 1; j < mb.desc.Run; j++ {
			if m.of(i+j) != nil || m.p.geometry.HoldsDescriptors(i+j) {
				err = fmt.Errorf("the run of %d chunks at chunk %d covers chunk %d, which is in use otherwise", mb.desc.Run, i, i+j)
				return false
			}
		}
		return true
	})
	return err
}

// Usage counts what is marked.
func (m *Marks) Usage() (chunks int, blocks, bytes int64) {
	m.each(func(_ int, mb *markedBits) bool {
		chunks += max(1, mb.desc.Run)
		n := int64(popcount(mb.bits))
		blocks += n
		bytes += n * int64(mb.size)
		return true
	})
	return chunks, blocks, bytes
}

// Chunks is the number of chunks that marks can reach.
func (m *Marks) Chunks() int { return m.n }

// Sweep makes every block that is not marked, of the chunks that the file had at
// open, free for use. The caller has marked everything that any protected root
// reaches, and validated the marks.
func (p *Pool) Sweep(m *Marks) {
	a := p.space
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sweepOver {
		return
	}
	for i := 0; i < m.n; i++ {
		if end := i + chunksPerPage; i%chunksPerPage == 0 && end <= m.n && a.sweepPage(m, i/chunksPerPage) {
			i = end - 1
			continue
		}
		mb := m.of(i)
		switch {
		case p.geometry.HoldsDescriptors(i):
			*a.chunks.at(i) = chunk{state: chunkMeta}
		case mb == nil:
			a.release(i, 1)
		case mb.desc.Kind == layout.ChunkRun:
			a.markRun(i, mb.desc.Run)
			i += mb.desc.Run - 1
		default:
			a.sweepSmall(i, mb)
		}
	}
	a.chunks.swept = true
	a.unswept = 0
	for _, off := range a.queue {
		a.freeBlock(off)
	}
	a.queue = nil
	a.endSweep()
	a.settle()
}

// sweepPage makes a page of chunks free of which nothing is marked or in use, if it is
// such a one.
func (a *allocator) sweepPage(m *Marks, page int) bool {
	if m.pages[page].Load() != nil || a.chunks.pages[page] != nil {
		return false
	}
	first, end := page*chunksPerPage, (page+1)*chunksPerPage
	g := a.p.geometry
	a.nfree += chunksPerPage - (g.DescriptorChunksBelow(end) - g.DescriptorChunksBelow(first))
	return true
}

// GiveUpSweep says that no Sweep will come: the file is damaged, or is being
// closed. What the chunks hold that it had at open stays out of use.
func (p *Pool) GiveUpSweep() {
	p.space.mu.Lock()
	defer p.space.mu.Unlock()
	p.space.endSweep()
}

// expectSweep has those who allocate wait for a sweep where they need it.
func (a *allocator) expectSweep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweepDue = true
}

func (a *allocator) endSweep() {
	if !a.sweepOver {
		a.sweepOver = true
		close(a.swept)
	}
}

func (a *allocator) sweepSmall(i int, mb *markedBits) {
	a.openChunk(i, mb.desc.Class)
	c := a.chunks.at(i)
	for w, marked := range mb.bits {
		c.free[w] &^= marked
	}
	c.nfree = int32(popcount(c.free))
}

// Swept is closed when the space of the chunks that the file had at open is
// known, or will not be.
func (p *Pool) Swept() <-chan struct{} { return p.space.swept }
