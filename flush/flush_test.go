package flush

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/race"
)

// eachWay runs test by every method this machine has and by the one without
// write-backs, which needs no hardware; on amd64 also with non-temporal stores
// for no copy, for long ones and for all.
func eachWay(t *testing.T, test func(t *testing.T)) {
	if !Available() {
		t.Skip("no instruction to flush with")
	}
	for _, name := range methodsToTest() {
		for _, streamBytes := range streamSizesToTest {
			t.Run(fmt.Sprintf("%s/stream=%d", name, streamBytes), func(t *testing.T) {
				useForTest(t, name)
				setStreamBytes(t, streamBytes)
				test(t)
			})
		}
	}
}

func methodsToTest() []string {
	names := Methods()
	if names[0] != methodCache {
		names = append(names, methodCache)
	}
	return names
}

// useForTest makes name the method in use until the test ends.
func useForTest(t testing.TB, name string) {
	before := method
	method = choose([]string{name})
	t.Cleanup(func() { method = choose([]string{before}) })
}

// TestMethod tells what the machine has; CI runs it with -v for that.
func TestMethod(t *testing.T) {
	t.Logf("%s/%s: method %q of %q, complete %v, line %d bytes, caches persistent %v",
		runtime.GOOS, runtime.GOARCH, Method(), Methods(), Complete(), LineSizeBytes(), CacheIsPersistent())
	assert.Equal(t, Available(), len(Methods()) > 0)
	assert.Equal(t, Available(), Method() != "none")
	if Available() {
		assert.Equal(t, Methods()[0], Method())
	}
	line := LineSizeBytes()
	assert.Zero(t, line&(line-1), "a line is a power of two")
	assert.GreaterOrEqual(t, line, uintptr(16))
	for i := range Methods() {
		Methods()[i] = "scribble"
		assert.NotEqual(t, "scribble", Methods()[i], "Methods returns a copy")
	}
}

// TestPersistCopiesExactly copies every length up to four lines to every
// offset in a line, from sources of every alignment to 16.
func TestPersistCopiesExactly(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		line := int(LineSizeBytes())
		src := pattern(5 * line)
		media := lineAligned(7 * line)
		want := make([]byte, len(media))
		for offset := range line {
			for n := range 4*line + 1 {
				fill(media, 0xEE)
				fill(want, 0xEE)
				from := src[(offset+n)%16:]
				copy(want[line+offset:], from[:n])
				v := [1]Entry{copyOf(media[line+offset:], from[:n])}
				Persist(v[:])
				if !bytes.Equal(want, media) {
					require.Equal(t, want, media, "offset %d, %d bytes", offset, n)
				}
			}
		}
	})
}

// TestWriteBackLeavesContent does the same without a source.
func TestWriteBackLeavesContent(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		line := int(LineSizeBytes())
		media := lineAligned(7 * line)
		copy(media, pattern(len(media)))
		want := bytes.Clone(media)
		for offset := range line {
			for n := range 4*line + 1 {
				v := [1]Entry{linesOf(media[line+offset:][:n])}
				Persist(v[:])
				WriteBack(v[0].Dst, v[0].Len)
				Drain()
			}
		}
		require.Equal(t, want, media)
	})
}

// TestPersistVectors compares random vectors with copy. Entries may overlap
// what earlier ones stored, and copy from it: they are done in order.
func TestPersistVectors(t *testing.T) {
	const spanBytes = 8 << 10
	eachWay(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		src := pattern(spanBytes)
		media, want := lineAligned(2*spanBytes), make([]byte, 2*spanBytes)
		for range 300 {
			v := make([]Entry, 0, 16)
			for range random.IntN(cap(v) + 1) {
				at := random.IntN(spanBytes)
				n := random.IntN(min(1<<random.IntN(14), spanBytes-at))
				dst := media[at:][:n]
				switch random.IntN(4) {
				case 0:
					v = append(v, linesOf(dst))
				case 1: // from the media's lower half, which is read, to the upper
					from := random.IntN(spanBytes - n)
					v = append(v, copyOf(media[spanBytes+at:][:n], media[from:][:n]))
					copy(want[spanBytes+at:], want[from:][:n])
				default:
					from := random.IntN(spanBytes - n)
					v = append(v, copyOf(dst, src[from:][:n]))
					copy(want[at:], src[from:][:n])
				}
			}
			Persist(v)
			if !bytes.Equal(want, media) {
				require.Equal(t, want, media)
			}
		}
	})
}

// TestPersistLong crosses the bound of one assembly call, by one entry and by
// the sum of many.
func TestPersistLong(t *testing.T) {
	offsets := 4
	if race.Enabled { // which looks at each byte that is compared
		offsets = 1
	}
	eachWay(t, func(t *testing.T) {
		for _, n := range []int{callSizeBytes - 1, callSizeBytes, callSizeBytes + 1, 3*callSizeBytes + 12345} {
			for _, offset := range []int{0, 1, 24, 63}[:offsets] {
				src := pattern(n)
				media := lineAligned(n + 256)
				v := [...]Entry{
					copyOf(media[64+offset:], src),
					linesOf(media[64+offset:][:n]),
					copyOf(media[:8], src[:8]),
				}
				Persist(v[:])
				WriteBack(v[0].Dst, v[0].Len)
				Drain()
				require.True(t, bytes.Equal(src, media[64+offset:][:n]), "%d bytes at %d", n, offset)
				require.Equal(t, src[:8], media[:8])
				require.Equal(t, make([]byte, 56+offset), media[8:64+offset])
				require.Equal(t, make([]byte, 192-offset), media[64+offset+n:])
			}
		}
	})
	eachWay(t, func(t *testing.T) {
		const count, n = 5000, 100
		src := pattern(count * n)
		media := lineAligned(count * n)
		v := make([]Entry, count)
		for i := range v {
			v[i] = copyOf(media[i*n:][:n], src[i*n:][:n])
		}
		Persist(v)
		require.True(t, bytes.Equal(src, media))
	})
}

