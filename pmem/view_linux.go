package pmem

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The two mappings made at an address of the pool's own: beside view.go the only
// place that names one.

// mapZeros lays private pages of zeros over mem, which is a piece of a mapping.
func mapZeros(mem []byte, readOnly bool) error {
	prot := unix.PROT_READ
	if !readOnly {
		prot |= unix.PROT_WRITE
	}
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)), prot,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return os.NewSyscallError("mmap", err)
}

// mapAgain lays the file over mem, which is the piece of its mapping from off on.
func mapAgain(f *os.File, mem []byte, off int64, dax bool) error {
	flags := unix.MAP_SHARED
	if dax {
		flags = unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC
	}
	at := unsafe.Pointer(unsafe.SliceData(mem))
	_, err := unix.MmapPtr(int(f.Fd()), off, at, uintptr(len(mem)), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED)
	if err == nil && !dax {
		_ = unix.Madvise(mem, unix.MADV_RANDOM)
	}
	return os.NewSyscallError("mmap", err)
}
