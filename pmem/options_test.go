package pmem_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
)

func TestParseMediaIsTheInverseOfString(t *testing.T) {
	for m := pmem.Auto; m <= pmem.Tmpfs; m++ {
		back, err := pmem.ParseMedia(m.String())
		require.NoError(t, err)
		require.Equal(t, m, back)
		text, err := json.Marshal(m)
		require.NoError(t, err)
		back = pmem.Tmpfs + 1
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, m, back)
	}
	back, err := pmem.ParseMedia("PageCache")
	require.NoError(t, err)
	require.Equal(t, pmem.PageCache, back)
	for _, wrong := range []string{"", "page", "dax2"} {
		_, err := pmem.ParseMedia(wrong)
		require.ErrorContains(t, err, "pagecache")
	}
}

// TestHeapHasOneWriter: the second writer of a heap medium is refused, a reader and the
// next writer are not.
func TestHeapHasOneWriter(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p := openHeap(t, h)
	_, err := pmem.OpenHeap(h, pmem.Options{})
	require.ErrorIs(t, err, pmem.ErrLocked)
	reader, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: true})
	require.NoError(t, err)
	require.True(t, reader.WriterLive())
	require.NoError(t, reader.Close())
	require.NoError(t, p.Close())
	p, err = pmem.OpenHeap(h, pmem.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

// TestHeapIsFullAtItsLimit: a medium that is full is ErrFull from the call that needs
// the room, and gives it when it has grown.
func TestHeapIsFullAtItsLimit(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	p := openHeap(t, h)
	h.LimitBytes = int64(p.SizeBytes())
	p.GiveUpSweep()
	var err error
	for range 10000 {
		if _, err = p.Alloc(1000, 0, pmem.Usual); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, pmem.ErrFull)
	h.LimitBytes = 0
	_, err = p.Alloc(1000, 0, pmem.Usual)
	require.NoError(t, err)
	require.NoError(t, p.Close())
}
