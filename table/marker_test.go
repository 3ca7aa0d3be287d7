package table_test

import (
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestMarkerGoesBeforeTheSweepIsAnnounced: whoever waits for the sweep to find room
// finds what the marking of an open after a crash had held. The marking is stopped at
// its last sync, and then where it lets go of that.
func TestMarkerGoesBeforeTheSweepIsAnnounced(t *testing.T) {
	d := newDisk(formatted(t, tiny(2)), 2<<20, 0)
	tab, err := d.open(&table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 3 {
		require.NoError(t, tab.Put(key(1), value(i, 50)))
		require.NoError(t, tab.Sync())
	}
	kill(tab)

	opened, held := make(chan *table.Table, 1), make(chan func(), 1)
	var once sync.Once
	d.beforePiece = func(uint64) {
		if strings.Contains(string(debug.Stack()), "recovery.(*Start).Settle(") {
			once.Do(func() { held <- (<-opened).HoldEpochs() })
		}
	}
	tab, err = d.open(nil)
	require.NoError(t, err)
	opened <- tab
	release := <-held
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "table.(*epochSet).release(")
	}, 20*time.Second, 100*time.Microsecond)
	select {
	case <-tab.Pool().Swept():
		require.Fail(t, "the sweep is announced, and the marking still holds blocks")
	default:
	}
	release()
	<-tab.Pool().Swept()
	require.NoError(t, tab.Close())
}
