package table_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// TestPinnedReadsAnswerAsOthers: the way of a reader that lost the check of the version too
// often, with a pin and with none left.
func TestPinnedReadsAnswerAsOthers(t *testing.T) {
	const n = 200
	h := pmem.NewHeap(nil, 8<<20)
	tab := openOn(t, h, pmem.Options{Geometry: tiny(2), Media: pmem.Tmpfs}, nil)
	for i := range n {
		require.NoError(t, tab.Put(key(i), value(i, i)))
	}
	for i := 0; i < n; i += 3 {
		require.NoError(t, tab.Delete(key(i)))
	}
	require.NoError(t, tab.Put(key(100), []byte("a value that is damaged")))
	require.NoError(t, tab.Close())

	// One record is damaged, in its value.
	image := h.Image()
	at := bytes.Index(image, []byte("that is damaged"))
	require.Positive(t, at)
	image[at] ^= 1
	tab = openOn(t, pmem.NewHeap(image, 8<<20), pmem.Options{Media: pmem.Tmpfs}, nil)

	for _, pins := range []string{"free", "taken"} {
		letGo := func() {}
		if pins == "taken" {
			letGo = tab.TakePins()
		}
		refused := 0
		for i := range n {
			want, wantErr := tab.Get(key(i))
			have, err := tab.GetPinned(key(i))
			if wantErr != nil {
				require.EqualError(t, err, wantErr.Error(), "key %d, pins %s", i, pins)
				require.ErrorIs(t, wantErr, map[bool]error{true: table.ErrCorrupt, false: table.ErrNotFound}[i == 100])
				refused++
				continue
			}
			require.NoError(t, err, "key %d, pins %s", i, pins)
			require.True(t, bytes.Equal(want, have), "key %d, pins %s", i, pins)
		}
		require.Equal(t, (n+2)/3+1, refused)
		letGo()
	}
	require.NoError(t, tab.Close())
	_, err := tab.GetPinned(key(1))
	require.ErrorIs(t, err, table.ErrClosed)
}

// TestBackupOfAReadOnlyTable: of a file that nobody writes, and no other.
func TestBackupOfAReadOnlyTable(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	writer := openOn(t, h, pmem.Options{Geometry: tiny(2), Media: pmem.Tmpfs}, nil)
	for i := range 300 {
		require.NoError(t, writer.Put(key(i), value(i, i)))
	}
	b := table.NewBatch()
	b.SetMetadata([]byte("metadata"))
	require.NoError(t, writer.Apply(b))
	want, err := readState(writer)
	require.NoError(t, err)
	openReader := func() *table.Table { return openOn(t, h, pmem.Options{ReadOnly: true}, nil) }

	beside := openReader()
	require.ErrorIs(t, beside.Backup(new(bytes.Buffer)), table.ErrLocked)
	require.NoError(t, beside.Close())

	require.NoError(t, writer.Close())
	reader := openReader()
	have, err := readState(restored(t, backup(t, reader), nil))
	require.NoError(t, err)
	require.Empty(t, diffOf(want, have))

	// A writer that comes meanwhile ends it.
	writer = openOn(t, h, pmem.Options{Media: pmem.Tmpfs}, nil)
	require.ErrorIs(t, reader.Backup(new(bytes.Buffer)), table.ErrLocked)
	require.NoError(t, reader.Close())
	require.NoError(t, writer.Close())
}
