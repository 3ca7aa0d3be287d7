package layout

import (
	"sync"
)

// The arena is an array of chunks. A chunk is free, or holds blocks of one size
// class, or begins or continues a run that holds one large block, or holds the
// descriptors of its group.
//
// A descriptor is one word, persisted before the chunk's first use and never
// cleared: only the descriptors of chunks that a root reaches are trusted.
//
//	bits 0-3 kind | 4-11 class | 12-31 chunks of the run | 32-63 CRC32C
//
// Group 0 is as many chunks as one chunk of descriptors describes, so that small
// files stay small; every later group has descriptorChunks of them, so that a
// run of more than 1 GiB fits between two.
const descriptorChunks = 8

// ChunkKind is the kind in a chunk descriptor.
type ChunkKind uint8

// The kinds of chunks that descriptors name.
const (
	ChunkSmall ChunkKind = 1 // blocks of one size class
	ChunkRun   ChunkKind = 2 // the first chunk of a large block
)

// DescriptorClassShift is where the class begins.
const DescriptorClassShift = 4

// Descriptor is a decoded chunk descriptor.
type Descriptor struct {
	Kind  ChunkKind
	Class int
	Run   int // chunks, for ChunkRun
}

// Word encodes the descriptor of chunk index; its checksum covers the index, so
// that a descriptor in another's place is not taken for one.
func (d Descriptor) Word(index int) uint64 {
	w := uint64(d.Kind) | uint64(d.Class)<<DescriptorClassShift | uint64(d.Run)<<12
	return w | uint64(descriptorCRC(w, index))<<32
}

// DecodeDescriptor returns false for a word that is none.
func DecodeDescriptor(w uint64, index int) (Descriptor, bool) {
	d := DescriptorOf(uint32(w))
	return d, uint32(w>>32) == descriptorCRC(w, index) && (d.Kind == ChunkSmall || d.Kind == ChunkRun && d.Run > 0)
}

// DescriptorOf decodes the lower half of the word of a descriptor that was checked. It
// is not 0.
func DescriptorOf(half uint32) Descriptor {
	return Descriptor{ChunkKind(half & 15), int(half >> DescriptorClassShift & 255), int(half >> 12)}
}

func descriptorCRC(w uint64, index int) uint32 {
	return wordsCRC(w&0xffffffff | uint64(index)<<32)
}

// descriptorsPerChunk is the number of chunks that one chunk of descriptors describes.
func (g Geometry) descriptorsPerChunk() int { return g.ChunkBytes / WordBytes }

// DescriptorPlace returns where the descriptor of chunk index lies: the index of
// a chunk and the byte offset from the start of that chunk.
func (g Geometry) DescriptorPlace(index int) (chunk int, offset uint64) {
	per := g.descriptorsPerChunk()
	if index < per {
		return 0, uint64(index * WordBytes)
	}
	group := descriptorChunks * per
	first := per + (index-per)/group*group
	return first, uint64((index - first) * WordBytes)
}

// HoldsDescriptors tells whether chunk index holds descriptors and so no block.
func (g Geometry) HoldsDescriptors(index int) bool {
	per := g.descriptorsPerChunk()
	if index < per {
		return index == 0
	}
	return (index-per)%(descriptorChunks*per) < descriptorChunks
}

// DescriptorChunksBelow counts the chunks before index that hold descriptors.
func (g Geometry) DescriptorChunksBelow(index int) int {
	per := g.descriptorsPerChunk()
	if index <= per {
		return min(index, 1)
	}
	groups, rest := (index-per)/(descriptorChunks*per), (index-per)%(descriptorChunks*per)
	return 1 + groups*descriptorChunks + min(rest, descriptorChunks)
}

// MaxRunChunks is the longest run that fits between two groups' descriptors.
func (g Geometry) MaxRunChunks() int {
	return min(descriptorChunks*g.descriptorsPerChunk()-descriptorChunks, 1<<20-1)
}

// Classes are the block sizes of a geometry: every multiple of 16 to 256, then
// eight to a doubling, then whole fractions of a chunk, so that at most an eighth
// of a block is lost to rounding.
type Classes struct {
	Sizes   []int   // ascending
	byUnits []uint8 // class of a size, by size/UnitBytes rounded up
}

// classesOf holds what NewClasses computed: one entry per size of chunks.
var classesOf sync.Map

// NewClasses returns the classes of chunks of the given size. They are shared, and
// must not be changed.
func NewClasses(chunkBytes int) *Classes {
	if c, ok := classesOf.Load(chunkBytes); ok {
		return c.(*Classes)
	}
	c, _ := classesOf.LoadOrStore(chunkBytes, computeClasses(chunkBytes))
	return c.(*Classes)
}

func computeClasses(chunkBytes int) *Classes {
	sizes := make([]int, 0, 64)
	for s := UnitBytes; s <= 256; s += UnitBytes {
		sizes = append(sizes, s)
	}
	for base := 256; base < chunkBytes/8; base *= 2 {
		for i := 1; i <= 8; i++ {
			sizes = append(sizes, base+base/8*i)
		}
	}
	for n := 7; n >= 1; n-- {
		s := chunkBytes / n / UnitBytes * UnitBytes
		if s > sizes[len(sizes)-1] {
			sizes = append(sizes, s)
		}
	}
	c := &Classes{Sizes: sizes, byUnits: make([]uint8, chunkBytes/UnitBytes+1)}
	class := 0
	for u := range c.byUnits {
		for class < len(sizes) && sizes[class] < u*UnitBytes {
			class++
		}
		c.byUnits[u] = uint8(class)
	}
	return c
}

// Of returns the class of blocks that hold sizeBytes, false if that takes a run.
func (c *Classes) Of(sizeBytes int) (class int, ok bool) {
	units := (sizeBytes + UnitBytes - 1) / UnitBytes
	if units >= len(c.byUnits) {
		return 0, false
	}
	return int(c.byUnits[units]), true
}
