package pmem

import (
	"context"
	"errors"
	"runtime/trace"

	"pmemtable/internal/layout"
)

// Growth is by extents of a thirty-second of the file, so that the space that is
// reserved but not used yet stays small beside what is used.
const (
	minExtentChunks = 4
	maxExtentBytes  = 64 << 20
	extentShare     = 32

	// prefaultBytes is how much is prefaulted at a time: so long may a growth that
	// somebody waits for, or a mapping that the process makes, have to wait.
	prefaultBytes = 2 << 20
)

func (a *allocator) extentChunks() int { return a.extentChunksOf(a.chunks.n) }

func (a *allocator) extentChunksOf(chunks int) int {
	return max(minExtentChunks, min(chunks/extentShare, maxExtentBytes/a.p.geometry.ChunkBytes))
}

// startAhead asks for an extent ahead of need. mu is locked; it never waits.
func (a *allocator) startAhead() {
	a.wanted = true
	if !a.ahead && !a.stopped {
		a.ahead = true
		go a.growAhead()
	}
}

// growAhead adds extents in the background, so that a writer seldom waits for a
// system call. Its failures are not errors: whoever needs the room meets them.
func (a *allocator) growAhead() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.wanted && !a.stopped {
		a.wanted = false
		if chunks := a.chunks.n; a.nfree < reserveChunks+a.extentChunks() {
			a.mu.Unlock()
			if a.grow(chunks, a.extentChunksOf(chunks), a.extentChunksOf(chunks)) == nil {
				a.prefault(chunks)
			}
			a.mu.Lock()
		}
	}
	a.ahead = false
}

// prefault has the kernel clear and map the pages of the chunks from first on, so that
// writers take no faults there. It is for media whose pages stay in memory: on a page
// cache it would dirty pages that nobody has stored to.
func (a *allocator) prefault(first int) {
	if a.p.syncs {
		return
	}
	for at, more := a.chunkAt(first), true; more; at += prefaultBytes {
		more = a.prefaultPiece(at)
	}
}

// prefaultPiece prefaults what begins at an offset, and tells whether there is more.
func (a *allocator) prefaultPiece(at uint64) (more bool) {
	a.growMu.Lock() // the file neither shrinks nor closes meanwhile
	defer a.growMu.Unlock()
	a.mu.Lock()
	stopped := a.stopped
	a.mu.Unlock()
	size := a.p.size.Load()
	if stopped || at >= size {
		return false
	}
	a.p.backend.prefault(at, min(prefaultBytes, size-at))
	return true
}

// grow adds chunks to the file, at least atLeast if the medium does not give want,
// unless the file has more than before chunks by now.
//
//  1. the file is extended and its space reserved. A crash here leaves chunks that
//     no root reaches: free.
//  2. the new size is published: offsets into the extent become valid.
//  3. the chunks are free for the taking.
func (a *allocator) grow(before, want, atLeast int) error {
	a.growMu.Lock()
	defer a.growMu.Unlock()
	a.mu.Lock()
	have, stopped := a.chunks.n, a.stopped
	a.mu.Unlock()
	if stopped {
		return ErrClosed
	}
	if have > before {
		return nil
	}
	defer trace.StartRegion(context.Background(), "pmemtable.grow").End()
	err := errMaxSize
	for _, n := range []int{want, atLeast} {
		n = a.withDescriptors(have, n)
		size := int64(a.chunkAt(have + n))
		if size > int64(len(a.p.backend.memory())) {
			continue
		}
		if err = a.p.backend.grow(size); err == nil {
			// A fault must not leave with the lock of whoever waits for the growth.
			return a.p.Guard(func() error { a.publish(have, n, uint64(size)); return nil })
		}
		if !isNoSpace(err) && !errors.Is(err, ErrFull) {
			return err
		}
	}
	return err
}

// withDescriptors adds to n the chunks between have and have+n that hold
// descriptors, so that n others come out of it.
func (a *allocator) withDescriptors(have, n int) int {
	for i, left := have, n; left > 0; i++ {
		if a.p.geometry.HoldsDescriptors(i) {
			n++
		} else {
			left--
		}
	}
	return n
}

func (a *allocator) publish(have, n int, size uint64) {
	a.p.size.Store(size)
	a.p.Store(a.p.regions.Control+layout.ControlSize, size)
	a.p.Count(layout.CounterExtents, 1)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chunks.extend(have + n)
	for i := have; i < have+n; i++ {
		if !a.p.geometry.HoldsDescriptors(i) {
			a.release(i, 1)
		}
	}
}

// stop ends the background work.
func (a *allocator) stop() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	// A growth that is under way still stores the new size: wait for it, so that
	// nothing is stored once the file's lock is given back.
	a.growMu.Lock()
	defer a.growMu.Unlock()
}
