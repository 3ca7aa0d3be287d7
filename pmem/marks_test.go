package pmem_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

// TestMarkAll: many marks at once are as many marks one by one, in chunks of few blocks,
// of more than a line has bits, and in runs; and they end at the first block that was
// marked before, or that is none.
func TestMarkAll(t *testing.T) {
	p, err := pmem.OpenHeap(pmem.NewHeap(nil, 4<<20), pmem.Options{Geometry: pmem.Geometry{Stripes: 1, ChunkBytes: 16 << 10, SegmentBytes: 512, IntentBytes: 4096}})
	require.NoError(t, err)
	p.Sweep(p.NewMarks())
	var blocks []uint64
	for i := range 900 {
		size := []int{16, 16, 100, 512, 5000}[i%5] // 1,024 blocks of 16 bytes fit a chunk
		if i == 450 {
			size = 40 << 10
		}
		off, err := p.Alloc(size, i, pmem.Usual)
		require.NoError(t, err)
		blocks = append(blocks, off)
	}
	all, single := p.NewMarksNow(), p.NewMarksNow()
	n, err := all.MarkAll(blocks)
	require.NoError(t, err)
	require.Equal(t, len(blocks), n)
	for _, off := range blocks {
		require.True(t, all.Marked(off))
		fresh, err := single.Mark(off, 1)
		require.NoError(t, err)
		require.True(t, fresh)
	}
	chunks, count, sizeBytes := single.Usage()
	gotChunks, gotCount, gotBytes := all.Usage()
	require.Equal(t, []int64{int64(chunks), count, sizeBytes}, []int64{int64(gotChunks), gotCount, gotBytes})
	require.EqualValues(t, len(blocks), count)
	require.NoError(t, all.Validate())

	for _, at := range []int{0, 1, 31, 32, 33, 500, len(blocks) - 1} {
		m := p.NewMarksNow()
		_, err := m.Mark(blocks[at], 1)
		require.NoError(t, err)
		n, err := m.MarkAll(blocks)
		require.NoError(t, err)
		require.Equal(t, at, n, "marked before")

		wrong := slices.Clone(blocks)
		wrong[at] = 1 << 60
		n, err = p.NewMarksNow().MarkAll(wrong)
		require.ErrorContains(t, err, "0x1000000000000000")
		require.Equal(t, at, n, "no block")
	}
	n, err = p.NewMarksNow().MarkAll([]uint64{blocks[0], blocks[1], blocks[0]})
	require.NoError(t, err)
	require.Equal(t, 2, n, "twice in one call")
}
