//go:build purego || (!amd64 && !arm64)

package flush

import (
	"sync/atomic"
	"unsafe"
)

func architectureAvailable() bool { return false }

func instructions() []string { return nil }

func use(string) {}

func persist(unsafe.Pointer, uintptr) { panic(notAvailable) }

func persistLines(unsafe.Pointer, uintptr) bool { return false }

func storeRelease(p *uint64, word uint64) { atomic.StoreUint64(p, word) }

func writeBack(unsafe.Pointer, uintptr) { panic(notAvailable) }

func prefetch(unsafe.Pointer) {}

func drain() { panic(notAvailable) }

func complete(string) bool { return false }

func lineSizeBytes() uintptr { return 64 }

func loadFence() { fenceByAtomics() }

func fence() { fenceByAtomics() }
