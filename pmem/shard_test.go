package pmem

import (
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
)

// recycling is a pool whose sweep is over, and some blocks taken from it.
func recycling(t *testing.T) (*Pool, []Range) {
	p, err := OpenHeap(NewHeap(nil, 8<<20), Options{Media: Tmpfs})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.NoError(t, p.BeginSession(0))
	p.Sweep(p.NewMarks())
	blocks := make([]Range, 2*recycledMaxBytes/128)
	for i := range blocks {
		off, err := p.Alloc(128, 0, Usual)
		require.NoError(t, err)
		blocks[i] = Range{off, 128}
	}
	p.DrainShards()
	return p, blocks
}

// TestRecycledBlocksComeBack: those that a shard keeps go out again, last in first out,
// and it keeps no more than its bound.
func TestRecycledBlocksComeBack(t *testing.T) {
	p, blocks := recycling(t)
	last := blocks[2].Offset
	p.Recycle(0, blocks[:3])
	off, err := p.Alloc(128, 0, Usual)
	require.NoError(t, err)
	require.Equal(t, last, off)
	p.DrainShards()

	before := p.Space().FreeBytes
	p.Recycle(0, blocks[3:])
	require.Equal(t, int64(len(blocks)-3)*128-recycledMaxBytes, p.Space().FreeBytes-before)
}

// TestRecycledBlocksWhileChunksMatter: in a compaction a block goes back to its chunk,
// from which one behind the limit is not handed out, and afterwards shards keep it again.
func TestRecycledBlocksWhileChunksMatter(t *testing.T) {
	p, blocks := recycling(t)
	p.BeginCompaction()
	before := p.Space().FreeBytes
	p.Recycle(0, blocks[:1])
	require.Equal(t, int64(128), p.Space().FreeBytes-before)
	p.EndCompaction()
	before = p.Space().FreeBytes
	p.Recycle(0, blocks[1:2])
	require.Equal(t, before, p.Space().FreeBytes)
}

// TestBlockWithoutDivision compares with the division, for every size and offset.
func TestBlockWithoutDivision(t *testing.T) {
	const chunkBytes = layout.MaxChunkBytes
	for _, size := range layout.NewClasses(chunkBytes).Sizes {
		shape := newMarkShape(size, chunkBytes)
		for at := 0; at < chunkBytes; at += layout.UnitBytes {
			b, ok := shape.block(uint64(at))
			if ok != (at%size == 0) || ok && b != uint64(at/size) {
				t.Fatalf("offset %d, blocks of %d: %d, %v", at, size, b, ok)
			}
		}
	}
}
