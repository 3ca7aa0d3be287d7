package table_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: a stream of which a byte, a bit or a whole frame is
// wrong and that makes a table; or two streams that differ though the table did not.

// TestBackupsOfEqualContentsAreEqual: what a table went through does not show in
// its backup: only the contents do.
func TestBackupsOfEqualContentsAreEqual(t *testing.T) {
	t.Parallel()
	for _, media := range mediaFor(t) {
		t.Run(media.String(), func(t *testing.T) {
			r := seeded(t)
			h := pmem.NewHeap(nil, 16<<20)
			po := pmem.Options{Geometry: tiny(4), Media: media}
			tab := openOn(t, h, po, &table.Options{Durability: table.OnSync})
			const n = 500
			put := func(i int) { require.NoError(t, tab.Put(key(i), value(i, i%90))) }
			for i := range n {
				put(i)
			}
			b := table.NewBatch()
			b.SetMetadata([]byte("metadata"))
			require.NoError(t, tab.Apply(b))
			want := backup(t, tab)
			for what, change := range map[string]func(){
				"put again in another order": func() {
					for _, i := range r.Perm(n) {
						put(i)
					}
				},
				"deleted and put again": func() {
					for _, i := range r.Perm(n)[:n/2] {
						require.NoError(t, tab.Delete(key(i)))
						if r.IntN(2) == 0 {
							put(i)
						}
					}
					for i := range n {
						put(i)
					}
				},
				"grown and shrunk": func() {
					for i := range 3000 {
						require.NoError(t, tab.Put(key(n+i), nil))
					}
					for i := range 3000 {
						require.NoError(t, tab.Delete(key(n+i)))
					}
					require.NoError(t, tab.Compact())
				},
				"cleared and filled": func() {
					require.NoError(t, tab.Clear())
					for _, i := range r.Perm(n) {
						put(i)
					}
				},
				"killed and opened": func() {
					kill(tab)
					tab = openOn(t, h, po, &table.Options{Durability: table.OnSync})
				},
				"closed and opened": func() {
					require.NoError(t, tab.Close())
					tab = openOn(t, h, po, &table.Options{Durability: table.OnSync})
				},
			} {
				change()
				require.True(t, bytes.Equal(want, backup(t, tab)), what)
			}
			// The stream tells entries apart by every byte.
			require.NoError(t, tab.Put(key(n/2), []byte("other")))
			require.False(t, bytes.Equal(want, backup(t, tab)))
			require.NoError(t, tab.Close())
		})
	}
}

// TestEveryBitOfABackupCounts: a small stream, cut off at every byte, and with
// every bit turned.
func TestEveryBitOfABackupCounts(t *testing.T) {
	t.Parallel()
	r := seeded(t)
	tab := onHeap(t, pmem.Tmpfs, 1, 1<<20)
	require.NoError(t, tab.Put([]byte("k"), []byte("value")))
	b := table.NewBatch()
	b.SetMetadata([]byte("m"))
	require.NoError(t, tab.Apply(b))
	stream := backup(t, tab)
	dir := t.TempDir()
	step := rounds(1, 15)
	for n := r.IntN(rounds(1, 3)); n < len(stream); n += rounds(1, 3) {
		refused(t, dir, bytes.NewReader(stream[:n]), table.ErrBadBackup, fmt.Sprintf("cut off at %d of %d", n, len(stream)))
	}
	for at := r.IntN(step); at < 8*len(stream); at += step {
		bad := bytes.Clone(stream)
		bad[at/8] ^= 1 << (at % 8)
		refused(t, dir, bytes.NewReader(bad), table.ErrBadBackup, fmt.Sprintf("bit %d of byte %d turned", at%8, at/8))
	}
}

// frames cuts a stream where its frames end.
func frames(t *testing.T, stream []byte) (out [][]byte) {
	for at := 8; at < len(stream); {
		size, n := binary.Uvarint(stream[at+1:])
		require.Positive(t, n)
		end := at + 1 + n + int(size) + 4
		out = append(out, stream[at:end])
		at = end
	}
	return out
}

// TestWholeFramesOfABackupCount: each frame has a checksum of its own, so what is
// wrong with their order or number must be found by what binds them together.
func TestWholeFramesOfABackupCount(t *testing.T) {
	t.Parallel()
	tab := onHeap(t, pmem.Tmpfs, 2, 8<<20)
	entries := rounds(4, 2) // each fills a frame
	for i := range entries {
		require.NoError(t, tab.Put(key(i), value(i, 300_000)))
	}
	stream := backup(t, tab)
	parts := frames(t, stream)
	require.Len(t, parts, entries+2) // metadata first, and the end
	join := func(parts ...[]byte) []byte { return append(bytes.Clone(stream[:8]), bytes.Join(parts, nil)...) }
	require.Equal(t, stream, join(parts...))
	dir := t.TempDir()
	for i := range parts {
		without := slices.Delete(slices.Clone(parts), i, i+1)
		refused(t, dir, bytes.NewReader(join(without...)), table.ErrBadBackup, fmt.Sprint("without frame ", i))
		doubled := slices.Insert(slices.Clone(parts), i, parts[i])
		refused(t, dir, bytes.NewReader(join(doubled...)), table.ErrBadBackup, fmt.Sprint("twice frame ", i))
		if i > 0 {
			swapped := slices.Clone(parts)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			refused(t, dir, bytes.NewReader(join(swapped...)), table.ErrBadBackup, fmt.Sprint("frames ", i-1, " and ", i, " swapped"))
		}
	}
	require.NoError(t, tab.Put(key(9), nil))
	other := frames(t, backup(t, tab))
	mixed := slices.Clone(parts)
	mixed[len(mixed)-1] = other[len(other)-1]
	refused(t, dir, bytes.NewReader(join(mixed...)), table.ErrBadBackup, "the end of another backup")
}
