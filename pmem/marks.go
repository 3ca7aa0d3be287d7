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
	p      *Pool
	n      int            // chunks
	shift  uint           // by which an offset in the arena gives its chunk
	shapes [256]markShape // by size class; how many there are a descriptor can name
	pages  []atomic.Pointer[markedPage]
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
	m := &Marks{p: p, n: chunks, shift: uint(bits.TrailingZeros(uint(p.geometry.ChunkBytes))), pages: make([]atomic.Pointer[markedPage], pagesOf(chunks))}
	for class, size := range p.space.classes.Sizes {
		m.shapes[class] = newMarkShape(size, p.geometry.ChunkBytes)
	}
	return m
}

// descriptor is the lower half of the descriptor word of chunk i, which the file has;
// 0 if nothing of the chunk is marked.
func (m *Marks) descriptor(i int) uint32 {
	if page := m.pages[i/chunksPerPage].Load(); page != nil {
		return page.descriptors[i%chunksPerPage].Load()
	}
	return 0
}

// shape is how the blocks lie of a chunk that was reached.
func (m *Marks) shape(descriptor uint32) markShape {
	d := layout.DescriptorOf(descriptor)
	if d.Kind == layout.ChunkSmall {
		return m.shapes[d.Class]
	}
	return markShape{size: uint64(d.Run) << m.shift, blocks: 1}
}

// bits are those of the blocks of a chunk that was reached.
func (m *Marks) bits(i int, shape *markShape) []uint64 {
	return m.pages[i/chunksPerPage].Load().bits(i%chunksPerPage, shape.blocks)
}

// each calls fn with every chunk of which something is marked, until it returns false.
func (m *Marks) each(fn func(i int, d layout.Descriptor) bool) {
	for p := range m.pages {
		page := m.pages[p].Load()
		if page == nil {
			continue
		}
		for j := range page.descriptors {
			if w := page.descriptors[j].Load(); w != 0 && !fn(p*chunksPerPage+j, layout.DescriptorOf(w)) {
				return
			}
		}
	}
}

// Mark adds the block at off that holds an object of sizeBytes. It returns
// whether the block was new, and an error if no block of that size can be there:
// the chunk's descriptor is damaged or says otherwise, or off is not a block's start.
func (m *Marks) Mark(off uint64, sizeBytes int) (fresh bool, err error) {
	word, bit, err := m.place(off, uint64(sizeBytes))
	if err != nil {
		return false, err
	}
	return atomic.OrUint64(word, bit)&bit == 0, nil
}

// markGroup is how many blocks are marked at a time, so that the waits for the memory of
// their marks overlap: each is where no other of the group is.
const markGroup = 32

// MarkAll adds blocks, of whatever size. It returns how many it added before the first
// that was not new, or of which err says why there is none.
func (m *Marks) MarkAll(blocks []uint64) (added int, err error) {
	for len(blocks) > 0 && err == nil {
		var words [markGroup]*uint64
		var bits [markGroup]uint64
		n := 0
		for n < min(len(blocks), markGroup) {
			if words[n], bits[n], err = m.place(blocks[n], 1); err != nil {
				break
			}
			prefetchWord(words[n])
			n++
		}
		for j, word := range words[:n] {
			if atomic.OrUint64(word, bits[j])&bits[j] != 0 {
				return added, nil
			}
			added++
		}
		blocks = blocks[n:]
	}
	return added, err
}

// place is where the mark of the block at off is, of which Mark says what it must be.
func (m *Marks) place(off, sizeBytes uint64) (word *uint64, bit uint64, err error) {
	i, at, ok := m.chunkOf(off)
	if !ok {
		return nil, 0, errOutside(off)
	}
	page := m.pages[i/chunksPerPage].Load()
	if page == nil || page.descriptors[i%chunksPerPage].Load() == 0 {
		if page, err = m.reach(int(i), off); err != nil {
			return nil, 0, err
		}
	}
	w := page.descriptors[i%chunksPerPage].Load()
	shape := &m.shapes[w>>layout.DescriptorClassShift&255]
	if layout.ChunkKind(w&15) != layout.ChunkSmall {
		run := m.shape(w)
		shape = &run
	}
	b, ok := shape.block(at)
	if !ok || sizeBytes > shape.size {
		return nil, 0, fmt.Errorf("%d bytes at %#x are no block of a chunk with blocks of %d bytes", sizeBytes, off, shape.size)
	}
	if b >= shape.blocks {
		return nil, 0, fmt.Errorf("offset %#x lies behind the last block of its chunk", off)
	}
	if shape.blocks > lineBlocks {
		return &page.bits(int(i%chunksPerPage), shape.blocks)[b/64], 1 << (b % 64), nil
	}
	return &page.lines[i%chunksPerPage/lineGroup].Load()[i%lineGroup][b/64&7], 1 << (b % 64), nil
}

