//go:build amd64 && !purego

package amd64

import "unsafe"

// LineSizeBytes is the size of a cache line. The assembly relies on it;
// [Detect] reports no instruction on a processor that says otherwise.
const LineSizeBytes = 64

// NeverStream, given as streamBytes, keeps every copy in the cache.
const NeverStream = ^uintptr(0)

// Features tells which write-back instructions the processor has.
type Features struct {
	CLWB       bool // writes a line back and may keep it cached
	CLFLUSHOPT bool // writes back and evicts; several may be under way at once
	CLFLUSH    bool // the same, one after the other
}

// Detect asks CPUID, since golang.org/x/sys/cpu does not tell. It needs no
// help from the operating system: the three instructions work in user mode
// wherever CPUID shows them.
func Detect() Features {
	const (
		clflushBit    = 1 << 19 // leaf 1, EDX
		clflushOptBit = 1 << 23 // leaf 7, EBX
		clwbBit       = 1 << 24 // leaf 7, EBX
	)
	var f Features
	maxLeaf, _, _, _ := cpuid(0, 0)
	_, ebx, _, edx := cpuid(1, 0)
	lineSizeBytes := (ebx >> 8 & 0xff) * 8
	if edx&clflushBit == 0 || lineSizeBytes != LineSizeBytes {
		return f
	}
	f.CLFLUSH = true
	if maxLeaf >= 7 {
		_, ebx, _, _ = cpuid(7, 0)
		f.CLFLUSHOPT = ebx&clflushOptBit != 0
		f.CLWB = ebx&clwbBit != 0
	}
	return f
}

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// The Persist functions perform the count entries at vector in order and end
// with SFENCE. An entry is three words: destination, source, length in bytes.
// Without a source the lines that the destination touches are written back.
// With one, the bytes are copied first; a copy of streamBytes or more goes
// past the cache where it fills whole lines. An entry of 8 bytes is copied by
// one 8-byte store. Source and destination must not overlap.
//
// Assembly cannot be preempted: the caller bounds the bytes of one call.

//go:noescape
func PersistCLWB(vector unsafe.Pointer, count, streamBytes uintptr)

//go:noescape
func PersistCLFLUSHOPT(vector unsafe.Pointer, count, streamBytes uintptr)

//go:noescape
func PersistCLFLUSH(vector unsafe.Pointer, count, streamBytes uintptr)

// PersistLinesCLWB writes back the lines that the n bytes at p touch, and ends with
// SFENCE: PersistCLWB of one entry without a source, in fewer instructions.
//
//go:noescape
func PersistLinesCLWB(p unsafe.Pointer, n uintptr)

// StoreRelease stores an aligned word after every store before it, which the processor
// does by itself: no store overtakes another. Later loads may overtake this one, unlike
// an atomic store of Go, which waits until the store is done.
//
//go:noescape
func StoreRelease(p *uint64, word uint64)

// PersistCache is for machines whose power supply saves the caches (eADR): it
// copies and fences and writes no line back.
//
//go:noescape
func PersistCache(vector unsafe.Pointer, count, streamBytes uintptr)

// The WriteBack functions start writing back the lines that the n bytes at p
// touch. Only a [Drain] by the same core tells that it is done.

//go:noescape
func WriteBackCLWB(p unsafe.Pointer, n uintptr)

//go:noescape
func WriteBackCLFLUSHOPT(p unsafe.Pointer, n uintptr)

//go:noescape
func WriteBackCLFLUSH(p unsafe.Pointer, n uintptr)

// Prefetch asks for the line at p (PREFETCHT0). It never faults.
//
//go:noescape
func Prefetch(p unsafe.Pointer)

// Drain waits (SFENCE) until write-backs and non-temporal stores of this core
// have reached the memory controller, which is in the power-fail domain.
func Drain()
