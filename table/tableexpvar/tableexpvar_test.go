package tableexpvar_test

import (
	"encoding/json"
	"expvar"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
	"pmemtable/table/tableexpvar"
)

// open opens a table with so many entries.
func open(t *testing.T, entries int) *table.Table {
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	for i := range entries {
		require.NoError(t, tab.Put([]byte{byte(i)}, nil))
	}
	return tab
}

func TestPublish(t *testing.T) {
	tab := open(t, 3)
	defer tab.Close()
	require.NoError(t, tableexpvar.Publish("of a table", tab))
	var have table.Stats
	decode := func() { require.NoError(t, json.Unmarshal([]byte(expvar.Get("of a table").String()), &have)) }
	decode()
	require.EqualValues(t, 3, have.Entries)
	require.EqualValues(t, 3, have.PutNew)
	require.Equal(t, tab.Stats().Medium, have.Medium)
	require.Equal(t, tab.Stats().OpenedFrom, have.OpenedFrom)

	other := open(t, 5)
	defer other.Close()
	require.NoError(t, tableexpvar.Publish("of a table", other))
	decode()
	require.EqualValues(t, 5, have.Entries, "the later table")
	require.ErrorContains(t, tableexpvar.Publish("memstats", other), "another variable")
}

// TestPublishKeepsNothing: a table that the program has let go of is gone.
func TestPublishKeepsNothing(t *testing.T) {
	func() {
		tab := open(t, 1)
		require.NoError(t, tableexpvar.Publish("to go", tab))
		require.NoError(t, tab.Close())
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return expvar.Get("to go").String() == "null"
	}, 30*time.Second, time.Millisecond)
}

func TestPublishConcurrently(t *testing.T) {
	tab := open(t, 1)
	defer tab.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := tableexpvar.Publish("of many", tab); err != nil || expvar.Get("of many").String() == "null" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
