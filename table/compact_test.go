package table_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// Looks for: entries lost or doubled by a merge or a move, a file that keeps its
// size after a mass delete, and a table that cannot grow again after it shrank.
func TestCompactGivesSpaceBack(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.pmt")
			tab, err := table.Open(path, &table.Options{Media: media, Durability: table.OnSync, Stripes: 4, LogSize: -1})
			require.NoError(t, err)
			n, bound := alone(60_000, 20_000, 10_000), 0.25 // a tenth of the entries is left, and what is there in any case
			if n < 60_000 {
				bound = 1 // a growth ahead of need, early or late, is a part of so small a file
			}
			for i := range n {
				require.NoError(t, tab.Put(key(i), value(i, 100)))
			}
			b := table.NewBatch()
			b.SetMetadata([]byte("kept"))
			require.NoError(t, tab.Apply(b))
			full := sizeOf(t, path)
			for round := range 3 {
				for i := range n {
					if i%10 != round {
						require.NoError(t, tab.Delete(key(i)))
					}
				}
				require.NoError(t, tab.Compact())
				small := sizeOf(t, path)
				require.Less(t, float64(small), bound*float64(full))
				for i := round; i < n; i += 10 {
					got, err := tab.Get(key(i))
					require.NoError(t, err)
					require.Equal(t, value(i, 100), got)
				}
				require.Equal(t, n/10, tab.Len())
				report, err := tab.Check()
				require.NoError(t, err, "%v", report.Problems)
				meta, err := tab.Metadata()
				require.NoError(t, err)
				require.Equal(t, "kept", string(meta))
				for i := range n { // it grows again
					require.NoError(t, tab.Put(key(i), value(i, 100)))
				}
				_, err = tab.Check()
				require.NoError(t, err)
			}
			require.Positive(t, tab.Stats().Merges)
			require.NoError(t, tab.Close())
			tab, err = table.Open(path, &table.Options{Media: media})
			require.NoError(t, err)
			require.Equal(t, n, tab.Len())
			_, err = tab.Check()
			require.NoError(t, err)
			require.NoError(t, tab.Close())
		})
	}
}

// TestCompactEndsWithItsContext stops after every step there is: the table is whole.
func TestCompactEndsWithItsContext(t *testing.T) {
	t.Parallel()
	const stripes = 4
	n := alone(4000, 4000, 1500)
	for stopAt := 0.0; stopAt < 1; stopAt += 1.0 / (2 * stripes) {
		tab, err := table.Open(filepath.Join(t.TempDir(), "c.pmt"), &table.Options{Durability: table.OnSync, Stripes: stripes})
		require.NoError(t, err)
		for i := range n {
			require.NoError(t, tab.Put(key(i), value(i, 100)))
		}
		for i := range n {
			if i%10 != 0 {
				require.NoError(t, tab.Delete(key(i)))
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		told := []float64{0}
		if stopAt == 0 {
			stop()
		}
		err = tab.CompactWith(ctx, table.CompactOptions{Progress: func(share float64) {
			if told = append(told, share); share >= stopAt {
				stop()
			}
		}})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, stopAt, told[len(told)-1])
		require.IsIncreasing(t, append(told, 1))
		require.Equal(t, n/10, tab.Len())
		for i := 0; i < n; i += 10 {
			got, err := tab.Get(key(i))
			require.NoError(t, err)
			require.Equal(t, value(i, 100), got)
		}
		checked(t, tab)
		require.NoError(t, tab.Compact(), "another one goes through")
		checked(t, tab)
		require.NoError(t, tab.Close())
	}
}

func sizeOf(t *testing.T, path string) int64 {
	st, err := os.Stat(path)
	require.NoError(t, err)
	return st.Size()
}
