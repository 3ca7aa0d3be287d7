package table_test

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

func key(i int) []byte {
	b := make([]byte, 16)
	binary.BigEndian.PutUint64(b, uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(b[8:], uint64(i))
	return b
}

func value(i, n int) []byte {
	b := make([]byte, n)
	for j := range b {
		b[j] = byte(i*31 + j)
	}
	return b
}

func TestManyKeysGoInAndComeBack(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.pmt")
			opts := &table.Options{Durability: table.OnSync, Media: media, Stripes: 8}
			tab, err := table.Open(path, opts)
			require.NoError(t, err)
			n := 100_000
			if testing.Short() {
				n = 10_000
			}
			for i := range n {
				require.NoError(t, tab.Put(key(i), value(i, i%200)))
			}
			require.Equal(t, n, tab.Len())
			for i := range n {
				got, err := tab.Get(key(i))
				require.NoError(t, err, "key %d", i)
				require.Equal(t, value(i, i%200), got)
			}
			_, err = tab.Get([]byte("absent"))
			require.ErrorIs(t, err, table.ErrNotFound)
			report, err := tab.Check()
			require.NoError(t, err, "%v", report.Problems)
			require.Equal(t, n, report.Entries)
			for i := 0; i < n; i += 2 {
				require.NoError(t, tab.Delete(key(i)))
			}
			require.Equal(t, n/2, tab.Len())
			require.NoError(t, tab.Close())

			tab, err = table.Open(path, opts)
			require.NoError(t, err)
			require.Equal(t, n/2, tab.Len())
			for i := range n {
				got, err := tab.Get(key(i))
				if i%2 == 0 {
					require.ErrorIs(t, err, table.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, value(i, i%200), got)
			}
			_, err = tab.Check()
			require.NoError(t, err)
			seen := 0
			for range tab.All() {
				seen++
			}
			require.NoError(t, tab.Err())
			require.Equal(t, n/2, seen)
			require.NoError(t, tab.Close())
		})
	}
}

// mediaHere are the media that this machine can force.
func mediaHere() []pmem.Media {
	all := []pmem.Media{pmem.PageCache, pmem.Tmpfs}
	if canFlush() {
		all = append(all, pmem.DAX)
	}
	return all
}
