package table_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: the bytes that View lends change while fn looks at
// them, because their block was reused; or a pin that outlives its View and holds
// space back; or an fn that calls the table and waits for itself.

// churn overwrites many times what a stripe's list of unlinked blocks holds, with
// values of n units, so that every block that may be reused is.
func churn(t *testing.T, tab *table.Table, units int) {
	for i := range uint32(5 * table.RetireCount) {
		require.NoError(t, tab.Put(key(int(1000+i%3)), told(1000+i%3, i, units)))
	}
}

func TestViewHoldsItsRecord(t *testing.T) {
	for _, media := range mediaHere() {
		for name, change := range map[string]func(tab *table.Table) error{
			"overwritten": func(tab *table.Table) error { return tab.Put(key(1), told(1, 2, 8)) },
			"deleted":     func(tab *table.Table) error { return tab.Delete(key(1)) },
			"cleared":     func(tab *table.Table) error { return tab.Clear() },
			"cleared twice": func(tab *table.Table) error {
				return errors.Join(tab.Clear(), tab.Put(key(1), told(1, 2, 8)), tab.Clear())
			},
			"committed": func(tab *table.Table) error {
				return errors.Join(tab.Put(key(1), told(1, 2, 8)), tab.Sync(), tab.Put(key(1), told(1, 3, 8)), tab.Sync())
			},
		} {
			t.Run(media.String()+"/"+name, func(t *testing.T) {
				tab := onHeap(t, media, 1, 4<<20)
				require.NoError(t, tab.Put(key(1), told(1, 1, 8)))
				calls := 0
				require.NoError(t, tab.View(key(1), func(v []byte) error {
					calls++
					require.Equal(t, len(v), cap(v))
					conflicts := tab.Stats().RetiredBlocks
					_ = conflicts
					for range 3 {
						require.NoError(t, change(tab))
						churn(t, tab, 8)
						version, err := readTold(1, v)
						require.NoError(t, err)
						require.EqualValues(t, 1, version)
					}
					return nil
				}))
				require.Equal(t, 1, calls)
				checked(t, tab)
			})
		}
	}
}

// TestViewOfEveryPin nests more Views than there are pins: the last ones are
// served by copies, and all hold.
func TestViewOfEveryPin(t *testing.T) {
	const nested = 150
	tab := onHeap(t, pmem.Tmpfs, 2, 8<<20)
	for i := range uint32(nested) {
		require.NoError(t, tab.Put(key(int(i)), told(i, 1, 4)))
	}
	var views [][]byte
	var enter func(i int) error
	enter = func(i int) error {
		if i < nested {
			return tab.View(key(i), func(v []byte) error {
				views = append(views, v)
				return enter(i + 1)
			})
		}
		for version := range uint32(3) {
			for i := range uint32(nested) {
				require.NoError(t, tab.Put(key(int(i)), told(i, 2+version, 4)))
			}
			churn(t, tab, 4)
		}
		for i, v := range views {
			version, err := readTold(uint32(i), v)
			require.NoError(t, err)
			require.EqualValues(t, 1, version)
		}
		// Readers get by without a pin, whatever the versions do.
		for i := range uint32(nested) {
			v, err := tab.Get(key(int(i)))
			require.NoError(t, err)
			version, err := readTold(i, v)
			require.NoError(t, err)
			require.EqualValues(t, 4, version)
		}
		require.Len(t, contents(t, tab), tab.Len())
		return nil
	}
	require.NoError(t, enter(0))

	const extentBytes = 4 * 4096
	// All pins are free again: what they held is reused, and nothing grows but by an
	// extent that was asked for before.
	size := tab.Stats().FileSizeBytes
	for i := range uint32(20) {
		for k := range uint32(nested) {
			require.NoError(t, tab.Put(key(int(k)), told(k, 10+i, 4)))
		}
	}
	churn(t, tab, 4)
	require.LessOrEqual(t, tab.Stats().FileSizeBytes, size+extentBytes)
	require.Less(t, tab.Stats().RetiredBlocks, int64(2*table.RetireCount))
}

func TestViewReturnsWhatFnReturns(t *testing.T) {
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	require.NoError(t, tab.Put(key(1), nil))
	stop := errors.New("stop")
	require.Equal(t, stop, tab.View(key(1), func(v []byte) error {
		require.Empty(t, v)
		return stop
	}))
	// A panic of fn passes through, and leaves no pin behind.
	for range 300 {
		require.PanicsWithValue(t, "fn's own", func() {
			_ = tab.View(key(1), func([]byte) error { panic("fn's own") })
		})
	}
	allocated := 0
	require.NoError(t, tab.View(key(1), func([]byte) error { allocated++; return nil }))
	require.Equal(t, 1, allocated)
}

// TestViewMayCallForRoom: fn clears the table that it looks at, and writes until
// there is no more room. The space of the one record that it holds cannot be had;
// it must not be waited for.
func TestViewMayCallForRoom(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 1, 256<<10)
			require.NoError(t, tab.Put(key(1), told(1, 1, 8)))
			fill := func() (n int) {
				for {
					if err := tab.Put(key(1000+n), value(n, 500)); err != nil {
						require.ErrorIs(t, err, table.ErrFull)
						return n
					}
					n++
				}
			}
			before := fill()
			require.NoError(t, tab.Clear())
			require.NoError(t, tab.Put(key(1), told(1, 1, 8)))
			require.NoError(t, tab.View(key(1), func(v []byte) error {
				require.NoError(t, tab.Clear())
				require.InDelta(t, before, fill(), float64(before)/8)
				version, err := readTold(1, v)
				require.NoError(t, err)
				require.EqualValues(t, 1, version)
				return nil
			}))
			require.NoError(t, tab.Clear())
			require.InDelta(t, before, fill(), float64(before)/8)
			checked(t, tab)
		})
	}
}
