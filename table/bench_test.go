package table_test

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The benchmarks here serve development; the comparison with the floor and with
// other stores is the bench module's.

const benchEntries = 1_000_000

var benchTable = sync.OnceValue(func() *table.Table {
	media := pmem.PageCache
	if canFlush() {
		media = pmem.DAX
	}
	h := pmem.NewHeap(nil, 512<<20)
	p, err := pmem.OpenHeap(h, pmem.Options{Media: media})
	if err != nil {
		panic(err)
	}
	tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
	if err != nil {
		panic(err)
	}
	v := value(1, 100)
	for i := range benchEntries {
		if err := tab.Put(key(i), v); err != nil {
			panic(err)
		}
	}
	return tab
})

// BenchmarkGet shows with -cpu 1,2 that reads scale: a Get writes no memory that
// another processor reads.
func BenchmarkGet(b *testing.B) {
	for _, c := range []struct {
		name   string
		offset int
	}{{"hit", 0}, {"miss", benchEntries}} {
		b.Run(c.name, func(b *testing.B) {
			tab := benchTable()
			var next atomic.Uint64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 0, 128)
				x := next.Add(1) * 0x9e3779b97f4a7c15
				for pb.Next() {
					x = x*6364136223846793005 + 1442695040888963407
					var k [16]byte
					copy(k[:], key(c.offset+int(x>>33)%benchEntries))
					_, err := tab.AppendGet(buf, k[:])
					if (err == nil) != (c.offset == 0) {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkPut overwrites and inserts on a fresh file that passes for persistent
// memory where the machine can.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"new", 1 << 40}, {"over", 100_000}} {
		b.Run(c.name, func(b *testing.B) {
			media := pmem.PageCache
			if canFlush() {
				media = pmem.DAX
			}
			tab, err := table.Open(filepath.Join(b.TempDir(), "b.pmt"), &table.Options{Media: media, Durability: table.OnSync})
			require.NoError(b, err)
			v := value(1, 100)
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(next.Add(1)) % c.keys
					if err := tab.Put(key(i), v); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			require.NoError(b, tab.Close())
		})
	}
}

// BenchmarkNeighbours has two goroutines each change and read the one entry of a stripe
// of its own. What stripes side by side have must not share lines that somebody stores
// to: then near costs no more than far. The same stripe shows what sharing would cost.
// (Stripes half of all apart take their blocks from the same shard of the allocator: so
// far is one further.)
func BenchmarkNeighbours(b *testing.B) {
	const stripes = 64
	h := pmem.NewHeap(nil, 64<<20)
	p, err := pmem.OpenHeap(h, pmem.Options{Media: pmem.Tmpfs, Geometry: pmem.Geometry{Stripes: stripes}})
	require.NoError(b, err)
	tab, err := table.OpenColliding(p, nil, binary.BigEndian.Uint64)
	require.NoError(b, err)
	keyOf := func(stripe int) []byte {
		return binary.BigEndian.AppendUint64(nil, uint64(stripe)<<(64-bits.TrailingZeros(stripes))|1)
	}
	v := value(1, 100)
	for _, c := range []struct {
		name     string
		distance int
	}{{"far", stripes/2 + 1}, {"near", 1}, {"same", 0}} {
		b.Run(c.name, func(b *testing.B) {
			var both sync.WaitGroup
			for _, stripe := range []int{7, 7 + c.distance} {
				both.Go(func() {
					k, buf := keyOf(stripe), make([]byte, 0, 128)
					for range b.N {
						if err := tab.Put(k, v); err != nil {
							b.Error(err)
						}
						if _, err := tab.AppendGet(buf, k); err != nil {
							b.Error(err)
						}
					}
				})
			}
			both.Wait()
		})
	}
	require.NoError(b, tab.Close())
}

// BenchmarkMany compares groups of 32 random keys with as many single calls, per key.
func BenchmarkMany(b *testing.B) {
	const group = 32
	tab := benchTable()
	keys, values := make([][]byte, benchEntries), make([][]byte, group)
	for i, n := range rand.New(rand.NewPCG(1, 2)).Perm(benchEntries) {
		keys[i] = key(n)
	}
	v := value(2, 100)
	for i := range values {
		values[i] = v
	}
	buf := make([]byte, 0, 128)
	for name, fn := range map[string]func(keys [][]byte) error{
		"get": func(keys [][]byte) (err error) {
			for _, k := range keys {
				_, err = tab.AppendGet(buf, k)
			}
			return err
		},
		"get many": func(keys [][]byte) (err error) {
			tab.GetMany(keys, func(_ int, _ []byte, e error) { err = e })
			return err
		},
		"put": func(keys [][]byte) (err error) {
			for i, k := range keys {
				err = tab.Put(k, values[i])
			}
			return err
		},
		"put many": func(keys [][]byte) error { return tab.PutMany(keys, values) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for done := 0; done < b.N; done += group {
				first := done % (benchEntries - group)
				if err := fn(keys[first : first+group]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTakeLogUp opens a table after a power loss, whose log holds some 100,000
// changes.
func BenchmarkTakeLogUp(b *testing.B) {
	g := pmem.Geometry{LogBytes: 32 << 20}
	h := pmem.NewHeap(nil, 256<<20)
	tab := openOn(b, h, pmem.Options{Geometry: g}, nil)
	for i := range 100_000 { // the log grows
		require.NoError(b, tab.Put(key(i), value(i, 100)))
	}
	require.NoError(b, tab.Compact()) // a commit
	for i := range 100_000 {
		require.NoError(b, tab.Put(key(i), value(i+1, 100)))
	}
	kill(tab)
	image := h.Image()
	var took time.Duration
	changes := 0
	for b.Loop() {
		b.StopTimer()
		h := pmem.NewHeap(image, 256<<20)
		h.Reboot()
		b.StartTimer()
		tab := openOn(b, h, pmem.Options{}, nil)
		s := tab.Stats()
		took, changes = took+s.LogReplayDuration, changes+s.LogReplayed
		b.StopTimer()
		kill(tab)
		b.StartTimer()
	}
	b.ReportMetric(float64(changes)/float64(b.N), "changes/op")
	b.ReportMetric(float64(took.Nanoseconds())/float64(max(changes, 1)), "ns/change")
}

// BenchmarkCheck checks a table of a million entries by one goroutine and by as many as
// processors, in turn, so that what slows the machine down meets both.
func BenchmarkCheck(b *testing.B) {
	tab := benchTable()
	workers := [2]int{1, runtime.GOMAXPROCS(0)}
	var took [2][]time.Duration
	var busy [2]time.Duration // of processors: on a busy machine the better figure
	var ratios []float64
	for b.Loop() {
		for i, n := range workers {
			began, used := time.Now(), processorTime()
			report, err := tab.CheckWith(b.Context(), table.CheckOptions{Workers: n})
			require.NoError(b, err)
			require.Equal(b, tab.Len(), report.Entries)
			took[i], busy[i] = append(took[i], time.Since(began)), busy[i]+processorTime()-used
		}
		n := len(ratios)
		ratios = append(ratios, float64(took[0][n])/float64(took[1][n]))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "times-as-fast")
	for i, n := range workers {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Milliseconds()), fmt.Sprint("ms-by-", n))
		b.ReportMetric(float64(busy[i].Milliseconds())/float64(len(took[i])), fmt.Sprint("processor-ms-by-", n))
	}
}
