package table_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

func TestSnapshotBatchManyBackup(t *testing.T) {
	t.Parallel()
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			dir := t.TempDir()
			h := pmem.NewHeap(nil, 64<<20)
			p, err := pmem.OpenHeap(h, pmem.Options{Media: media, Geometry: pmem.Geometry{Stripes: 2, ChunkBytes: 4096, SegmentBytes: 512}})
			require.NoError(t, err)
			tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
			require.NoError(t, err)
			const n = 3000
			var keys, values [][]byte
			for i := range n {
				keys, values = append(keys, key(i)), append(values, value(i, i%50))
			}
			require.NoError(t, tab.PutMany(keys, values))
			require.NoError(t, tab.PutMany([][]byte{key(1), key(1), key(1)}, [][]byte{[]byte("a"), []byte("b"), []byte("c")}))
			require.Equal(t, n, tab.Len())
			_, err = tab.Check()
			require.NoError(t, err)
			snap, err := tab.Snapshot()
			require.NoError(t, err)
			for round := range alone(50, 50, 5) {
				b := table.NewBatch()
				for i := range 100 {
					k := (round*37 + i*13) % (n + 500)
					if i%3 == 0 {
						b.Delete(key(k))
					} else {
						b.Put(key(k), value(k+round, 20))
					}
				}
				b.SetMetadata(fmt.Appendf(nil, "round %d", round))
				require.NoError(t, tab.Apply(b))
				meta, err := tab.Metadata()
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("round %d", round), string(meta))
				_, err = tab.Check()
				require.NoError(t, err)
			}
			require.Equal(t, n, snap.Len())
			seen := 0
			for k, v := range snap.All() {
				got, err := snap.Get(k)
				require.NoError(t, err)
				require.Equal(t, v, got)
				seen++
			}
			require.Equal(t, n, seen)
			i := 0
			tab.GetMany(keys, func(j int, v []byte, err error) {
				require.Equal(t, i, j)
				want, werr := tab.Get(keys[j])
				require.Equal(t, werr, err)
				require.True(t, bytes.Equal(want, v))
				i++
			})
			var a, b2 bytes.Buffer
			require.NoError(t, snap.Backup(&a))
			require.NoError(t, snap.Backup(&b2))
			require.Equal(t, a.Bytes(), b2.Bytes())
			require.NoError(t, snap.Close())
			require.NoError(t, table.Restore(&a, filepath.Join(dir, "r.pmt"), nil))
			back, err := table.Open(filepath.Join(dir, "r.pmt"), nil)
			require.NoError(t, err)
			require.Equal(t, n, back.Len())
			got, err := back.Get(key(1))
			require.NoError(t, err)
			require.Equal(t, "c", string(got))
			require.NoError(t, back.Close())
			require.NoError(t, tab.Close())
		})
	}
}
