package table

import (
	"fmt"
	"runtime/debug"
)

// A page of the mapping may be gone: somebody cut the file off, or the medium has
// an error. What meets one would be the death of the process; every call of the
// table, and its background work, turn it into an ErrCorrupt of that call instead:
//
//	defer t.caught(debug.SetPanicOnFault(true), &err)
//
// The deferred call holds the table, too, so that it stays reachable, and its file
// mapped, until it runs. Locks under which the mapping is read or written are given back
// by defer. None of this reaches what a caller does with a View's value after fn has
// returned, nor a copy of the mapping that the kernel makes for a system call, which
// fails there.

// caught makes an error of a fault in the mapping that a read met.
func (t *Table) caught(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		*err = t.pool.Faulted(r)
	}
}

// caughtWriting is caught for a call that changes the table. It may have been
// stopped half-way, under a lock: nobody writes any more, and Close does not mark
// the session clean.
func (t *Table) caughtWriting(before bool, err *error) {
	debug.SetPanicOnFault(before)
	if r := recover(); r != nil {
		*err = t.condemn(t.pool.Faulted(r))
	}
}

// condemn ends all writing. Readers go on at the working root, which is as good as
// before: unlike after a failed sync, what is readable of it is what was stored.
func (t *Table) condemn(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	c := &t.commits
	if c.failed.CompareAndSwap(nil, &err) {
		t.pool.Logger().Error("a page of the file is gone: the table takes no writes any more", "path", t.pool.Path(), "err", cause)
	}
	c.mu.Lock() // who has looked at failed is waiting by now
	c.mu.Unlock()
	c.wake.Broadcast()
	return err
}

// guarded runs work that changes the table, in which a fault is an error.
func (t *Table) guarded(work func() error) (err error) {
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	return work()
}
