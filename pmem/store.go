package pmem

import (
	"context"
	"fmt"
	"runtime/trace"

	"pmemtable/internal/layout"
)

// Range is a piece of the file.
type Range struct {
	Offset uint64
	Bytes  int
}

// Hook sees every store to the medium. A method that is given apply must call it
// exactly once: the hook performs the store itself, under a lock of its own, so
// that the order of its log is the order of memory. src is the hook's to keep.
type Hook interface {
	Store(off, word uint64, apply func())
	Copy(off uint64, src []byte, apply func())
	WriteBack(off uint64, sizeBytes int)
	Drain()
	Sync(apply func() error) error
}

// Store stores an aligned word whole, behind all stores before it. (Loads after it may
// come first: what must not takes a Fence.) On persistent memory it is durable only after
// a Persist of its line.
func (p *Pool) Store(off, word uint64) {
	if p.plain && off < p.size.Load() {
		p.storeWord(off, word)
		return
	}
	p.storeHooked(off, word)
}

// storeHooked is Store where there is more to do, or something to complain of.
func (p *Pool) storeHooked(off, word uint64) {
	p.mustHold(off, layout.WordBytes)
	p.hook.Store(off, word, func() { p.storeWord(off, word) })
}

// Copy stores bytes. Nobody else may be storing to the words that it touches,
// and readers must not be able to reach them yet. src is not retained.
func (p *Pool) Copy(off uint64, src []byte) {
	if len(src) == 0 {
		return
	}
	if size := p.size.Load(); p.plain && off < size && uint64(len(src)) <= size-off {
		p.storeBytes(off, src)
		return
	}
	p.copyHooked(off, append([]byte(nil), src...))
}

// copyHooked is storeHooked for Copy. It is apart so that src of Copy does not escape.
func (p *Pool) copyHooked(off uint64, src []byte) {
	p.mustHold(off, len(src))
	p.hook.Copy(off, src, func() { p.storeBytes(off, src) })
}

// Persist makes what was stored to the ranges durable where the medium is
// persistent memory: it writes their lines back and drains, both by this thread
// before it returns. Elsewhere it does nothing: Sync is what makes stores durable.
func (p *Pool) Persist(ranges ...Range) {
	if !p.flushes {
		return
	}
	if p.hook != nil {
		persistHooked(p.hook, append([]Range(nil), ranges...))
		return
	}
	if len(ranges) == 1 {
		p.persistOne(ranges[0])
		return
	}
	p.persist(ranges)
}

// PersistHook is a Hook that sees write-backs and the drain behind them as the one call
// that they are. ranges is the hook's to keep.
type PersistHook interface {
	Persist(ranges []Range)
}

// persistHooked is apart so that ranges of Persist does not escape.
func persistHooked(hook Hook, ranges []Range) {
	if h, ok := hook.(PersistHook); ok {
		h.Persist(ranges)
		return
	}
	for _, r := range ranges {
		hook.WriteBack(r.Offset, r.Bytes)
	}
	hook.Drain()
}

// PersistWord is Persist of the line that holds the word at off.
func (p *Pool) PersistWord(off uint64) {
	switch {
	case !p.flushes:
	case p.hook != nil:
		p.Persist(Range{off, layout.WordBytes})
	default: // without a list of one
		p.persistOne(Range{off, layout.WordBytes})
	}
}

// Flushes tells whether the medium needs Persist: whether it is, or is forced to
// pass for, persistent memory.
func (p *Pool) Flushes() bool { return p.flushes }

// Sync returns when everything stored before the call is durable on a page-cache
// medium; elsewhere at once. An error means that it is unknown what is durable,
// and that the kernel may have dropped what was not: the caller must not go on.
func (p *Pool) Sync() error {
	if !p.syncs {
		return nil
	}
	defer trace.StartRegion(context.Background(), "pmemtable.sync").End()
	if p.hook != nil {
		return p.hook.Sync(p.backend.sync)
	}
	return p.backend.sync()
}

// RangeHook is a Hook that also sees syncs of a piece of the file. One that does
// not implement it learns nothing of them: it takes the piece for not yet durable.
type RangeHook interface {
	SyncRange(off uint64, sizeBytes int, apply func() error) error
}

// syncRange is Sync for whole pages of the fixed parts only: it does not write
// what else is dirty, so its cost does not grow with the table.
func (p *Pool) syncRange(off uint64, n int) error {
	if !p.syncs {
		return nil
	}
	if h, ok := p.hook.(RangeHook); ok {
		return h.SyncRange(off, n, func() error { return p.backend.syncRange(off, n) })
	}
	return p.backend.syncRange(off, n)
}

// rangeWriter is a backend that can store bytes and make them durable by one call.
type rangeWriter interface {
	write(off uint64, src []byte) error
}

// write is Copy and then syncRange of the pages that it stored to, in one call where
// the backend has one: a store through the mapping costs a page fault after each sync.
// What src overwrites must not count for anybody: an error leaves any part of it.
func (p *Pool) write(off uint64, src []byte) error {
	p.mustHold(off, len(src))
	if w, ok := p.backend.(rangeWriter); ok && p.hook == nil && p.syncs {
		return w.write(off, src)
	}
	p.Copy(off, src)
	page := off &^ (layout.PageBytes - 1)
	return p.syncRange(page, int(roundUp(int64(off-page)+int64(len(src)), layout.PageBytes)))
}

// mustHold guards against a bug of the caller: offsets from the file were checked
// when they were read.
func (p *Pool) mustHold(off uint64, n int) {
	if size := p.size.Load(); off > size || uint64(n) > size-off || p.readOnly {
		panic(fmt.Sprintf("pmem: store of %d bytes at %#x of a file of %#x bytes (read-only: %v)", n, off, size, p.readOnly))
	}
}
