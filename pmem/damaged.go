package pmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"pmemtable/internal/layout"
)

// DefaultMaxSizeBytes is what Options.MaxSizeBytes is taken for when it is 0.
const DefaultMaxSizeBytes = defaultMaxSizeBytes

// Damage is what OpenDamaged found wrong with the fixed parts of a pool, and had
// to do without.
type Damage struct {
	// HeaderGuessed: the header page is damaged. The geometry was found by what
	// else the file holds; the hash seed is not to be trusted.
	HeaderGuessed bool
	// SessionUnknown: no session record says how the last session ended.
	SessionUnknown bool
	Notes          []string
}

func (d *Damage) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// OpenDamaged opens a pool for salvage: read-only, with writers kept out, and
// although its fixed parts may be damaged or its end missing. Nothing is stored to
// the file. Of opts it heeds System and Logger. ErrLocked if a writer has the file
// open, ErrNotPool if nothing in it looks like a pool, ErrVersion for an intact
// header of another version. The pool has no allocator: only reading is possible.
// Like every pool it is closed by Close.
func OpenDamaged(path string, opts Options) (*Pool, *Damage, error) {
	opts = Options{System: opts.System, Logger: opts.Logger, Media: PageCache, ReadOnly: true, MaxSizeBytes: layout.PageBytes}
	opts, err := opts.fill()
	if err != nil {
		return nil, nil, err
	}
	if err := checkByteOrder(); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", path, err)
	}
	f, err := openAlone(path, opts)
	if err != nil {
		return nil, nil, err
	}
	p, d, err := damagedFile(f, path, opts)
	if err != nil {
		return nil, nil, errors.Join(err, opts.System.Unlock(f), f.Close())
	}
	return p, d, nil
}

// openAlone opens a file to read it while no writer may have it: with the writer's
// lock where the file may be opened for writing, which the lock needs, else with
// the readers'.
func openAlone(path string, opts Options) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w: not a regular file", ErrNotPool)}
	}
	f, err := opts.System.OpenFile(path, os.O_RDWR, 0)
	writable := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f, err = opts.System.OpenFile(path, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	locks := opts
	locks.ReadOnly = !writable
	err = lockFor(f, path, locks)
	if err == nil && !writable && writerLive(f) {
		err = &os.PathError{Op: "lock", Path: path, Err: fmt.Errorf("%w%s", ErrLocked, ownerOf(f))}
	}
	if err == nil {
		err = stillThere(f, path)
	}
	if err != nil {
		return nil, errors.Join(err, opts.System.Unlock(f), f.Close())
	}
	return f, nil
}

func damagedFile(f *os.File, path string, opts Options) (*Pool, *Damage, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if st.Size() < layout.PageBytes { // and a mapping of nothing would fault
		return nil, nil, precheck(f, path)
	}
	b, medium, err := mapFile(f, path, opts)
	if err != nil {
		return nil, nil, err
	}
	p, err := newPool(b, medium, opts)
	if err != nil {
		return nil, nil, err
	}
	d, err := p.loadDamaged(st.Size())
	return p, d, err
}

// OpenHeapDamaged is OpenDamaged for a heap medium.
func OpenHeapDamaged(h *Heap) (*Pool, *Damage, error) {
	opts, err := Options{ReadOnly: true, Media: PageCache}.fill()
	if err != nil {
		return nil, nil, err
	}
	p, err := newPool(&heapBackend{heap: h, readOnly: true}, PageCache, opts)
	if err != nil {
		return nil, nil, err
	}
	if h.bytes.Load() < layout.PageBytes {
		_, err := layout.DecodeHeader(h.Image())
		return nil, nil, headerError(p.path, err)
	}
	d, err := p.loadDamaged(h.bytes.Load())
	return p, d, err
}

// loadDamaged is load for a pool of which any part may be damaged. A file that
// ends within a page is read to the page's end, where its mapping has zeros.
func (p *Pool) loadDamaged(fileBytes int64) (*Damage, error) {
	p.size.Store(uint64(roundUp(fileBytes, layout.PageBytes)))
	d := new(Damage)
	page := p.Bytes(0, layout.PageBytes)
	h, err := layout.DecodeHeader(page)
	switch {
	case err == nil:
		p.header, p.geometry = h, h.Geometry()
	case errors.Is(err, layout.ErrVersion):
		return d, p.headerError(err)
	default:
		if err := p.guessHeader(page, err, d); err != nil {
			return d, err
		}
	}
	p.regions = p.geometry.Regions()
	p.mapInline()
	if p.size.Load() < p.regions.Arena {
		d.SessionUnknown = true
		d.note("the file ends at %d, within the fixed parts", fileBytes)
	} else if p.previous, err = p.readSession(); err != nil {
		d.SessionUnknown = true
		d.note("%v", err)
	}
	p.space = newAllocator(p, 0)
	return d, nil
}

