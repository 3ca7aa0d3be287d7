//go:build arm64 && !purego

package arm64

import "unsafe"

// LineSizeBytes reads the size of the smallest data cache line in the machine
// (CTR_EL0.DminLine). Linux lets user mode read the register, or answers in
// its place where cores differ. macOS does not: call this on Linux only.
func LineSizeBytes() uintptr {
	const (
		dMinLineShift = 16
		dMinLineMask  = 0xf
	)
	log2Words := ctrEL0() >> dMinLineShift & dMinLineMask
	return 4 << log2Words
}

// HasDeepPersistence tells whether DC CVADP exists (ID_AA64ISAR1_EL1.DPB).
// The kernel traps and answers the read, with what all cores have in common;
// call it only where HWCAP_CPUID promises that it does.
func HasDeepPersistence() bool {
	const (
		dpbMask = 0xf
		dpb2    = 2 // 1: DC CVAP, 2: DC CVADP as well
	)
	return isar1EL1()&dpbMask >= dpb2
}

func ctrEL0() uint64

func isar1EL1() uint64

// The Persist functions perform the count entries at vector in order and end
// with DSB SY. An entry is three words: destination, source, length in bytes.
// Without a source the lines that the destination touches are written back;
// with one, the bytes are copied first. An entry of 8 bytes is copied by one
// 8-byte store. Source and destination must not overlap. Copies go through
// the cache: STNP is a hint about the next use, no way round write-back.
//
// Assembly cannot be preempted: the caller bounds the bytes of one call.

//go:noescape
func PersistCVADP(vector unsafe.Pointer, count, lineSizeBytes uintptr)

//go:noescape
func PersistCVAP(vector unsafe.Pointer, count, lineSizeBytes uintptr)

//go:noescape
func PersistCVAC(vector unsafe.Pointer, count, lineSizeBytes uintptr)

// PersistCache is for machines whose power supply saves the caches (eADR): it
// copies and waits and writes no line back.
//
//go:noescape
func PersistCache(vector unsafe.Pointer, count, lineSizeBytes uintptr)

// The WriteBack functions start writing back the lines that the n bytes at p
// touch. Only a [Drain] by the same core tells that it is done.

//go:noescape
func WriteBackCVADP(p unsafe.Pointer, n, lineSizeBytes uintptr)

//go:noescape
func WriteBackCVAP(p unsafe.Pointer, n, lineSizeBytes uintptr)

//go:noescape
func WriteBackCVAC(p unsafe.Pointer, n, lineSizeBytes uintptr)

// Prefetch asks for the line at p (PRFM PLDL1KEEP). It never faults.
//
//go:noescape
func Prefetch(p unsafe.Pointer)

// Drain waits (DSB SY) until the write-backs of this core are complete.
func Drain()

// LoadFence orders every earlier load before every later load and store (DMB
// ISHLD).
func LoadFence()

// Fence orders every earlier access before every later one (DMB ISH).
func Fence()
