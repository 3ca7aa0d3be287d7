package flush

import "sync/atomic"

// fenceByAtomics is a full barrier made of sync/atomic alone. The variable is
// the caller's own; what counts is what the two operations do to the accesses
// around them.
//
// Go's atomics are sequentially consistent, so on every architecture the
// read-modify-write releases: no earlier access sinks below its store. The
// load acquires: no later access rises above it. And the two are ordered
// among themselves, being atomics on the same variable. Where an atomic
// read-modify-write is one instruction (x86, arm64 with LSE, riscv64) it would
// do alone; where it is a pair of LDAXR and STLXR a later load may slip
// between the two, and it is the load that stops it. Neither is ever removed
// by the compiler, nor are ordinary accesses moved across.
func fenceByAtomics() {
	var word uint32
	atomic.AddUint32(&word, 1)
	atomic.LoadUint32(&word)
}