// guessHeader finds the geometry of a pool whose header is damaged: the one for
// which the file holds the most of what must check out. The header's own words, as
// they are, are among those tried, then the default sizes, then every place where
// a superblock could lie.
func (p *Pool) guessHeader(page []byte, cause error, d *Damage) error {
	h := new(layout.Header)
	_, _ = binary.Decode(page, binary.LittleEndian, h) // as many bytes as it takes
	p.header = h
	d.HeaderGuessed = true
	best, score := Geometry{}, 0
	sizes := make(map[int][]int) // of the classes of a chunk size
	try := func(g Geometry) {
		if g.Validate() == nil {
			if sizes[g.ChunkBytes] == nil {
				sizes[g.ChunkBytes] = layout.NewClasses(g.ChunkBytes).Sizes
			}
			if n := p.evidence(g, sizes[g.ChunkBytes]); n > score {
				best, score = g, n
			}
		}
	}
	try(h.Geometry())
	for _, g := range p.superblockPlaces() {
		for g.ChunkBytes = layout.MinChunkBytes; g.ChunkBytes <= layout.MaxChunkBytes; g.ChunkBytes *= 2 {
			for g.SegmentBytes = layout.MinSegmentBytes; g.SegmentBytes <= min(g.ChunkBytes, layout.MaxSegmentBytes); g.SegmentBytes *= 2 {
				try(g)
			}
		}
	}
	if score == 0 && bytes.Equal(page[:8], layout.Magic[:]) && h.Geometry().Validate() == nil {
		best, score = h.Geometry(), 1
	}
	if score == 0 {
		return p.headerError(cause)
	}
	p.geometry = best
	h.Stripes, h.ChunkBytes = uint32(best.Stripes), uint32(best.ChunkBytes)
	h.SegmentBytes, h.IntentBytes = uint32(best.SegmentBytes), uint32(best.IntentBytes)
	h.LogBytes = uint32(best.LogBytes)
	d.note("%v; taken to be of %d stripes, chunks of %d and segments of %d bytes", cause, best.Stripes, best.ChunkBytes, best.SegmentBytes)
	return nil
}

// superblockEvidence outweighs all that the arena can say.
const superblockEvidence = 1 << 20

// evidence counts what checks out in the file if its geometry is g, of which the
// classes have the given sizes.
func (p *Pool) evidence(g Geometry, sizes []int) int {
	p.geometry, p.regions = g, g.Regions()
	n := 0
	for i := range p.regions.Superblock {
		if _, ok := p.readSlot(i); ok {
			n += superblockEvidence
		}
	}
	for i := range maxEvidenceChunks {
		chunk, offset := g.DescriptorPlace(i)
		at := p.regions.Arena + uint64(chunk)*uint64(g.ChunkBytes) + offset
		if at >= p.size.Load() {
			break
		}
		d, ok := layout.DecodeDescriptor(p.Load(at), i)
		if !ok {
			continue
		}
		n++
		if d.Kind == layout.ChunkSmall && d.Class < len(sizes) && sizes[d.Class] == g.SegmentBytes {
			n += p.segmentsIn(p.regions.Arena+uint64(i)*uint64(g.ChunkBytes), g)
		}
	}
	return n
}

const maxEvidenceChunks = 4096

// segmentsIn counts the segments in a chunk of them.
func (p *Pool) segmentsIn(at uint64, g Geometry) (n int) {
	for end := at + uint64(g.ChunkBytes); at < end; at += uint64(g.SegmentBytes) {
		if b := p.Bytes(at, layout.SegmentHeaderBytes); b != nil {
			if _, ok := layout.DecodeSegment(b, at); ok {
				n++
			}
		}
	}
	return n
}

// superblockPlaces returns the stripes, intent and log sizes under which an intact
// superblock lies where it should.
func (p *Pool) superblockPlaces() (found []Geometry) {
	g := DefaultGeometry()
	for g.Stripes = 1; g.Stripes <= layout.MaxStripes; g.Stripes *= 2 {
		for g.IntentBytes = layout.PageBytes; g.IntentBytes <= layout.MaxIntentBytes; g.IntentBytes += layout.PageBytes {
			p.geometry, p.regions = g, g.Regions()
			if p.regions.Superblock[0] >= p.size.Load() {
				break
			}
			for i, at := range p.regions.Superblock {
				if p.Load(at+layout.SuperStripes) != uint64(g.Stripes) {
					continue
				}
				p.geometry.LogBytes = int(p.Load(at + layout.SuperLogBytes))
				if _, ok := p.readSlot(i); ok {
					found = append(found, p.geometry)
					break
				}
			}
		}
	}
	return found
}
