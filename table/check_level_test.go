package table_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
	"pmemtable/table"
)

// closedPlaces finds one object of each kind in stripe 0 of a table that was closed.
func closedPlaces(t *testing.T, b []byte) (directory, segment, slot, record uint64) {
	t.Helper()
	directory, segment, slots := stripePlaces(t, b, 0)
	return directory, segment, slots[0], layout.SlotRecord(binary.LittleEndian.Uint64(b[slots[0]:]))
}

// stripePlaces finds the directory of a stripe, its first segment, and the slots of
// that which hold a record.
func stripePlaces(t *testing.T, b []byte, stripe int) (directory, segment uint64, slots []uint64) {
	t.Helper()
	h, err := layout.DecodeHeader(b)
	require.NoError(t, err)
	g := h.Geometry()
	var newest *layout.Superblock
	for _, at := range g.Regions().Superblock {
		if s, ok := layout.DecodeSuperblock(g, b[at:]); ok && (newest == nil || s.Sequence > newest.Sequence) {
			newest = s
		}
	}
	require.NotNil(t, newest)
	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	directory, _, _ = layout.DecodeStripeRoot(newest.Roots[stripe])
	segment, _, _, _ = layout.DecodeDirectoryWord(word(directory + layout.DirectoryHeaderBytes))
	for at := segment + layout.LineBytes; at < segment+uint64(g.SegmentBytes); at += layout.WordBytes {
		if word(at)&layout.SlotLinkMask != 0 {
			slots = append(slots, at)
		}
	}
	require.NotEmpty(t, slots)
	return directory, segment, slots
}

// TestCheckLevels damages one place of each kind: the level that looks there finds
// it, and so do those above; those below do not.
func TestCheckLevels(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "t")
	tab, err := table.Open(path, &table.Options{Stripes: 2, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 500 {
		require.NoError(t, tab.Put(fmt.Append(nil, "key ", i), fmt.Append(nil, "value ", i)))
	}
	require.NoError(t, tab.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	directory, segment, slot, record := closedPlaces(t, whole)
	for _, c := range []struct {
		what  string
		at    uint64
		bit   byte
		level recovery.Level // the first that finds it
	}{
		{"nothing", 0, 0, recovery.LevelFull + 1},
		{"directory header", directory, 1, recovery.LevelHeader},
		{"segment header", segment + 16, 1, recovery.LevelStructure},
		{"a record's key", record + 12 + 5, 1, recovery.LevelChecksum},
		{"slot's tag", slot + 1, 1, recovery.LevelFull},
	} {
		image := append([]byte(nil), whole...)
		image[c.at] ^= c.bit
		require.NoError(t, os.WriteFile(path, image, 0o600))
		tab, err := table.Open(path, &table.Options{ReadOnly: true})
		require.NoError(t, err)
		for level := recovery.LevelHeader; level <= recovery.LevelFull; level++ {
			var told atomic.Int64
			report, err := tab.CheckWith(t.Context(), table.CheckOptions{Level: level,
				Progress: func(n int) { told.Add(int64(n)) }})
			if level >= c.level {
				assert.ErrorIs(t, err, table.ErrCorrupt, "%s at level %s", c.what, level)
				continue
			}
			assert.NoError(t, err, "%s at level %s", c.what, level)
			want := int64(500)
			if level == recovery.LevelHeader {
				want = 0
			}
			assert.Equal(t, want, int64(report.Entries), "%s at level %s", c.what, level)
			assert.Equal(t, want, told.Load(), "%s at level %s", c.what, level)
		}
		require.NoError(t, tab.Close())
	}
}

// TestCheckReportsTheSameByAnyNumberOfWorkers damages a table in ways in which the
// order of the stripes could show: several of them refer to one block, or there are
// more problems than a report lists.
func TestCheckReportsTheSameByAnyNumberOfWorkers(t *testing.T) {
	t.Parallel()
	const stripes = 16
	path := filepath.Join(t.TempDir(), "t")
	tab, err := table.Open(path, &table.Options{Stripes: stripes, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 3000 {
		require.NoError(t, tab.Put(fmt.Append(nil, "key ", i), fmt.Append(nil, "value ", i)))
	}
	require.NoError(t, tab.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	var slots [stripes][]uint64
	for i := range slots {
		_, _, slots[i] = stripePlaces(t, whole, i)
	}
	word := func(b []byte, at uint64) []byte { return b[at : at+layout.WordBytes] }
	for name, damage := range map[string]func(image []byte){
		"nothing": func([]byte) {},
		"one block for many slots": func(image []byte) {
			for i := range slots {
				for j := range 20 {
					copy(word(image, slots[i][j]), word(whole, slots[(i+j)%stripes][0]))
				}
			}
		},
		"all checksums": func(image []byte) {
			for i := range slots {
				for _, at := range slots[i] {
					image[layout.SlotRecord(binary.LittleEndian.Uint64(word(whole, at)))+16] ^= 1
				}
			}
		},
		"a segment for a record": func(image []byte) {
			_, segment, _ := stripePlaces(t, whole, 5)
			binary.LittleEndian.PutUint64(word(image, slots[3][0]), layout.Slot(segment, 0, 0))
		},
	} {
		image := append([]byte(nil), whole...)
		damage(image)
		require.NoError(t, os.WriteFile(path, image, 0o600))
		tab, err := table.Open(path, &table.Options{ReadOnly: true})
		require.NoError(t, err)
		for level := recovery.LevelHeader; level <= recovery.LevelFull; level++ {
			want, wantErr := tab.CheckWith(t.Context(), table.CheckOptions{Level: level, Workers: 1})
			for range 3 {
				for _, workers := range []int{0, 2, 3, stripes} {
					have, err := tab.CheckWith(t.Context(), table.CheckOptions{Level: level, Workers: workers})
					require.Equal(t, want, have, "%s at level %s, by %d workers", name, level, workers)
					require.Equal(t, wantErr, err)
				}
			}
			assert.Equal(t, name == "all checksums" && level >= recovery.LevelChecksum, want.Dropped > 0, "%s at level %s", name, level)
		}
		require.NoError(t, tab.Close())
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "t"), nil)
	require.NoError(t, err)
	defer tab.Close()
	require.NoError(t, tab.Put([]byte("k"), []byte("v")))
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = tab.CheckWith(ctx, table.CheckOptions{})
	assert.ErrorIs(t, err, context.Canceled)
}
