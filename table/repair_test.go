package table_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// The failures looked for here: an intact record that is left behind, a value that
// nobody stored, a deleted entry that comes back though all is intact, and a
// repair that leaves a mess or does not end.

// repaired salvages an image into a new table on the heap.
func repaired(t require.TestingT, image []byte, reach recovery.Reach) (map[string]string, table.RepairReport, error) {
	return repairedOf(t, pmem.NewHeap(image, 0), reach)
}

func repairedOf(t require.TestingT, h *pmem.Heap, reach recovery.Reach) (map[string]string, table.RepairReport, error) {
	p, damage, err := pmem.OpenHeapDamaged(h)
	if err != nil {
		return nil, table.RepairReport{}, err
	}
	out := openOn(t, pmem.NewHeap(nil, 2<<20), pmem.Options{Media: pmem.Tmpfs, Geometry: tiny(2)}, nil)
	report, err := out.Salvage(p, damage, reach)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	have := contents(t, out)
	require.Equal(t, report.Entries, len(have))
	checked(t, out)
	require.NoError(t, out.Close())
	return have, report, nil
}

// churned is a table in which every key was overwritten and some were deleted, so
// that free blocks are full of the past.
func churned(t testing.TB, media pmem.Media, closed bool) ([]byte, map[string]string) {
	h := pmem.NewHeap(nil, 4<<20)
	tab := openOn(t, h, pmem.Options{Media: media, Geometry: tiny(2)}, &table.Options{Durability: table.OnSync})
	want := make(map[string]string)
	put := func(i, round int) {
		k, v := key(i), value(i+1000*round, (i*7+round*40)%300)
		require.NoError(t, tab.Put(k, v))
		want[string(k)] = string(v)
	}
	for i := range 60 {
		put(i, 0)
	}
	require.NoError(t, tab.Sync())
	if media == pmem.Tmpfs { // a snapshot begins an epoch there, a Sync does not
		snap, err := tab.Snapshot()
		require.NoError(t, err)
		require.NoError(t, snap.Close())
	}
	for i := range 30 {
		require.NoError(t, tab.Delete(key(i)))
		delete(want, string(key(i)))
	}
	for i := 20; i < 50; i++ {
		put(i, 1)
	}
	put(7, 2)
	b := table.NewBatch()
	b.SetMetadata([]byte("the metadata"))
	require.NoError(t, tab.Apply(b))
	if closed {
		require.NoError(t, tab.Close())
		return h.Image(), want
	}
	require.NoError(t, tab.Sync())
	tab.DieHeld()
	return h.Image(), want
}

// places returns where the records of the keys of want lie, newest version.
func places(t require.TestingT, image []byte, want map[string]string) map[string][2]int {
	out := make(map[string][2]int)
	for k, v := range want {
		at := bytes.Index(image, append([]byte(k), v...))
		size := layout.RecordBytes(len(k), len(v))
		begin := at - (size - len(k) - len(v))
		require.Positive(t, at)
		require.True(t, layout.RecordIntact(image[begin:begin+size]))
		out[k] = [2]int{begin, begin + size}
	}
	return out
}

func TestRepairOfAnIntactTableBringsNothingBack(t *testing.T) {
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, closed := range []bool{true, false} {
			image, want := churned(t, media, closed)
			have, report, err := repaired(t, image, recovery.DamagedRanges)
			require.NoError(t, err)
			require.Equal(t, want, have, "%v closed %v: %v", media, closed, report.Problems)
			require.True(t, report.Complete, "%v", report.Problems)
			require.True(t, report.Metadata)
			require.Zero(t, report.Scanned)
		}
	}
}

