package table_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// What the test files of this package share.

// tiny is a geometry in which every test of a few entries meets splits, chains,
// runs and chunks that fill up.
func tiny(stripes int) pmem.Geometry {
	return pmem.Geometry{Stripes: stripes, ChunkBytes: 4096, SegmentBytes: 512, IntentBytes: 4096}
}

// withLog is tiny with room for a log.
func withLog(stripes, logBytes int) pmem.Geometry {
	g := tiny(stripes)
	g.LogBytes = logBytes
	return g
}

// openOn opens a table on a heap medium.
func openOn(t require.TestingT, h *pmem.Heap, po pmem.Options, o *table.Options) *table.Table {
	p, err := pmem.OpenHeap(h, po)
	require.NoError(t, err)
	tab, err := table.OpenPool(p, table.MarkBeside(o))
	require.NoError(t, err)
	return tab
}

// onHeap opens a new tiny table that is closed when the test ends.
func onHeap(t testing.TB, media pmem.Media, stripes, maxBytes int) *table.Table {
	po := pmem.Options{Geometry: tiny(stripes), Media: media}
	tab := openOn(t, pmem.NewHeap(nil, maxBytes), po, &table.Options{Durability: table.OnSync})
	t.Cleanup(func() { require.NoError(t, tab.Close()) })
	return tab
}

// kill ends a table as the death of its process would, and gives its lock back.
// No call may be under way.
func kill(tab *table.Table) {
	tab.DieHeld()
	_ = tab.Pool().Close() // stores nothing
}

// eachTable runs a test on an empty table of every kind: in a file and on the
// heap, of every medium, of the default and of a tiny geometry.
func eachTable(t *testing.T, test func(t *testing.T, tab *table.Table)) {
	t.Run("file", func(t *testing.T) {
		tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Stripes: 4})
		require.NoError(t, err)
		defer func() { require.NoError(t, tab.Close()) }()
		test(t, tab)
	})
	for _, media := range mediaHere() {
		t.Run("file as "+media.String(), func(t *testing.T) {
			o := &table.Options{Media: media, Durability: table.OnSync}
			tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), o)
			require.NoError(t, err)
			defer func() { require.NoError(t, tab.Close()) }()
			test(t, tab)
		})
		t.Run("tiny heap as "+media.String(), func(t *testing.T) {
			h := pmem.NewHeap(nil, 24<<20)
			tab := openOn(t, h, pmem.Options{Geometry: tiny(1), Media: media}, nil)
			defer func() { require.NoError(t, tab.Close()) }()
			test(t, tab)
		})
	}
}

// interrupter is a hook that, now and then, lets other goroutines run right after
// a store or a write-back, with the stripe locked or not: so that others meet what
// a writer has done by halves.
type interrupter struct{ stores atomic.Uint64 }

func (h *interrupter) maybe() {
	if n := h.stores.Add(1) * 0x9e3779b97f4a7c15; n>>62 == 0 {
		runtime.Gosched()
	}
}

func (h *interrupter) Store(_, _ uint64, apply func())       { apply(); h.maybe() }
func (h *interrupter) Copy(_ uint64, _ []byte, apply func()) { apply(); h.maybe() }
func (h *interrupter) WriteBack(uint64, int)                 { h.maybe() }
func (h *interrupter) Drain()                                { h.maybe() }
func (h *interrupter) Sync(apply func() error) error         { h.maybe(); return apply() }

// seeded returns a source of random numbers, and prints its seed.
// PMEMTABLE_TEST_SEED repeats a run.
func seeded(t testing.TB) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("PMEMTABLE_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("PMEMTABLE_TEST_SEED=%d repeats this run", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// told is a value that says whose it is: key and version, again and again. One
// that was mixed from two, or belongs to another key, cannot pass readTold.
func told(k, version uint32, n int) []byte {
	b := make([]byte, 0, 16*n)
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, k)
		b = binary.LittleEndian.AppendUint32(b, version)
		b = binary.LittleEndian.AppendUint64(b, (uint64(k)<<32|uint64(version))*0x9e3779b97f4a7c15+uint64(i))
	}
	return b
}

// readTold returns the version of a value of key k, or what is wrong with it.
func readTold(k uint32, b []byte) (version uint32, err error) {
	if len(b) == 0 || len(b)%16 != 0 {
		return 0, fmt.Errorf("key %d: a value of %d bytes", k, len(b))
	}
	version = binary.LittleEndian.Uint32(b[4:])
	if want := told(k, version, len(b)/16); !bytes.Equal(b, want) {
		return version, fmt.Errorf("key %d, version %d: %d bytes that nobody wrote: % x", k, version, len(b), b[:min(len(b), 64)])
	}
	return version, nil
}

// contents reads everything by iteration; a key seen twice fails the test.
func contents(t require.TestingT, tab *table.Table) map[string]string {
	m := make(map[string]string)
	for k, v := range tab.All() {
		_, twice := m[string(k)]
		require.False(t, twice, "key %x was seen twice", k)
		m[string(k)] = string(v)
	}
	require.NoError(t, tab.Err())
	return m
}

// checked runs Check, which must find nothing.
func checked(t require.TestingT, tab *table.Table) table.Report {
	report, err := tab.Check()
	require.NoError(t, err, "%v", report.Problems)
	return report
}
