package pmem

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"crypto/rand"
	"encoding/binary"

	"pmemtable/flush"
	"pmemtable/internal/layout"
)

// Pool is an open pool. See the package's text for what is safe concurrently.
type Pool struct {
	base     view
	size     atomic.Uint64 // of the file, as far as chunks reach
	flushes  bool          // Persist does something
	syncs    bool          // Sync does something
	readOnly bool
	hook     Hook
	plain    bool // stores go to the mapping, and nobody sees them

	backend  backend
	path     string
	medium   Media
	forced   bool
	beside   bool   // read-only, and a writer was there at open: see BesideWriter
	settled  uint64 // see SettledGeneration
	logger   *slog.Logger
	header   *layout.Header
	geometry Geometry
	regions  layout.Regions
	inline   *layout.InlineMap // nil unless entries are inline
	ident    identity

	previous Session // as the open found it
	// opening is what a writer has read of the superblock slots, until its session begins.
	opening *[2]knownSlot
	session Session // this writer's own; guarded by sessionMu
	// sessionMu also orders writes of the two session slots.
	sessionMu sync.Mutex

	space *allocator
}

func newPool(b backend, medium Media, opts Options) (*Pool, error) {
	p := &Pool{
		backend:  b,
		path:     b.description(),
		medium:   medium,
		forced:   opts.Media != Auto,
		readOnly: opts.ReadOnly,
		hook:     opts.Hook,
		logger:   opts.Logger,
		ident:    b.identity(),
	}
	if opts.Media != Auto {
		p.medium = opts.Media
	}
	p.flushes, p.syncs = p.medium == DAX, p.medium == PageCache
	p.plain = p.hook == nil && !p.readOnly
	if p.flushes && p.hook == nil && !flush.Available() {
		return nil, &MediumError{Path: p.path, Reason: "this build has no instruction that writes cache lines back"}
	}
	p.setBase(b.memory())
	p.size.Store(uint64(b.sizeBytes()) / layout.PageBytes * layout.PageBytes)
	if unmap := b.release(); unmap != nil {
		runtime.AddCleanup(p, func(unmap func()) { unmap() }, unmap)
	}
	return p, nil
}

// daxAllowed: without an instruction that reaches the persistence domain a
// mapping is never called persistent memory.
func daxAllowed() bool { return flush.Available() && flush.Complete() }

// MediumError is the error of a medium that cannot keep its promise.
type MediumError struct{ Path, Reason string }

// Error implements error.
func (e *MediumError) Error() string { return e.Path + ": " + ErrMedium.Error() + ": " + e.Reason }

// Unwrap returns ErrMedium.
func (e *MediumError) Unwrap() error { return ErrMedium }

// format writes an empty, cleanly closed pool. Nobody can open it yet: a file
// gets its name after it, so the order of these stores does not matter, only
// that all are durable at the end.
func (p *Pool) format(g Geometry) error {
	h := layout.Header{
		Stripes:      uint32(g.Stripes),
		ChunkBytes:   uint32(g.ChunkBytes),
		SegmentBytes: uint32(g.SegmentBytes),
		IntentBytes:  uint32(g.IntentBytes),
		LogBytes:     uint32(g.LogBytes),
		CreatedUnix:  time.Now().Unix(),
	}
	if g.Inline {
		h.Features |= layout.FeatureInline
	}
	var seed [8]byte
	_, _ = rand.Read(h.UUID[:]) // never fails since Go 1.24
	_, _ = rand.Read(seed[:])
	h.HashSeed = binary.LittleEndian.Uint64(seed[:])

	r := g.Regions()
	size := int64(r.Arena) + int64(initialChunks*g.ChunkBytes)
	if size > int64(len(p.backend.memory())) {
		return &FullError{Path: p.path, SizeBytes: int(size), Reason: errMaxSize}
	}
	// The log's room is a hole until somebody needs it.
	err := errors.Join(p.backend.grow(int64(r.Log)), p.backend.extend(int64(r.Log)+int64(g.LogBytes)))
	if err == nil {
		err = p.backend.grow(size)
	}
	if err != nil {
		return &FullError{Path: p.path, SizeBytes: int(size), Reason: err}
	}
	p.size.Store(uint64(size))

	page := make([]byte, layout.PageBytes)
	h.Encode(page)
	p.Copy(0, page)
	empty := Superblock{Sequence: 1, CountsKnown: true, Roots: make([]uint64, g.Stripes), Counts: make([]uint64, g.Stripes)}
	b := make([]byte, g.SuperblockBytes())
	empty.Encode(g, b)
	p.Copy(r.Superblock[0], b)
	p.Store(r.Control+layout.ControlRoot, r.Root[0])
	session := Session{Sequence: 1, Medium: uint8(p.medium), Clean: 1, LastGood: empty.Sequence}
	clear(page)
	session.Encode(page)
	p.Copy(r.Session[0], page)
	p.Persist(Range{0, int(r.Log)})
	return p.Sync()
}

