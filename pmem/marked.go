package pmem

import (
	"sync/atomic"

	"pmemtable/internal/layout"
)

// What is marked is kept so that a mark touches as little memory as can be, since every
// one is of another chunk than the one before: a chunk's descriptor lies among those of
// its neighbours, and the bits of its blocks are one line, unless it has many. Memory is
// in proportion to what is reached: see chunkTable.

// markedPage is what is marked of chunksPerPage chunks.
type markedPage struct {
	// descriptors are the lower halves of the chunks' descriptor words; 0 until a chunk
	// is reached. They are stored behind the room for the chunk's bits.
	descriptors [chunksPerPage]atomic.Uint32
	lines       [chunksPerPage / lineGroup]atomic.Pointer[markedLines]
	many        atomic.Pointer[markedMany] // nil until there is one
}

// lineGroup is of how many chunks the lines come to be at once.
const lineGroup = 16

type markedLines [lineGroup][layout.LineBytes / layout.WordBytes]uint64

// markedMany are the bits of chunks with more blocks than a line has bits.
type markedMany [chunksPerPage]atomic.Pointer[[]uint64]

const lineBlocks = layout.LineBytes * 8

// orNew returns what p points to; first it has it point to new memory, if it points nowhere.
func orNew[T any](p *atomic.Pointer[T]) *T {
	if have := p.Load(); have != nil {
		return have
	}
	if made := new(T); p.CompareAndSwap(nil, made) {
		return made
	}
	return p.Load()
}

// bits are those of the blocks of chunk i of the page, for which there is room.
func (p *markedPage) bits(i int, blocks uint64) []uint64 {
	n := (blocks + 63) / 64
	if blocks > lineBlocks {
		return (*p.many.Load()[i].Load())[:n]
	}
	return p.lines[i/lineGroup].Load()[i%lineGroup][:n]
}

// reach makes room for the bits of chunk i of the page, and then notes its descriptor.
func (p *markedPage) reach(i int, descriptor uint32, blocks uint64) {
	if blocks > lineBlocks {
		bits := make([]uint64, (blocks+63)/64)
		orNew(&p.many)[i].CompareAndSwap(nil, &bits)
	} else {
		orNew(&p.lines[i/lineGroup])
	}
	p.descriptors[i].Store(descriptor)
}

// markShape is how the blocks lie of a chunk of a size class.
type markShape struct {
	size    uint64 // of a block
	inverse uint64 // 2^32 / size, rounded up: no division in Mark
	blocks  uint64
}

func newMarkShape(sizeBytes, chunkBytes int) markShape {
	size := uint64(sizeBytes)
	return markShape{size, (1<<32 + size - 1) / size, uint64(chunkBytes) / size}
}

// block is which block of a chunk begins at an offset in it, false if none does. For a
// multiple of the size the product with the inverse is exact, since the offset is below
// 2^20; for all else the product with the size is another one.
func (s *markShape) block(at uint64) (b uint64, ok bool) {
	b = at * s.inverse >> 32
	return b, b*s.size == at
}
