//go:build amd64 && !purego

package amd64

import "unsafe"

// StreamCLWB copies src to dst, which is at least as long and does not overlap it,
// past the cache where it fills whole lines, writes the rest back by CLWB, and ends
// with SFENCE. It is for measuring: package flush chooses by size.
func StreamCLWB(dst, src []byte) {
	entry := struct {
		dst, src  unsafe.Pointer
		sizeBytes uintptr
	}{unsafe.Pointer(unsafe.SliceData(dst[:len(src)])), unsafe.Pointer(unsafe.SliceData(src)), uintptr(len(src))}
	PersistCLWB(unsafe.Pointer(&entry), 1, 1)
}
