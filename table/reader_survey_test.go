package table_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: figures of a survey that differ from what is there.

func sumOf(n []int64) (sum int64) {
	for _, i := range n {
		sum += i
	}
	return sum
}

// TestSurveyAgreesWithCheck: a survey of a table, by its writer or by a reader,
// counts what Check counts, which walks in another way.
func TestSurveyAgreesWithCheck(t *testing.T) {
	for _, media := range mediaHere() {
		for _, colliding := range []bool{false, true} {
			t.Run(fmt.Sprint(media, ", colliding ", colliding), func(t *testing.T) {
				r := seeded(t)
				h := pmem.NewHeap(nil, 8<<20)
				po := pmem.Options{Geometry: tiny(1 << r.IntN(3)), Media: media}
				hash := func(k []byte) uint64 { return uint64(k[len(k)-1]&1)<<63 | uint64(k[len(k)-1]&3)<<20 }
				if !colliding {
					hash = nil
				}
				p, err := pmem.OpenHeap(h, po)
				require.NoError(t, err)
				tab, err := table.OpenColliding(p, &table.Options{Durability: table.OnSync}, hash)
				require.NoError(t, err)
				agree(t, tab, po.Geometry)
				for range rounds(6, 3) {
					for range 100 {
						k := fmt.Appendf(nil, "key %d", r.IntN(400))
						if r.IntN(4) == 0 {
							require.NoError(t, tab.Delete(k))
						} else {
							require.NoError(t, tab.Put(k, value(r.IntN(200), r.IntN(6000)*r.IntN(2)+r.IntN(60))))
						}
					}
					b := table.NewBatch()
					b.SetMetadata(value(1, r.IntN(300)))
					require.NoError(t, tab.Apply(b))
					agree(t, tab, po.Geometry)
				}
				require.NoError(t, tab.Close())
				_, err = tab.Survey(nil)
				require.ErrorIs(t, err, table.ErrClosed)
				po.ReadOnly = true
				p, err = pmem.OpenHeap(h, po)
				require.NoError(t, err)
				reader, err := table.OpenColliding(p, nil, hash)
				require.NoError(t, err)
				agree(t, reader, po.Geometry)
				require.NoError(t, reader.Close())
			})
		}
	}
}

func agree(t *testing.T, tab *table.Table, g pmem.Geometry) {
	t.Helper()
	report := checked(t, tab)
	var values []int
	s, err := tab.Survey(func(_, value int) { values = append(values, value) })
	require.NoError(t, err)
	require.EqualValues(t, report.Entries, s.Entries)
	require.Equal(t, report.KeyBytes, s.KeyBytes)
	require.Equal(t, report.ValueBytes, s.ValueBytes)
	require.EqualValues(t, report.Directories, s.Directories)
	require.EqualValues(t, report.Segments, s.Segments)
	require.EqualValues(t, report.Chains, s.Chains)
	require.Equal(t, s.Segments*int64(g.Lines()*layout.SlotsPerLine), s.Slots)
	require.Equal(t, s.Entries, sumOf(s.ProbeLengths))
	if s.Chains == 0 {
		require.LessOrEqual(t, len(s.ProbeLengths), layout.WindowLines)
	}
	var want []int
	for _, v := range tab.All() {
		want = append(want, len(v))
	}
	require.NoError(t, tab.Err())
	slices.Sort(want)
	slices.Sort(values)
	require.Equal(t, want, values)
	bytes := s.Runs.Chunks * int64(g.ChunkBytes)
	chunks := s.Runs.Chunks
	for _, c := range s.Classes {
		require.LessOrEqual(t, c.Blocks, c.ChunkBlocks)
		require.LessOrEqual(t, c.PayloadBytes, c.Blocks*c.BlockBytes)
		bytes += c.Blocks * c.BlockBytes
		chunks += c.Chunks
	}
	require.Equal(t, report.ReachableBytes, bytes)
	require.EqualValues(t, report.Chunks-report.FreeChunks, chunks)
}

// TestActivityTellsWhatWasDone: of a writer elsewhere a reader learns as much as
// the file holds.
func TestActivityTellsWhatWasDone(t *testing.T) {
	h := pmem.NewHeap(nil, 16<<20)
	po := pmem.Options{Geometry: tiny(2), Media: pmem.PageCache}
	writer := openOn(t, h, po, &table.Options{Durability: table.OnSync})
	reader := view(t, h, pmem.PageCache)
	before := reader.Activity()
	for i := range 1000 {
		require.NoError(t, writer.Put(key(i), value(i, 100)))
	}
	for i := range 1000 {
		require.NoError(t, writer.Put(key(i), value(i, 50)))
	}
	require.NoError(t, writer.Sync())
	after := reader.Activity()
	require.Equal(t, before.Generation, after.Generation)
	require.Equal(t, before.CommitSequence+1, after.CommitSequence)
	require.Greater(t, after.Epoch, before.Epoch)
	require.Greater(t, after.FileSizeBytes, before.FileSizeBytes)
	require.GreaterOrEqual(t, after.Collections-before.Collections, uint64(1000/table.RetireCount/2))
	require.True(t, after.EntriesKnown)
	require.EqualValues(t, 1000, after.Entries)
	require.NoError(t, writer.Close())
	writer = openOn(t, h, po, nil)
	require.Equal(t, after.Generation+1, reader.Activity().Generation)
	require.NoError(t, writer.Close())
	require.NoError(t, reader.Close())
}

// TestSurvivesWithEachDurability: what a durability keeps is said of the medium,
// not of how this open was made.
func TestSurvivesWithEachDurability(t *testing.T) {
	for _, media := range mediaHere() {
		s := onHeap(t, media, 1, 1<<20).Stats() // opened OnSync
		always, sometimes := s.SurvivesWith(table.Always), s.SurvivesWith(table.Interval(5e9))
		if media == pmem.PageCache {
			require.NotEqual(t, always, s.Survives)
			require.Contains(t, always, "nothing acknowledged is lost")
			require.Contains(t, sometimes, "at most the last 5s")
		}
		require.Equal(t, s.Survives, s.SurvivesWith(table.OnSync))
	}
}
