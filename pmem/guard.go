package pmem

import (
	"runtime/debug"
)

// A page of the mapping that cannot be had (somebody cut the file off, or the
// medium has an error) is a fault, which ends the process unless the goroutine
// that meets it has asked for a panic. Guard and Caught ask, and make an error of
// that panic. A fault cannot be caught in a system call: there it is an error
// anyway.

// fault is what the runtime panics with on a fault at an address.
type fault interface {
	error
	Addr() uintptr
}

// Guard calls fn and returns its error, or an ErrCorrupt if fn meets memory of the
// pool that cannot be read or written. What fn holds then is let go of only by its
// deferred calls. Not for the innermost loops: it costs some nanoseconds.
func (p *Pool) Guard(fn func() error) (err error) {
	defer p.Caught(debug.SetPanicOnFault(true), &err)
	return fn()
}

// Caught makes an ErrCorrupt of a fault in the pool's memory, and goes on with any
// other panic. It is deferred, in this form:
//
//	defer p.Caught(debug.SetPanicOnFault(true), &err)
func (p *Pool) Caught(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		*err = p.Faulted(r)
	}
}

// Faulted makes an ErrCorrupt of what was recovered from a fault in the pool's
// memory, and panics again with anything else.
func (p *Pool) Faulted(r any) error {
	f, ok := r.(fault)
	begin, length := uintptr(p.base), uintptr(len(p.backend.memory()))
	if !ok || f.Addr()-begin >= length {
		panic(r)
	}
	return p.Corrupt("file", uint64(f.Addr()-begin), "the page cannot be had: somebody cut the file off, or the medium has an error")
}