// TestRepairFindsAllOtherRecords flips bits anywhere outside some records: all
// those come back, and with the value they had.
func TestRepairFindsAllOtherRecords(t *testing.T) {
	t.Parallel()
	type source struct {
		image  []byte
		want   map[string]string
		places map[string][2]int
	}
	var sources []source
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, closed := range []bool{true, false} {
			image, want := churned(t, media, closed)
			sources = append(sources, source{image, want, places(t, image, want)})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := sources[rapid.IntRange(0, len(sources)-1).Draw(t, "source")]
		image := bytes.Clone(s.image)
		keys := rapid.Permutation(sortedKeys(s.want)).Draw(t, "keys")
		kept := keys[:rapid.IntRange(1, len(keys)).Draw(t, "k")]
		protected := make([]bool, len(image))
		for _, k := range kept {
			for i := s.places[k][0]; i < s.places[k][1]; i++ {
				protected[i] = true
			}
		}
		flips := 1 << rapid.IntRange(0, 12).Draw(t, "flips")
		rng := rapid.Uint64().Draw(t, "seed")
		for range flips {
			rng = rng*6364136223846793005 + 1442695040888963407
			bit := int(rng >> 20 % uint64(len(image)*8))
			if at := bit / 8; !protected[at] && at >= layout.PageBytes { // the header has a test of its own
				image[at] ^= 1 << (bit % 8)
			}
		}
		have, report, err := repaired(t, image, recovery.DamagedRanges)
		require.NoError(t, err)
		for _, k := range kept {
			require.Equal(t, s.want[k], have[k], "key %x at %#x, %d flips; %+v", k, s.places[k][0], flips, report)
		}
	})
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	// In a fixed order, so that a seed repeats a run.
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

// TestRepairWithoutTheHeader destroys the header page: the geometry is found by
// what else there is.
func TestRepairWithoutTheHeader(t *testing.T) {
	image, want := churned(t, pmem.PageCache, true)
	for _, damage := range []func(page []byte){
		func(page []byte) { page[50]++ },                                // the checksum fails, the sizes are there
		func(page []byte) { clear(page) },                               // nothing is
		func(page []byte) { copy(page, bytes.Repeat([]byte{7}, 4096)) }, // worse
	} {
		broken := bytes.Clone(image)
		damage(broken[:layout.PageBytes])
		have, report, err := repaired(t, broken, recovery.DamagedRanges)
		require.NoError(t, err)
		require.Equal(t, want, have)
		require.False(t, report.Complete)
		require.NotEmpty(t, report.Problems)
	}
	_, _, err := repaired(t, make([]byte, 1<<16), recovery.DamagedRanges)
	require.ErrorIs(t, err, table.ErrNotPool)
	binary.LittleEndian.PutUint32(image[12:], 99)
	binary.LittleEndian.PutUint32(image[4092:], checksum(image[:4092]))
	_, _, err = repaired(t, image, recovery.DamagedRanges)
	require.ErrorIs(t, err, table.ErrVersion)
}

// TestRepairWithoutRoots destroys every root, both sessions and all directories:
// only the records are left to go by.
func TestRepairWithoutRoots(t *testing.T) {
	image, want := churned(t, pmem.PageCache, true)
	r := tiny(2).Regions()
	clear(image[layout.PageBytes:r.Arena])
	have, report, err := repaired(t, image, recovery.DamagedRanges)
	require.NoError(t, err)
	for k, v := range want {
		require.Equal(t, v, have[k])
	}
	require.Zero(t, report.Reached)
	require.Equal(t, len(have), report.Scanned)
	have, report, err = repaired(t, image, recovery.ReachableOnly)
	require.NoError(t, err)
	require.Empty(t, have)
	require.False(t, report.Complete)
}

// TestRepairOfACutFile keeps what lies before the cut.
func TestRepairOfACutFile(t *testing.T) {
	t.Parallel()
	image, want := churned(t, pmem.PageCache, true)
	at := places(t, image, want)
	step := 777
	if testing.Short() {
		step = 7777
	}
	for n := layout.PageBytes; n < len(image); n += step {
		have, _, err := repaired(t, image[:n], recovery.DamagedRanges)
		require.NoError(t, err)
		for k, v := range want {
			if at[k][1] <= n && n > int(tiny(2).Regions().Arena) {
				require.Equal(t, v, have[k], "key %x of a file cut off at %d", k, n)
			}
		}
	}
}

