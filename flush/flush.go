// Package flush makes stores to mapped persistent memory durable: it writes
// cache lines back and waits until the memory controller has them, with the
// best instruction that the machine offers.
//
//	CLWB, CLFLUSHOPT, CLFLUSH, then SFENCE       amd64
//	DC CVADP, DC CVAP, DC CVAC, then DSB SY      arm64 on Linux
//
// [Persist] is the whole of it for most callers: copy these bytes here, write
// those lines back, wait. It is one call into assembly on purpose. A fence
// waits for the write-backs of the core it runs on, and the scheduler may move
// a goroutine to another core between any two Go instructions, but not inside
// an assembly function. [WriteBack] and [Drain] as separate calls are
// therefore only right when the goroutine is locked to a thread that is bound
// to a core, or when losing the write-back loses nothing.
//
// On other architectures, and under the purego build tag, there is no such
// instruction to be had and [Available] is false. The functions then panic: a
// flush that silently did nothing would turn into lost data only after a power
// failure. Ask Available first, and persist by msync instead.
//
// This package does not ask what the memory is. Flushing lines of a file in
// the page cache is harmless and promises nothing.
//
// # Choice of instruction
//
// The choice is made once, when the program starts. The environment variable
// PMEMTABLE_VETO forbids some of the instructions, for tests and for machines
// that lie: a list of clwb, clflushopt, clflush, movnt (non-temporal stores),
// dccvadp, dccvap, dccvac, eadr (trust in caches that survive a power
// failure), separated by commas.
//
// The ideas are those of PMDK's libpmem2 (pmem2_arch.h: flush, fence and copy,
// filled in once at start, subject to a veto from the environment; AUTO_FLUSH
// detection by persistence_domain) and of Linux's arch_wb_cache_pmem.
package flush

import (
	"os"
	"unsafe"
)

// Entry is one piece of the vector that [Persist] works through.
type Entry struct {
	// Dst is the first byte concerned, in the mapping.
	Dst unsafe.Pointer

	// Src, where not nil, is what to copy to Dst; the two ranges must not
	// overlap. Nil means that the bytes are there already and only have to be
	// written back.
	Src unsafe.Pointer

	// Len is the number of bytes; with 0 the entry does nothing.
	Len uintptr
}

// The assembly walks a vector in steps of three words.
const (
	_ = -uint(unsafe.Sizeof(Entry{}) - 3*unsafe.Sizeof(uintptr(0)))
	_ = -uint(unsafe.Offsetof(Entry{}.Src) - unsafe.Sizeof(uintptr(0)))
	_ = -uint(unsafe.Offsetof(Entry{}.Len) - 2*unsafe.Sizeof(uintptr(0)))
)

// callSizeBytes bounds what one assembly call does. Assembly cannot be
// preempted, so the longest call is how long a stop of the world may have to
// wait: 256 KiB took 13 µs to copy, 23 µs to write back by CLWB and 0.45 ms by
// CLFLUSH on a Xeon of 2023.
const callSizeBytes = 256 << 10

// streamSizeBytes is the copy size from which non-temporal stores pay. Below,
// the copy goes through the cache and is written back line by line: the bytes
// are likely to be read again soon, and CLWB leaves them cached. Above, not
// reading the old lines first (nor evicting others for them) wins. PMDK
// switches at 256 bytes, with writers in mind that do not read back.
const streamSizeBytes = 1024

// Methods by name, as [Method] and [Methods] report them.
const (
	methodCache      = "cache (eADR)"
	methodCLWB       = "clwb"
	methodCLFLUSHOPT = "clflushopt"
	methodCLFLUSH    = "clflush"
	methodCVADP      = "dc cvadp"
	methodCVAP       = "dc cvap"
	methodCVAC       = "dc cvac"
	methodNone       = "none"
)

var (
	veto           = parseVeto(os.Getenv(vetoVariable))
	cacheIsDurable = everyRegionKeepsCache(regionsGlob)
	methods        = detect()
	method         = choose(methods)
)

// notAvailable is what the functions panic with.
const notAvailable = "flush: nothing here writes cache lines back (architecture, " +
	"operating system, purego tag or " + vetoVariable +
	"); check flush.Available and persist by msync"

// detect lists what the machine can and no veto forbids, best first.
func detect() []string {
	var found []string
	if cacheIsDurable && architectureAvailable() && !veto.forbids(methodCache) {
		found = append(found, methodCache)
	}
	for _, name := range instructions() {
		if !veto.forbids(name) {
			found = append(found, name)
		}
	}
	return found
}

// choose makes the best of the methods the one in use.
func choose(methods []string) string {
	best := methodNone
	if len(methods) > 0 {
		best = methods[0]
	}
	use(best)
	return best
}

