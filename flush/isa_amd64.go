//go:build !purego

package flush

import (
	"unsafe"

	"pmemtable/amd64"
)

// At most one is true. Booleans and a chain of ifs instead of a function
// variable: through one, escape analysis gives up and every caller's vector
// moves to the heap.
var useCache, useCLWB, useCLFLUSHOPT, useCLFLUSH bool

// streamBytes is the length from which a copy goes past the cache.
var streamBytes uintptr = streamSizeBytes

func architectureAvailable() bool { return true }

func instructions() []string {
	if veto.forbids(vetoMOVNT) {
		streamBytes = amd64.NeverStream
	}
	var found []string
	features := amd64.Detect()
	if features.CLWB {
		found = append(found, methodCLWB)
	}
	if features.CLFLUSHOPT {
		found = append(found, methodCLFLUSHOPT)
	}
	if features.CLFLUSH {
		found = append(found, methodCLFLUSH)
	}
	return found
}

func use(method string) {
	useCache = method == methodCache
	useCLWB = method == methodCLWB
	useCLFLUSHOPT = method == methodCLFLUSHOPT
	useCLFLUSH = method == methodCLFLUSH
}

func persist(vector unsafe.Pointer, count uintptr) {
	if useCache {
		amd64.PersistCache(vector, count, streamBytes)
	} else if useCLWB {
		amd64.PersistCLWB(vector, count, streamBytes)
	} else if useCLFLUSHOPT {
		amd64.PersistCLFLUSHOPT(vector, count, streamBytes)
	} else if useCLFLUSH {
		amd64.PersistCLFLUSH(vector, count, streamBytes)
	} else {
		panic(notAvailable)
	}
}

// persistLines serves one method, and says whether that is the one in use.
func persistLines(p unsafe.Pointer, n uintptr) bool {
	if useCLWB {
		amd64.PersistLinesCLWB(p, n)
	}
	return useCLWB
}

func storeRelease(p *uint64, word uint64) { amd64.StoreRelease(p, word) }

func writeBack(p unsafe.Pointer, n uintptr) {
	if useCache {
		return
	} else if useCLWB {
		amd64.WriteBackCLWB(p, n)
	} else if useCLFLUSHOPT {
		amd64.WriteBackCLFLUSHOPT(p, n)
	} else if useCLFLUSH {
		amd64.WriteBackCLFLUSH(p, n)
	} else {
		panic(notAvailable)
	}
}

func prefetch(p unsafe.Pointer) { amd64.Prefetch(p) }

func drain() { amd64.Drain() }

// complete: every one of the methods ends at the memory controller, which x86
// platforms with persistent memory keep in the power-fail domain (ADR).
func complete(method string) bool { return method != methodNone }

func lineSizeBytes() uintptr { return amd64.LineSizeBytes }

// loadFence has nothing to do: x86 performs loads from ordinary memory in
// program order.
func loadFence() {}

// fence is a locked instruction, which is cheaper than MFENCE and as strong
// for memory that is cached.
func fence() { fenceByAtomics() }