// TestRepairMakesAFile goes through the file system.
func TestRepairMakesAFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	tab, err := table.Open(src, &table.Options{Stripes: 2, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 50 {
		require.NoError(t, tab.Put(key(i), value(i, i)))
	}
	big := bytes.Repeat([]byte("large"), 100_000)
	require.NoError(t, tab.Put([]byte("big"), big))
	want := contents(t, tab)
	_, err = table.Repair(src, dst, table.RepairOptions{})
	require.ErrorIs(t, err, table.ErrLocked)
	require.NoError(t, tab.Close())

	image, err := os.ReadFile(src)
	require.NoError(t, err)
	g := pmem.DefaultGeometry()
	g.Stripes, g.LogBytes = 2, 64<<10
	for _, at := range g.Regions().Superblock {
		image[at+8]++
	}
	require.NoError(t, os.WriteFile(src, image, 0o400))
	_, err = table.Open(src, &table.Options{ReadOnly: true})
	require.ErrorIs(t, err, table.ErrCorrupt)

	report, err := table.Repair(src, dst, table.RepairOptions{})
	require.NoError(t, err)
	require.Equal(t, 51, report.Entries)
	require.False(t, report.Complete)
	again, err := os.ReadFile(src)
	require.NoError(t, err)
	require.Equal(t, image, again, "the damaged file is as it was")
	_, err = table.Repair(src, dst, table.RepairOptions{})
	require.ErrorIs(t, err, fs.ErrExist)

	tab, err = table.Open(dst, &table.Options{MustExist: true})
	require.NoError(t, err)
	require.Equal(t, want, contents(t, tab))
	checked(t, tab)
	require.NoError(t, tab.Close())
	require.Equal(t, []string{"dst", "src"}, names(t, dir))
}

// TestRepairThatFailsLeavesNothing: the new table is too small for what was found.
func TestRepairThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	tab, err := table.Open(src, &table.Options{Stripes: 1, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 8 {
		require.NoError(t, tab.Put(key(i), make([]byte, 200_000)))
	}
	require.NoError(t, tab.Close())
	_, err = table.Repair(src, dst, table.RepairOptions{MaxSize: 1 << 20})
	require.ErrorIs(t, err, table.ErrFull)
	_, err = table.Repair(src, filepath.Join(dir, "none", "dst"), table.RepairOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = table.Repair(filepath.Join(dir, "none"), dst, table.RepairOptions{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = table.Repair(dir, dst, table.RepairOptions{})
	require.ErrorIs(t, err, table.ErrNotPool)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tiny"), []byte("PMTB"), 0o600))
	_, err = table.Repair(filepath.Join(dir, "tiny"), dst, table.RepairOptions{})
	require.ErrorIs(t, err, table.ErrNotPool)
	require.Equal(t, []string{"src", "tiny"}, names(t, dir))
}

// TestRepairEndsWithItsContext stops at any record, in either pass.
func TestRepairEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	tab, err := table.Open(src, &table.Options{Stripes: 2, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 40 {
		require.NoError(t, tab.Put(key(i), value(i, i)))
	}
	require.NoError(t, tab.Close())
	for _, reach := range []recovery.Reach{recovery.ReachableOnly, recovery.Everything} {
		for stopAt := range 40 {
			ctx, stop := context.WithCancel(t.Context())
			met := 0
			o := table.RepairOptions{Reach: reach, Progress: func(n int) {
				if met += n; met >= stopAt {
					stop()
				}
			}}
			if stopAt == 0 {
				stop()
			}
			_, err := table.RepairContext(ctx, src, dst, o)
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, stopAt, met)
			require.Equal(t, []string{"src"}, names(t, dir))
		}
	}
	report, err := table.RepairContext(t.Context(), src, dst, table.RepairOptions{})
	require.NoError(t, err)
	require.Equal(t, 40, report.Entries)
}

func names(t testing.TB, dir string) (out []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestRepairEndsOnOverlappingRecords: a file made so that every unit begins an
// intact record to the end of its chunk would take a checksum over half of the
// chunk for each.
func TestRepairEndsOnOverlappingRecords(t *testing.T) {
	t.Parallel()
	image, _ := churned(t, pmem.PageCache, true)
	arena := int(tiny(2).Regions().Arena)
	clear(image[layout.PageBytes : arena+4096]) // roots and descriptors
	for at := arena + 4096; at+layout.UnitBytes <= len(image); at += layout.UnitBytes {
		var head [layout.MaxRecordHeaderBytes]byte
		left := 4096 - (at-arena)%4096
		layout.RecordHeader(&head, 5, 0, max(left-len(head), 256))
		copy(image[at+4:], head[4:])
	}
	_, report, err := repaired(t, image, recovery.DamagedRanges)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(report.Problems), "out of proportion")
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, layout.Castagnoli) }
