package table_test

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: hashes that agree, wholly or in just the bits
// that place an entry, which make an insert split for ever, double a directory
// for nothing, lose an entry in a chain, or stop an iteration in the middle of
// equal hashes.

// collisions are hash functions that put keys together.
var collisions = map[string]func(h uint64) uint64{
	"all equal":                   func(uint64) uint64 { return 0x0123456789abcdef },
	"all zero":                    func(uint64) uint64 { return 0 },
	"all ones":                    func(uint64) uint64 { return ^uint64(0) },
	"top half equal":              func(h uint64) uint64 { return h & (1<<32 - 1) },
	"top half ones":               func(h uint64) uint64 { return h | (1<<32-1)<<32 },
	"low half equal":              func(h uint64) uint64 { return h &^ (1<<32 - 1) },
	"low half ones":               func(h uint64) uint64 { return h | (1<<32 - 1) },
	"one bit, the first":          func(h uint64) uint64 { return h & (1 << 63) },
	"one bit, the last":           func(h uint64) uint64 { return h & 1 },
	"three bits at the top":       func(h uint64) uint64 { return h & (7 << 61) },
	"three bits of a tag":         func(h uint64) uint64 { return h & (7 << 45) },
	"three bits behind the tag":   func(h uint64) uint64 { return h & (7 << 36) },
	"bits far apart":              func(h uint64) uint64 { return h & (1<<62 | 1<<50 | 1<<40 | 1<<33 | 1<<31 | 1<<7) },
	"all but few are equal":       func(h uint64) uint64 { return eitherOr(h, h>>8, 0x5555555555555555) },
	"equal but for the tag":       func(h uint64) uint64 { return h & ((1<<20 - 1) << 42) },
	"a long common prefix":        func(h uint64) uint64 { return h>>24 | 0xabcdef<<40 },
	"two long common prefixes":    func(h uint64) uint64 { return eitherOr(h, h>>24|0xabcdef<<40, h>>24|0xabcdee<<40) },
	"a prefix of every length":    func(h uint64) uint64 { return h >> (h & 31) },
	"ones of every length":        func(h uint64) uint64 { return ^(h >> (h & 31)) },
	"neighbours":                  func(h uint64) uint64 { return 0x7fffffffffffff00 + h&0x1ff },
	"low half zero or all ones":   func(h uint64) uint64 { return eitherOr(h, h&^(1<<32-1), h|(1<<32-1)) },
	"the last of each home line":  func(h uint64) uint64 { return h | 0x1fffffff },
	"same line, same stripe half": func(h uint64) uint64 { return h>>3&^(1<<32-1) | 77 },
}

// eitherOr chooses by a bit that no choice shows.
func eitherOr(h, a, b uint64) uint64 {
	if bits.OnesCount64(h)&1 == 0 {
		return a
	}
	return b
}

func TestCollisions(t *testing.T) {
	t.Parallel()
	n, many := alone(700, 200, 70), alone(3000, 200, 70) // the time grows with their square
	media := mediaHere()
	for name, place := range collisions {
		hash := func(key []byte) uint64 { return place(xxh3.Hash(key)) }
		for i, g := range []pmem.Geometry{tiny(1), tiny(4), {Stripes: 2}} {
			if i != len(name)%3 && alone(3, 3, 1) == 1 {
				continue
			}
			m, n := media[(i+len(name))%len(media)], n
			if name == "all equal" && i > 0 || name == "low half equal" {
				n = many
			}
			t.Run(fmt.Sprintf("%s/segments of %d, %d stripes on %v", name, g.SegmentBytes, g.Stripes, m), func(t *testing.T) {
				testCollisions(t, n, g, m, hash)
			})
		}
	}
}

func testCollisions(t *testing.T, n int, g pmem.Geometry, media pmem.Media, hash func([]byte) uint64) {
	h := pmem.NewHeap(nil, 48<<20)
	po := pmem.Options{Geometry: g, Media: media}
	open := func() *table.Table {
		p, err := pmem.OpenHeap(h, po)
		require.NoError(t, err)
		tab, err := table.OpenColliding(p, &table.Options{Durability: table.OnSync}, hash)
		require.NoError(t, err)
		return tab
	}
	tab := open()
	versions := make([]uint32, n) // 0: not there
	put := func(i int) {
		versions[i]++
		require.NoError(t, tab.Put(binary.LittleEndian.AppendUint32(nil, uint32(i)), told(uint32(i), versions[i], 1)))
	}
	verify := func() {
		t.Helper()
		there := 0
		for i, want := range versions {
			v, err := tab.Get(binary.LittleEndian.AppendUint32(nil, uint32(i)))
			if want == 0 {
				require.ErrorIs(t, err, table.ErrNotFound)
				continue
			}
			there++
			require.NoError(t, err, "key %d", i)
			version, err := readTold(uint32(i), v)
			require.NoError(t, err)
			require.Equal(t, want, version)
		}
		require.Equal(t, there, tab.Len())
		require.Equal(t, there, checked(t, tab).Entries)
		require.Len(t, contents(t, tab), there)
	}
	for i := range n {
		put(i)
	}
	verify()
	for i := 0; i < n; i += 3 {
		put(i)
	}
	verify()
	bounded(t, tab, n)
	size := tab.Stats().FileSizeBytes

	for i := range n {
		if i%2 == 0 {
			require.NoError(t, tab.Delete(binary.LittleEndian.AppendUint32(nil, uint32(i))))
			versions[i] = 0
		}
	}
	verify()
	kill(tab)
	tab = open()
	verify()
	for i := range n {
		if versions[i] == 0 {
			put(i)
		}
	}
	verify()
	require.NoError(t, tab.Close())
	tab = open()
	verify()
	bounded(t, tab, n)
	require.LessOrEqual(t, float64(tab.Stats().FileSizeBytes), 1.5*float64(size), "what was deleted is not used again")
	require.NoError(t, tab.Clear())
	clear(versions)
	verify()
	require.NoError(t, tab.Close())
}

// bounded: the directories are hardly deeper than their segments need, and the
// space is in proportion to the entries, whatever the hashes.
func bounded(t *testing.T, tab *table.Table, n int) {
	t.Helper()
	g, report := tab.Pool().Geometry(), checked(t, tab)
	// However full, a window holds 32 entries, and splits leave at least half.
	require.LessOrEqual(t, report.Segments, 4*g.Stripes+n/4)
	for stripe := range g.Stripes {
		require.LessOrEqual(t, tab.Depth(stripe), uint(bits.Len(uint(report.Segments)))+6, "stripe %d", stripe)
	}
	limit := int64(tab.Pool().Regions().Arena) + int64(24*g.ChunkBytes) + int64(n)*256 + 3*int64(report.Segments*g.SegmentBytes)
	require.LessOrEqual(t, tab.Stats().FileSizeBytes, limit)
}