func errOutside(off uint64) error {
	return fmt.Errorf("offset %#x lies outside the blocks that the file had at open", off)
}

// chunkOf returns the chunk that holds off, and where in it.
func (m *Marks) chunkOf(off uint64) (i, at uint64, ok bool) {
	off -= m.p.regions.Arena
	i = off >> (m.shift & 63)
	return i, off & (1<<(m.shift&63) - 1), i < uint64(m.n)
}

// reach reads the descriptor of chunk i, which is trusted now that a root reaches
// the block at off, and makes room for its marks.
func (m *Marks) reach(i int, off uint64) (*markedPage, error) {
	p := m.p
	if p.geometry.HoldsDescriptors(i) {
		return nil, errOutside(off)
	}
	chunk, offset := p.geometry.DescriptorPlace(i)
	at := p.space.chunkAt(chunk) + offset
	word := p.Load(at)
	d, ok := layout.DecodeDescriptor(word, i)
	switch {
	case !ok || d.Kind == layout.ChunkSmall && d.Class >= len(p.space.classes.Sizes):
		return nil, fmt.Errorf("the descriptor at %#x of chunk %d is damaged", at, i)
	case d.Kind == layout.ChunkRun && i+d.Run > m.n:
		return nil, fmt.Errorf("the descriptor at %#x of chunk %d names a run of %d chunks, beyond the file", at, i, d.Run)
	}
	w := uint32(word)
	page := orNew(&m.pages[i/chunksPerPage])
	page.reach(i%chunksPerPage, w, m.shape(w).blocks)
	return page, nil
}

// Marked tells whether a block is in the set.
func (m *Marks) Marked(off uint64) bool {
	i, at, ok := m.chunkOf(off)
	if !ok || m.descriptor(int(i)) == 0 {
		return false
	}
	shape := m.shape(m.descriptor(int(i)))
	b := at / shape.size
	return b < shape.blocks && atomic.LoadUint64(&m.bits(int(i), &shape)[b/64])>>(b%64)&1 != 0
}

// Validate checks what no single Mark can: that no run covers a chunk that is
// reached in another way.
func (m *Marks) Validate() (err error) {
	m.each(func(i int, d layout.Descriptor) bool {
		if d.Kind != layout.ChunkRun {
			return true
		}
		for j := 1; j < d.Run; j++ {
			if m.descriptor(i+j) != 0 || m.p.geometry.HoldsDescriptors(i+j) {
				err = fmt.Errorf("the run of %d chunks at chunk %d covers chunk %d, which is in use otherwise", d.Run, i, i+j)
				return false
			}
		}
		return true
	})
	return err
}

// Usage counts what is marked.
func (m *Marks) Usage() (chunks int, blocks, bytes int64) {
	m.each(func(i int, d layout.Descriptor) bool {
		shape := m.shape(m.descriptor(i))
		chunks += max(1, d.Run)
		n := int64(popcount(m.bits(i, &shape)))
		blocks += n
		bytes += n * int64(shape.size)
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
		w := m.descriptor(i)
		d := layout.DescriptorOf(w)
		switch {
		case p.geometry.HoldsDescriptors(i):
			*a.chunks.at(i) = chunk{state: chunkMeta}
		case w == 0:
			a.release(i, 1)
		case d.Kind == layout.ChunkRun:
			a.markRun(i, d.Run)
			i += d.Run - 1
		default:
			a.sweepSmall(i, d.Class, m.bits(i, &m.shapes[d.Class]))
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

func (a *allocator) sweepSmall(i, class int, bits []uint64) {
	a.openChunk(i, class)
	c := a.chunks.at(i)
	for w, marked := range bits {
		c.free[w] &^= marked
	}
	c.nfree = int32(popcount(c.free))
}

// Swept is closed when the space of the chunks that the file had at open is
// known, or will not be.
func (p *Pool) Swept() <-chan struct{} { return p.space.swept }
