package pmem

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
)

// TestChunkTable compares a table of some pages with a list, whatever comes to be in
// which order: chunks of before the sweep, of after it, and that were cut off between.
func TestChunkTable(t *testing.T) {
	g := Geometry{Stripes: 1, ChunkBytes: 4096, SegmentBytes: 512}
	seeds := uint64(30)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 1))
		table := newChunkTable(layout.Geometry(g), 1+r.IntN(5*chunksPerPage))
		free := make([]bool, table.n)
		set := func(i int, to bool) {
			*table.at(i) = chunk{state: chunkSmall}
			if to {
				*table.at(i) = chunk{state: chunkFree}
			}
			table.setFree(i, to)
			free[i] = to
		}
		for range 200 {
			switch i := r.IntN(table.n); r.IntN(12) {
			case 0:
				n := table.n + 1 + r.IntN(2*chunksPerPage)
				table.extend(n)
				free = append(free, make([]bool, n-len(free))...)
			case 1:
				dropped := 0
				n := max(1, table.n-r.IntN(2*chunksPerPage))
				for _, f := range free[n:] {
					if f {
						dropped++
					}
				}
				require.Equal(t, dropped, table.cut(n), "seed %d", seed)
				free = free[:n]
			case 2:
				table.swept = true // what has a page is not concerned
				for i := range free {
					if table.pages[i/chunksPerPage] == nil {
						free[i] = !g.HoldsDescriptors(i)
					}
				}
			case 3:
				for j := i; j < min(table.n, i+r.IntN(300)); j++ {
					set(j, false)
				}
			default:
				for j := i; j < min(table.n, i+r.IntN(80)); j++ {
					set(j, r.IntN(8) > 0)
				}
			}
			for i, want := range free {
				if table.isFree(i) != want || (table.state(i) == chunkFree) != want {
					require.Fail(t, "chunk", "seed %d, chunk %d: %v", seed, i, table.state(i))
				}
			}
			for _, n := range []int{1, 2, 63, 64, 200} {
				require.Equal(t, firstRun(free, n), table.freeRun(n), "seed %d, %d chunks", seed, n)
			}
		}
	}
}

func TestDescriptorChunksBelow(t *testing.T) {
	g, n := layout.Geometry{Stripes: 1, ChunkBytes: 4096, SegmentBytes: 512}, 0
	for i := range 20_000 {
		require.Equal(t, n, g.DescriptorChunksBelow(i), "chunk %d", i)
		if g.HoldsDescriptors(i) {
			n++
		}
	}
}

// firstRun is where the first n true ones in a row begin, -1 if there are none.
func firstRun(of []bool, n int) int {
	length := 0
	for i, f := range of {
		if length++; !f {
			length = 0
		}
		if length == n {
			return i - n + 1
		}
	}
	return -1
}