// Persist performs the entries of v in order and returns when all of it is
// durable: copied, written back and drained. An empty v drains.
//
// The order is that of the calling goroutine alone: a later entry may copy or
// write back what an earlier one stored. Neither other goroutines nor a power
// failure see any order among the entries of one call; what must be durable
// before something else is stored takes a call of its own. An entry of 8
// bytes to an 8-byte aligned Dst is stored whole, never in parts; others may
// be seen half done. A vector of more than 256 KiB takes several assembly
// calls, each with a drain of its own.
//
// Neither v nor what it points to escapes or is retained, and nothing is
// allocated. The race detector sees none of the accesses. A fault in mapped
// memory is a fault at the caller, which debug.SetPanicOnFault turns into a
// panic that can be recovered. Persist panics unless [Available].
func Persist(v []Entry) {
	if len(v) == 1 && v[0].Len <= callSizeBytes {
		persist(unsafe.Pointer(unsafe.SliceData(v)), 1)
		return
	}
	for {
		n := fitting(v)
		if n == 0 && len(v) > 0 {
			persistLong(v[0])
			n = 1
		} else {
			persist(unsafe.Pointer(unsafe.SliceData(v)), uintptr(n))
		}
		v = v[n:]
		if len(v) == 0 {
			return
		}
	}
}

// PersistLines makes durable what was stored to the n bytes at p: it is Persist of one
// entry without a source.
func PersistLines(p unsafe.Pointer, n uintptr) {
	if n <= callSizeBytes && persistLines(p, n) {
		return
	}
	v := [1]Entry{{Dst: p, Len: n}}
	Persist(v[:])
}

// StoreRelease stores an aligned word whole, after every access before it of the calling
// goroutine. Who loads the word atomically and finds it there finds those stores too.
// Unlike an atomic store of Go it does not keep later loads behind it: that takes a
// [Fence]. The race detector does not see it.
func StoreRelease(p *uint64, word uint64) { storeRelease(p, word) }

// fitting counts the entries at the start of v that fit into one call. An
// entry counts as 64 bytes at least: a single byte costs the write-back of a
// line.
func fitting(v []Entry) int {
	const entrySizeBytes = 64
	left := uintptr(callSizeBytes)
	for i := range v {
		sizeBytes := max(v[i].Len, entrySizeBytes)
		if sizeBytes > left {
			return i
		}
		left -= sizeBytes
	}
	return len(v)
}

// persistLong performs an entry of more than callSizeBytes. It cuts at
// multiples of callSizeBytes, so that no line is written back twice.
func persistLong(e Entry) {
	for {
		n := min(e.Len, callSizeBytes-uintptr(e.Dst)%callSizeBytes)
		piece := Entry{e.Dst, e.Src, n}
		persist(unsafe.Pointer(&piece), 1)
		if e.Len -= n; e.Len == 0 {
			return // before a pointer past the end, which Go forbids
		}
		e.Dst = unsafe.Add(e.Dst, n)
		if e.Src != nil {
			e.Src = unsafe.Add(e.Src, n)
		}
	}
}

// WriteBack starts writing back the lines that the n bytes at p touch, and
// does not wait. Only a [Drain] on the same core tells when they are durable;
// see the package comment for why that is seldom what a goroutine wants. It
// panics unless [Available].
func WriteBack(p unsafe.Pointer, n uintptr) {
	for n > callSizeBytes {
		piece := callSizeBytes - uintptr(p)%callSizeBytes
		writeBack(p, piece)
		p, n = unsafe.Add(p, piece), n-piece
	}
	writeBack(p, n)
}

// Drain waits until what this core wrote back is durable (SFENCE, DSB SY). It
// panics unless [Available].
func Drain() {
	if method == methodNone {
		panic(notAvailable)
	}
	drain()
}

// Prefetch asks the processor to bring the line at p into its cache, and does not
// wait. It is a hint: it changes nothing, never faults, whatever p is, and where
// there is no instruction for it, it does nothing.
func Prefetch(p unsafe.Pointer) { prefetch(p) }

// Available tells whether Persist, WriteBack and Drain work here. Where it is
// false they panic.
func Available() bool { return method != methodNone }

// Complete tells whether a drained line is durable as far as the processor
// can say: it is false on arm64 without DC CVAP, where DC CVAC reaches the
// point of coherency, a system cache perhaps, and where nothing is
// [Available]. A mapping must not be called persistent memory without it.
func Complete() bool { return complete(method) }

// Method names the instruction in use: "clwb", "clflushopt", "clflush", "dc
// cvadp", "dc cvap", "dc cvac", "cache (eADR)" where the caches survive a
// power failure and only the fence is needed, or "none".
func Method() string { return method }

// Methods lists all that this machine can, best first, those under a veto
// left out. The first is the one in use.
func Methods() []string { return append([]string(nil), methods...) }

// LineSizeBytes is the size of the lines that are written back, the smallest
// in the machine: two objects that never share one should be at least this
// far apart. Where nothing is available it is 64, a usual size.
func LineSizeBytes() uintptr { return lineSizeBytes() }

// LoadFence orders every earlier load of the calling goroutine before every
// later load. A reader that copies bytes without a lock and then checks a
// version, by an atomic load, puts it before the check.
//
// It costs nothing on amd64, whose loads happen in order; the compiler is
// held back by the atomic load itself.
func LoadFence() { loadFence() }

// Fence orders every earlier load and store of the calling goroutine before
// every later one.
func Fence() { fence() }

// CacheIsPersistent tells whether the caches survive a power failure (eADR):
// there is persistent memory, and the kernel reports for every region of it
// that its persistence domain is the CPU cache. It tells of the machine, not
// of what is in use; see [Method].
func CacheIsPersistent() bool { return cacheIsDurable }
