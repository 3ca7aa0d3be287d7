//go:build purego || (!amd64 && !arm64)

package flush

import "unsafe"

func architectureAvailable() bool { return false }

func instructions() []string { return nil }

func use(string) {}

func persist(unsafe.Pointer, uintptr) { panic(notAvailable) }

func writeBack(unsafe.Pointer, uintptr) { panic(notAvailable) }

func prefetch(unsafe.Pointer) {}

func drain() { panic(notAvailable) }

func complete(string) bool { return false }

func lineSizeBytes() uintptr { return 64 }

func loadFence() { fenceByAtomics() }

func fence() { fenceByAtomics() }
