//go:build !purego

package flush

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// Records far enough apart for the prefetchers not to fetch one for another.
const (
	evictRecords     = 512
	evictStrideBytes = 17 * 64
)

// loadTime persists one range of every record by entry and measures, as the
// best of some rounds, how long it takes to load the bytes at offset at of all
// of them. Every load waits for the one before: all bytes are zero, and the
// index depends on them.
func loadTime(media []byte, at int, entry func(record []byte) Entry) time.Duration {
	order := rand.Perm(evictRecords)
	rounds := make([]time.Duration, 7)
	for round := range rounds {
		for _, i := range order {
			record := media[i*evictStrideBytes:][:evictStrideBytes]
			fill(record, 0) // into the cache
			v := [1]Entry{entry(record)}
			Persist(v[:])
		}
		begin := time.Now()
		next := 0
		for _, i := range order {
			next = int(media[i*evictStrideBytes+at+next])
		}
		rounds[round] = time.Since(begin)
	}
	return slices.Min(rounds)
}

// TestCopiesAreWrittenBack shows that no line of a copy is forgotten, which
// neither content nor faults can tell. CLFLUSH and CLFLUSHOPT evict what they
// write back, so the next load of a line takes a memory's time instead of a
// cache's: between the two lies a factor of ten and more. (CLWB shares all
// code but the one instruction.)
func TestCopiesAreWrittenBack(t *testing.T) {
	if !Available() {
		t.Skip("no instruction to flush with")
	}
	const first, last = 100, 100 + 300 // a copy of parts of two lines and of whole ones
	media := lineAligned(evictRecords * evictStrideBytes)
	src := make([]byte, last-first)
	nothing := func(record []byte) Entry { return Entry{} }
	lines := func(record []byte) Entry { return linesOf(record[first:last]) }
	whole := func(record []byte) Entry { return copyOf(record[first:last], src) }
	partial := func(record []byte) Entry { // nothing but a head
		return Entry{unsafe.Pointer(&record[first]), unsafe.Pointer(&src[0]), 5}
	}
	for _, name := range Methods() {
		if name != methodCLFLUSHOPT && name != methodCLFLUSH {
			continue
		}
		for _, streamBytes := range streamSizesToTest {
			useForTest(t, name)
			setStreamBytes(t, streamBytes)
			cached, evicted := loadTime(media, first, nothing), loadTime(media, first, lines)
			if evicted < 4*cached {
				t.Skipf("caches make no difference here: %v, %v without", cached, evicted)
			}
			limit := time.Duration(math.Sqrt(float64(cached) * float64(evicted)))
			assert.Greater(t, loadTime(media, first, partial), limit, "%s, stream %d, head alone", name, streamBytes)
			for at := first; at < last; at = (at + 64) &^ 63 {
				assert.Greater(t, loadTime(media, at, whole), limit, "%s, stream %d, byte %d", name, streamBytes, at)
			}
			assert.Less(t, loadTime(media, first-64, whole), limit, "%s, stream %d, line before", name, streamBytes)
			assert.Less(t, loadTime(media, last+64, whole), limit, "%s, stream %d, line behind", name, streamBytes)
		}
	}
}
