//go:build !purego

package flush

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/cpu"

	"pmemtable/arm64"
)

// At most one is true; see isa_amd64.go for why not a function variable.
var useCache, useCVADP, useCVAP, useCVAC bool

// dcLineSizeBytes is read once: on machines whose cores differ the kernel
// traps the read.
var dcLineSizeBytes uintptr = 64

// architectureAvailable is true on Linux only. macOS lets user mode execute
// DC CVAC but not read CTR_EL0, so the line size would be a guess, and like
// the others it has no persistent memory to flush to: nothing is gained by
// executing instructions there that may trap.
func architectureAvailable() bool { return runtime.GOOS == "linux" }

// instructions trusts HWCAP for DC CVAP: the kernel sets it when all cores
// have it and user mode may execute it. DC CVADP (HWCAP2_DCPODP, which
// golang.org/x/sys/cpu does not report) is read from the ID register that
// the kernel shows on the same terms.
func instructions() []string {
	if !architectureAvailable() {
		return nil
	}
	dcLineSizeBytes = arm64.LineSizeBytes()
	var found []string
	if cpu.ARM64.HasDCPOP {
		if cpu.ARM64.HasCPUID && arm64.HasDeepPersistence() {
			found = append(found, methodCVADP)
		}
		found = append(found, methodCVAP)
	}
	return append(found, methodCVAC)
}

func use(method string) {
	useCache = method == methodCache
	useCVADP = method == methodCVADP
	useCVAP = method == methodCVAP
	useCVAC = method == methodCVAC
}

func persist(vector unsafe.Pointer, count uintptr) {
	if useCache {
		arm64.PersistCache(vector, count, dcLineSizeBytes)
	} else if useCVADP {
		arm64.PersistCVADP(vector, count, dcLineSizeBytes)
	} else if useCVAP {
		arm64.PersistCVAP(vector, count, dcLineSizeBytes)
	} else if useCVAC {
		arm64.PersistCVAC(vector, count, dcLineSizeBytes)
	} else {
		panic(notAvailable)
	}
}

func persistLines(unsafe.Pointer, uintptr) bool { return false }

func storeRelease(p *uint64, word uint64) { atomic.StoreUint64(p, word) }

func writeBack(p unsafe.Pointer, n uintptr) {
	if useCache {
		return
	} else if useCVADP {
		arm64.WriteBackCVADP(p, n, dcLineSizeBytes)
	} else if useCVAP {
		arm64.WriteBackCVAP(p, n, dcLineSizeBytes)
	} else if useCVAC {
		arm64.WriteBackCVAC(p, n, dcLineSizeBytes)
	} else {
		panic(notAvailable)
	}
}

func prefetch(p unsafe.Pointer) { arm64.Prefetch(p) }

func drain() { arm64.Drain() }

// complete: DC CVAC cleans to the point of coherency, which may be a cache
// that a power failure empties.
func complete(method string) bool {
	return method == methodCache || method == methodCVADP || method == methodCVAP
}

func lineSizeBytes() uintptr { return dcLineSizeBytes }

func loadFence() { arm64.LoadFence() }

func fence() { arm64.Fence() }
