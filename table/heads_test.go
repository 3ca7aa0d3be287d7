package table_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

func eightBytes(i int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(i)) }

// TestFewHeads: the failure looked for is a writer that takes the head of one segment for
// that of another, and stores into one that a snapshot has: with one head for all of a
// stripe's segments it is nearly always another's.
func TestFewHeads(t *testing.T) {
	for _, media := range mediaHere() {
		for name, inline := range map[string]bool{"records": false, "inline": true} {
			t.Run(media.String()+" "+name, func(t *testing.T) {
				g := tiny(1)
				if inline {
					g = tinyInline()
				}
				tab := openOn(t, pmem.NewHeap(nil, 16<<20), pmem.Options{Geometry: g, Media: media}, &table.Options{Durability: table.OnSync})
				tab.SetHeads(1)
				const n = 600
				fill := func(round int) {
					for i := range n {
						require.NoError(t, tab.Put(eightBytes(i), eightBytes(n*round+i)))
					}
				}
				fill(0)
				for round := 1; round < 4; round++ {
					s, err := tab.Snapshot()
					require.NoError(t, err)
					fill(round)
					for i := range n {
						got, err := s.Get(eightBytes(i))
						require.NoError(t, err)
						require.Equal(t, eightBytes(n*(round-1)+i), got)
					}
					require.NoError(t, s.Close())
				}
				_, err := tab.Check()
				require.NoError(t, err)
				require.NoError(t, tab.Close())
			})
		}
	}
}
