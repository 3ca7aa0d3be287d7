package pmem

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// prefaults notes which ranges of a backend are prefaulted.
type prefaults struct {
	backend
	mu     sync.Mutex
	ranges [][2]uint64
}

func (b *prefaults) prefault(off, n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ranges = append(b.ranges, [2]uint64{off, off + n})
	b.backend.prefault(off, n)
}

// TestGrowthAheadIsPrefaulted: what the file grows by in the background is prefaulted
// whole, in pieces, where pages stay in memory, and nowhere else.
func TestGrowthAheadIsPrefaulted(t *testing.T) {
	for _, media := range []Media{Tmpfs, PageCache} {
		t.Run(media.String(), func(t *testing.T) {
			p, err := Open(filepath.Join(t.TempDir(), "p.pmt"), Options{Media: media, MustCreate: true})
			require.NoError(t, err)
			defer p.Close()
			p.GiveUpSweep()
			seen := &prefaults{backend: p.backend}
			p.backend = seen
			const extent = 64 // chunks
			before := p.size.Load()
			require.NoError(t, p.space.grow(p.space.chunks.n, extent, extent))
			p.space.prefault(int((before - p.regions.Arena) / uint64(p.geometry.ChunkBytes)))
			if media == PageCache {
				require.Empty(t, seen.ranges)
				return
			}
			at := before
			for _, r := range seen.ranges {
				require.Equal(t, at, r[0])
				require.LessOrEqual(t, r[1]-r[0], uint64(prefaultBytes))
				at = r[1]
			}
			require.Equal(t, p.size.Load(), at)
			require.Greater(t, len(seen.ranges), 1)

			seen.ranges = nil
			p.space.prefault(p.space.chunks.n) // a file that was made smaller meanwhile
			require.Empty(t, seen.ranges)
		})
	}
}
