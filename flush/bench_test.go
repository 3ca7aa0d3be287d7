package flush

import (
	"fmt"
	"testing"
	"unsafe"
)

// BenchmarkPersist is what an insert does: a record of 128 bytes made durable,
// then the word that publishes it. It walks through 64 MiB, as new blocks do.
func BenchmarkPersist(b *testing.B) {
	if !Available() {
		b.Skip("no instruction to flush with")
	}
	const recordBytes = 128
	record := pattern(recordBytes)
	media := lineAligned(64 << 20)
	for _, name := range methodsToTest() {
		b.Run(name, func(b *testing.B) {
			useForTest(b, name)
			b.SetBytes(recordBytes + 8)
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				word := uint64(at)
				fill := [1]Entry{copyOf(media[at:], record)}
				Persist(fill[:])
				publish := [1]Entry{{Dst: unsafe.Pointer(&media[at/2&^7]), Src: unsafe.Pointer(&word), Len: 8}}
				Persist(publish[:])
				at = (at + recordBytes) & (len(media) - 1)
			}
		})
	}
}

// BenchmarkPersistCopy compares copies through the cache with non-temporal
// ones; streamSizeBytes was chosen by it.
func BenchmarkPersistCopy(b *testing.B) {
	if !Available() {
		b.Skip("no instruction to flush with")
	}
	media := lineAligned(64 << 20)
	for n := 128; n <= 64<<10; n *= 2 {
		src := pattern(n)
		for _, streamBytes := range streamSizesToTest {
			if streamBytes == streamSizeBytes {
				continue
			}
			b.Run(fmt.Sprintf("%d/stream=%v", n, streamBytes == 0), func(b *testing.B) {
				setStreamBytes(b, streamBytes)
				b.SetBytes(int64(n))
				at := 0
				for b.Loop() {
					v := [1]Entry{copyOf(media[at:], src)}
					Persist(v[:])
					at = (at + n) & (len(media) - 1)
				}
			})
		}
	}
}

func BenchmarkFence(b *testing.B) {
	b.Run("LoadFence", func(b *testing.B) {
		for b.Loop() {
			LoadFence()
		}
	})
	b.Run("Fence", func(b *testing.B) {
		for b.Loop() {
			Fence()
		}
	})
}