// load reads the fixed parts and checks them against the size of the file.
func (p *Pool) load() error {
	if err := checkByteOrder(); err != nil {
		return err
	}
	size := p.size.Load()
	head := p.Bytes(0, int(min(size, layout.PageBytes)))
	if size < layout.PageBytes {
		head = p.backend.memory()[:0]
	}
	h, err := layout.DecodeHeader(head)
	if err != nil {
		return p.headerError(err)
	}
	p.header, p.geometry = h, h.Geometry()
	p.regions = p.geometry.Regions()
	p.mapInline()
	if size < p.regions.Arena {
		return p.Corrupt("file", size, "it ends within the fixed parts, which take %d bytes", p.regions.Arena)
	}
	chunks := (size - p.regions.Arena) / uint64(p.geometry.ChunkBytes)
	p.size.Store(p.regions.Arena + chunks*uint64(p.geometry.ChunkBytes))
	if err := p.Settled(func() error { return nil }); err != nil {
		return err
	}
	if !p.readOnly {
		p.opening = new([2]knownSlot)
	}
	p.space = newAllocator(p, int(chunks))
	return nil
}

// mapInline follows the geometry and the hash seed.
func (p *Pool) mapInline() {
	if p.geometry.Inline {
		p.inline = layout.NewInlineMap(p.geometry, p.header.HashSeed)
	}
}

// InlineMap says where the keys of inline entries belong; nil for a pool with records.
func (p *Pool) InlineMap() *layout.InlineMap { return p.inline }

// Path is the file's name as it was given to Open.
func (p *Pool) Path() string { return p.path }

// Header is the pool's header page. The caller must not change it.
func (p *Pool) Header() *layout.Header { return p.header }

// Geometry holds the pool's sizes.
func (p *Pool) Geometry() Geometry { return p.geometry }

// Regions are the offsets of the fixed parts.
func (p *Pool) Regions() layout.Regions { return p.regions }

// SizeBytes is the size of the file.
func (p *Pool) SizeBytes() uint64 { return p.size.Load() }

// MaxSizeBytes is the size to which the file may grow while it is open.
func (p *Pool) MaxSizeBytes() int64 { return int64(len(p.backend.memory())) }

// Media is the medium that the pool lies on, or passes for.
func (p *Pool) Media() Media { return p.medium }

// Forced tells whether Options named the medium.
func (p *Pool) Forced() bool { return p.forced }

// ReadOnly tells whether the pool was opened read-only.
func (p *Pool) ReadOnly() bool { return p.readOnly }

// BesideWriter tells whether, at a read-only open, a writer had the pool open whose
// session is the one that the pool records, not poisoned, and not still taking up a
// log: then the working root is the truth.
func (p *Pool) BesideWriter() bool { return p.beside }

// WriterLive asks, by a system call, whether some process has the pool open for
// writing now.
func (p *Pool) WriterLive() bool { return p.backend.writerLive() }

// Logger is never nil.
func (p *Pool) Logger() *slog.Logger { return p.logger }

// Refresh takes notice of growth by the process that writes the file, for a
// read-only pool. It returns whether there was any.
func (p *Pool) Refresh() bool {
	size, err := p.backend.refresh()
	if err != nil || !p.readOnly {
		return false
	}
	chunk := uint64(p.geometry.ChunkBytes)
	end := min(uint64(size), uint64(len(p.backend.memory())))
	if end < p.regions.Arena {
		return false
	}
	end = p.regions.Arena + (end-p.regions.Arena)/chunk*chunk
	return p.size.Swap(end) != end
}

// Close releases the file and its lock. It writes nothing: marking the session
// clean is MarkClean. The memory stays mapped until the pool is unreachable, so
// that a reader caught in the middle does not fault.
func (p *Pool) Close() error {
	p.space.stop()
	return p.backend.close()
}