// TestFitting checks how vectors are divided among calls.
func TestFitting(t *testing.T) {
	entries := func(sizes ...uintptr) (v []Entry) {
		for _, n := range sizes {
			v = append(v, Entry{Len: n})
		}
		return v
	}
	for _, test := range []struct {
		v    []Entry
		want int
	}{
		{nil, 0},
		{entries(0), 1},
		{entries(callSizeBytes), 1},
		{entries(callSizeBytes + 1), 0},
		{entries(callSizeBytes, 0), 1},
		{entries(callSizeBytes-64, 1), 2},
		{entries(callSizeBytes-63, 1), 1},
		{entries(8, ^uintptr(0)), 1},
		{entries(^uintptr(0), 8), 0},
		{make([]Entry, callSizeBytes), callSizeBytes / 64},
	} {
		assert.Equal(t, test.want, fitting(test.v), "%d entries", len(test.v))
	}
}

func TestPersistNothing(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		Persist(nil)
		Persist([]Entry{})
		Persist(make([]Entry, 3)) // no address and no bytes: nothing is touched
		WriteBack(nil, 0)
		Drain()
	})
}

func TestPersistDoesNotAllocate(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		media := lineAligned(callSizeBytes + 4096)
		large := pattern(callSizeBytes + 1)
		allocs := testing.AllocsPerRun(100, func() {
			var record [116]byte // must stay on the stack although v points to it
			word := uint64(1)
			v := [...]Entry{
				{Dst: unsafe.Pointer(&media[0]), Src: unsafe.Pointer(&record), Len: unsafe.Sizeof(record)},
				{Dst: unsafe.Pointer(&media[128]), Src: unsafe.Pointer(&word), Len: 8},
				{Dst: unsafe.Pointer(&media[192]), Len: 64},
			}
			Persist(v[:])
			v[0].Src, v[0].Len = unsafe.Pointer(&large[0]), uintptr(len(large))
			Persist(v[:])
			WriteBack(v[0].Dst, v[0].Len)
			Drain()
			LoadFence()
			Fence()
		})
		assert.Zero(t, allocs)
	})
}

// TestPersistConcurrently lets goroutines whose stacks move share the lines
// at the edges of their ranges, while the collector runs.
func TestPersistConcurrently(t *testing.T) {
	eachWay(t, func(t *testing.T) {
		const workers, rounds, n = 8, 200, 3000 + 9
		media := lineAligned(workers * n)
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				mine := media[w*n:][:n]
				for round := range rounds {
					persistDeep(t, round%50, mine, byte(w+round))
				}
			})
		}
		for range 10 {
			runtime.GC()
		}
		group.Wait()
		for w := range workers {
			require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(w + rounds - 1)}, n), media[w*n:][:n]), "worker %d", w)
		}
	})
}

// persistDeep fills dst from an array on a stack that has grown by depth
// frames.
func persistDeep(t *testing.T, depth int, dst []byte, b byte) {
	var local [512]byte
	if depth > 0 {
		local[0] = b
		persistDeep(t, depth-1, dst, local[0])
		return
	}
	fill(local[:], b)
	var v [16]Entry
	used := 0
	for rest := dst; len(rest) > 0; used++ {
		n := min(len(rest), len(local))
		v[used] = Entry{unsafe.Pointer(&rest[0]), unsafe.Pointer(&local), uintptr(n)}
		rest = rest[n:]
	}
	Persist(v[:used])
	for i := range dst {
		if dst[i] != b {
			assert.Equal(t, b, dst[i], "byte %d", i)
			return
		}
	}
}

// TestNotAvailable: without a method nothing may pretend to flush.
func TestNotAvailable(t *testing.T) {
	useForTest(t, methodNone)
	assert.False(t, Available())
	assert.False(t, Complete())
	assert.Equal(t, "none", Method())
	word := uint64(0)
	for name, call := range map[string]func(){
		"Persist":         func() { Persist([]Entry{{Dst: unsafe.Pointer(&word), Len: 8}}) },
		"Persist nothing": func() { Persist(nil) },
		"WriteBack":       func() { WriteBack(unsafe.Pointer(&word), 8) },
		"Drain":           Drain,
	} {
		assert.PanicsWithValue(t, notAvailable, call, name)
	}
	LoadFence() // these two work everywhere
	Fence()
}

func pattern(n int) []byte {
	p := make([]byte, n)
	random := rand.New(rand.NewPCG(7, uint64(n)))
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return p
}

// lineAligned returns n zero bytes that start on a line.
func lineAligned(n int) []byte {
	line := int(LineSizeBytes())
	b := make([]byte, n+line)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (line - 1)
	return b[skip:][:n:n]
}

func fill(p []byte, b byte) {
	for i := range p {
		p[i] = b
	}
}

func copyOf(dst, src []byte) Entry {
	return Entry{unsafe.Pointer(unsafe.SliceData(dst)), unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(src))}
}

func linesOf(p []byte) Entry {
	return Entry{Dst: unsafe.Pointer(unsafe.SliceData(p)), Len: uintptr(len(p))}
}
