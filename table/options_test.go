package table_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

func TestParseDurabilityIsTheInverseOfString(t *testing.T) {
	for _, d := range []table.Durability{table.Always, table.OnSync, table.Interval(100 * time.Millisecond), table.Interval(0)} {
		back, err := table.ParseDurability(strings.ToUpper(d.String()[:1]) + d.String()[1:])
		require.NoError(t, err)
		require.Equal(t, d, back)
	}
	for _, wrong := range []string{"", "never", "always=1s", "always=", "onsync=", "interval", "interval=", "interval=-1s", "interval=1"} {
		_, err := table.ParseDurability(wrong)
		require.ErrorContains(t, err, "interval=100ms")
	}
}

// TestClosedTableSaysSo: what reads without entering a stripe does too.
func TestClosedTableSaysSo(t *testing.T) {
	tab := openOn(t, pmem.NewHeap(nil, 1<<20), pmem.Options{Geometry: tiny(1)}, nil)
	require.NoError(t, tab.Put([]byte("a"), []byte("b")))
	m := table.NewMap(tab, table.StringCodec[string](), table.BytesCodec[[]byte]())
	require.Same(t, tab, m.Table())
	snap, err := tab.Snapshot()
	require.NoError(t, err)
	long := make([]byte, 1<<16)
	_, err = snap.Get(long)
	require.ErrorIs(t, err, table.ErrTooLarge)
	require.NoError(t, snap.Close())
	require.NoError(t, tab.Close())
	_, err = tab.Metadata()
	require.ErrorIs(t, err, table.ErrClosed)
	_, _, err = collect(tab)
	require.ErrorIs(t, err, table.ErrClosed)
	require.ErrorIs(t, tab.View([]byte("a"), func([]byte) error { return nil }), table.ErrClosed)
}

func collect(tab *table.Table) (keys, values [][]byte, err error) {
	for k, v := range tab.All() {
		keys, values = append(keys, k), append(values, v)
	}
	return keys, values, tab.Err()
}
