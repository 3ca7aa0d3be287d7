package pmem

import (
	"fmt"
	"sync"
	"sync/atomic"

	"pmemtable/internal/layout"
)

// Heap is a medium for tests: a slice on the Go heap in the place of a mapped
// file. The race detector sees it, a crash is the pool left behind without a
// Close, and an image of any moment can be opened as a file would be.
type Heap struct {
	mem   []byte
	bytes atomic.Int64
	open  sync.Mutex // held while a writer has it open
	ident identity

	// FailSync, when set, is what a Sync returns instead of succeeding.
	FailSync error
	// LimitBytes, when not 0, is the size at which the medium is full.
	LimitBytes int64
}

// NewHeap makes a medium that may grow to maxBytes and begins with image, which
// is copied. An empty image is a file that does not exist yet.
func NewHeap(image []byte, maxBytes int) *Heap {
	maxBytes = int(roundUp(int64(max(maxBytes, len(image))), layout.PageBytes))
	h := &Heap{mem: make([]byte, maxBytes)}
	copy(h.mem, image)
	h.bytes.Store(int64(len(image)))
	h.ident = identity{bootID: [16]byte{1}, inode: 1, dev: 1}
	return h
}

// Image returns a copy of the medium's bytes as they are now.
func (h *Heap) Image() []byte { return copyWords(h.mem[:h.bytes.Load()]) }

// State is Image with zeros for the counters, which are no state: what a log of the
// stores that a Hook saw leads to.
func (h *Heap) State() []byte {
	image := h.Image()
	if header, err := layout.DecodeHeader(image); err == nil {
		for _, r := range header.Geometry().CounterRanges() {
			clear(image[r[0]:][:r[1]])
		}
	}
	return image
}

// Reboot makes later opens find another boot of the machine.
func (h *Heap) Reboot() { h.ident.bootID[15]++ }

// Move makes later opens find another file, as after a copy.
func (h *Heap) Move() { h.ident.inode++ }

// Copy returns the medium as it is now, with nobody who has it open: the same file in the
// same boot, as it is left when the writer is killed.
func (h *Heap) Copy() *Heap {
	c := NewHeap(h.Image(), len(h.mem))
	c.ident, c.LimitBytes = h.ident, h.LimitBytes
	return c
}

// Load replaces what the medium holds, beneath whoever has it open, as other processes
// would have.
func (h *Heap) Load(image []byte) {
	copy(h.mem, image)
	h.bytes.Store(int64(len(image)))
}

// Abandon gives the writer's lock back without a Close, as the death of the
// process would. The pool that held it must not be used any more.
func (h *Heap) Abandon() { h.open.Unlock() }

// heapBackend is one open of a Heap.
type heapBackend struct {
	heap     *Heap
	readOnly bool
	closed   atomic.Bool
}

func (b *heapBackend) memory() []byte          { return b.heap.mem }
func (b *heapBackend) sizeBytes() int64        { return b.heap.bytes.Load() }
func (b *heapBackend) refresh() (int64, error) { return b.heap.bytes.Load(), nil }
func (b *heapBackend) identity() identity      { return b.heap.ident }
func (b *heapBackend) description() string     { return "heap" }
func (b *heapBackend) shared() bool            { return true }
func (b *heapBackend) release() func()         { return nil }

func (b *heapBackend) grow(newBytes int64) error {
	limit := int64(len(b.heap.mem))
	if l := b.heap.LimitBytes; l != 0 {
		limit = min(limit, l)
	}
	if newBytes > limit {
		return fmt.Errorf("%w: the heap medium ends at %d bytes", ErrFull, limit)
	}
	b.heap.bytes.Store(newBytes)
	return nil
}

func (b *heapBackend) extend(newBytes int64) error { return b.grow(newBytes) }

func (b *heapBackend) reserve(uint64, int) error { return nil }

func (b *heapBackend) prefault(uint64, uint64) {}

func (b *heapBackend) punch(uint64, int) error { return nil }

func (b *heapBackend) shrink(newBytes int64) error {
	b.heap.bytes.Store(newBytes)
	return nil
}

func (b *heapBackend) keepReadersOut() (func(), error) { return func() {}, nil }

func (b *heapBackend) syncRange(uint64, int) error { return b.heap.FailSync }

func (b *heapBackend) sync() error { return b.heap.FailSync }

func (b *heapBackend) writerLive() bool {
	if b.heap.open.TryLock() {
		b.heap.open.Unlock()
		return false
	}
	return true
}

func (b *heapBackend) close() error {
	if b.closed.CompareAndSwap(false, true) && !b.readOnly {
		b.heap.open.Unlock()
	}
	return nil
}

// OpenHeap opens, or formats, a pool on a heap medium. Options.Media says which
// medium it passes for; Auto is PageCache. Unlike a file it has no log unless
// Options.Geometry asks for one.
func OpenHeap(h *Heap, opts Options) (*Pool, error) {
	opts.MaxSizeBytes = int64(len(h.mem))
	if opts.Geometry.LogBytes == 0 {
		opts.Geometry.LogBytes = -1
	}
	opts, err := opts.fill()
	if err != nil {
		return nil, err
	}
	if !opts.ReadOnly && !h.open.TryLock() {
		return nil, fmt.Errorf("heap: %w", ErrLocked)
	}
	medium := opts.Media
	if medium == Auto {
		medium = PageCache
	}
	p, err := newPool(&heapBackend{heap: h, readOnly: opts.ReadOnly}, medium, opts)
	if err == nil && h.bytes.Load() == 0 {
		err = p.format(opts.Geometry)
	}
	if err == nil {
		err = p.load()
	}
	if err != nil {
		if !opts.ReadOnly {
			h.open.Unlock()
		}
		return nil, err
	}
	return p, nil
}
