//go:build !race

// The accesses below race on purpose.

package flush

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFenceOrdersStoreBeforeLoad is the litmus test that even x86 fails
// without a full barrier: of two goroutines that each set their own word and
// then read the other's, one must see the other.
func TestFenceOrdersStoreBeforeLoad(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("needs two cores")
	}
	assert.Zero(t, bothMissed(Fence), "rounds in which both loads overtook the stores")
	t.Logf("without a fence: %d", bothMissed(func() {}))
}

func bothMissed(fence func()) (rounds int) {
	const slots = 20000
	type word struct {
		value uint32
		_     [124]byte // a line of its own
	}
	words := [2][]word{make([]word, slots), make([]word, slots)}
	seen := [2][]uint32{make([]uint32, slots), make([]uint32, slots)}
	var arrived [2]struct {
		at atomic.Int64
		_  [120]byte
	}
	var group sync.WaitGroup
	for me := range 2 {
		group.Go(func() {
			mine, other, saw := words[me], words[1-me], seen[me]
			for i := range slots {
				arrived[me].at.Store(int64(i + 1))
				for spins := 0; arrived[1-me].at.Load() <= int64(i); spins++ {
					if spins > 1000 {
						runtime.Gosched()
					}
				}
				mine[i].value = 1
				fence()
				saw[i] = other[i].value
			}
		})
	}
	group.Wait()
	for i := range slots {
		if seen[0][i]+seen[1][i] == 0 {
			rounds++
		}
	}
	return rounds
}
