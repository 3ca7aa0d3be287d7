package pmem

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/internal/race"
)

// This file is the only one of the package that turns offsets into addresses.
// Each access checks its offset against the published size of the file, so an
// offset read from a damaged file can name wrong bytes but never bytes outside.
//
// Why the checks are enough: the size only grows while a pool is open, it is a
// multiple of a page, and the mapping covers it; an aligned word that begins
// below it therefore ends below it.

// Line is a line of 64 bytes in the mapping. It is read word by word; there is
// no method to store.
type Line [layout.SlotsPerLine]uint64

// Load reads word i of the line atomically.
func (l *Line) Load(i int) uint64 { return atomic.LoadUint64(&l[i&(layout.SlotsPerLine-1)]) }

// Find returns the first word of the line that agrees with word in the bits of mask, and
// which one it is.
func (l *Line) Find(word, mask uint64) (i int, found uint64, ok bool) {
	if w := atomic.LoadUint64(&l[0]); (w^word)&mask == 0 {
		return 0, w, true
	}
	if w := atomic.LoadUint64(&l[1]); (w^word)&mask == 0 {
		return 1, w, true
	}
	if w := atomic.LoadUint64(&l[2]); (w^word)&mask == 0 {
		return 2, w, true
	}
	if w := atomic.LoadUint64(&l[3]); (w^word)&mask == 0 {
		return 3, w, true
	}
	if w := atomic.LoadUint64(&l[4]); (w^word)&mask == 0 {
		return 4, w, true
	}
	if w := atomic.LoadUint64(&l[5]); (w^word)&mask == 0 {
		return 5, w, true
	}
	if w := atomic.LoadUint64(&l[6]); (w^word)&mask == 0 {
		return 6, w, true
	}
	if w := atomic.LoadUint64(&l[7]); (w^word)&mask == 0 {
		return 7, w, true
	}
	return 0, 0, false
}

// Prefetch asks for the line, as Pool.Prefetch does.
func (l *Line) Prefetch() { flush.Prefetch(unsafe.Pointer(l)) }

var noLine Line // what an offset outside the file reads as

func (p *Pool) at(off uint64) unsafe.Pointer { return unsafe.Add(p.base, off) }

// Load reads the aligned word at off atomically; 0 if there is none.
func (p *Pool) Load(off uint64) uint64 {
	if off&(layout.WordBytes-1) != 0 || off >= p.size.Load() {
		return 0
	}
	return atomic.LoadUint64((*uint64)(unsafe.Add(p.base, off)))
}

// Line returns the aligned line at off; one of zeros if there is none. It is
// valid as long as the pool is reachable.
func (p *Pool) Line(off uint64) *Line {
	if off&(layout.LineBytes-1) != 0 || off >= p.size.Load() {
		return &noLine
	}
	return (*Line)(unsafe.Add(p.base, off))
}

// Lines returns the n lines at off, as Line does each; nil if the file does not hold
// them all.
func (p *Pool) Lines(off uint64, n int) []Line {
	b := p.Bytes(off, n*layout.LineBytes)
	if off&(layout.LineBytes-1) != 0 || b == nil {
		return nil
	}
	return unsafe.Slice((*Line)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// SegmentLine returns a bucket line of the segment at off; nil if none can lie there.
func (p *Pool) SegmentLine(off uint64, line int) *Line {
	at := off + layout.LineBytes*uint64(line+1)
	if off&(layout.LineBytes-1) != 0 || off < p.regions.Arena || at < off || at >= p.size.Load() {
		return nil
	}
	return (*Line)(unsafe.Add(p.base, at))
}

// Bytes returns the n bytes at off in place, nil if the file does not hold them
// all. The caller must not write to them, must know that nobody else does
// (a record that is pinned, or of a frozen root), and must keep the pool reachable.
func (p *Pool) Bytes(off uint64, n int) []byte {
	size := p.size.Load()
	if n < 0 || off > size || uint64(n) > size-off {
		return nil
	}
	// As unsafe.Slice would, without its checks of what is known.
	return (*[layout.MaxFileBytes]byte)(unsafe.Add(p.base, off))[:n:n]
}

// Segment returns the segment at off in place, as Bytes does; nil if none can lie there.
func (p *Pool) Segment(off uint64) []byte {
	if off%layout.LineBytes != 0 || off < p.regions.Arena {
		return nil
	}
	return p.Bytes(off, p.geometry.SegmentBytes)
}

// Speculative returns the n bytes at off as Bytes does, for a caller that knows
// they may be changing and checks afterwards that they were not. Under the race
// detector it is a copy made with atomic loads, since the detector cannot know
// of the check.
func (p *Pool) Speculative(off uint64, n int) []byte {
	b := p.Bytes(off, n)
	if !race.Enabled || b == nil {
		return b
	}
	out := make([]byte, len(b))
	for i := 0; i < n; {
		at := off + uint64(i)
		w := atomic.LoadUint64((*uint64)(p.at(at &^ 7)))
		for s := at & 7; s < 8 && i < n; s, i = s+1, i+1 {
			out[i] = byte(w >> (8 * s))
		}
	}
	return out
}

// Record returns the record at off, as large as its header says, and its shape; nil if
// the arena does not hold all of one. It verifies no more than that. For whom it may be
// changing, it is as Speculative is.
func (p *Pool) Record(off uint64) (record []byte, shape layout.RecordShape) {
	head := p.Speculative(off, layout.MaxRecordHeaderBytes)
	if off < p.regions.Arena || head == nil {
		return nil, shape
	}
	if shape = layout.DecodeRecord(head); shape.ValueSize > layout.MaxValueBytes {
		return nil, shape
	}
	return p.Speculative(off, shape.Size()), shape
}

// copyWords copies memory to which others may be storing. It begins and ends on a
// word, or nobody is.
func copyWords(mem []byte) []byte {
	out := append([]byte(nil), mem[:0]...)
	if !race.Enabled || len(mem)%layout.WordBytes != 0 {
		return append(out, mem...)
	}
	for i := 0; i < len(mem); i += layout.WordBytes {
		out = binary.LittleEndian.AppendUint64(out, atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[i]))))
	}
	return out
}

// storeWord is the one place that stores a word.
func (p *Pool) storeWord(off, word uint64) {
	if race.Enabled {
		atomic.StoreUint64((*uint64)(p.at(off)), word)
		return
	}
	flush.StoreRelease((*uint64)(p.at(off)), word)
}

// storeBytes is the one place that stores bytes. Nobody else may be storing to
// the words it touches.
func (p *Pool) storeBytes(off uint64, src []byte) {
	if !race.Enabled {
		copy(unsafe.Slice((*byte)(p.at(off)), len(src)), src)
		return
	}
	for i := 0; i < len(src); {
		at := off + uint64(i)
		word := (*uint64)(p.at(at &^ 7))
		w := atomic.LoadUint64(word)
		for s := at & 7; s < 8 && i < len(src); s, i = s+1, i+1 {
			w = w&^(0xff<<(8*s)) | uint64(src[i])<<(8*s)
		}
		atomic.StoreUint64(word, w)
	}
}

// The counters have stores of their own, around the hook: see counters.go.

func (p *Pool) counter(off uint64) *uint64 { return (*uint64)(p.at(off)) }

func (p *Pool) storeCounter(off, word uint64) { atomic.StoreUint64(p.counter(off), word) }

// addOwned adds to a word that only the caller stores to. The store is a plain one
// of an aligned word, whole for whoever loads it: an atomic one would wait, on
// amd64, until all stores before it are done. The race detector cannot know.
func (p *Pool) addOwned(off, n uint64) {
	if c := p.counter(off); race.Enabled {
		atomic.AddUint64(c, n)
	} else {
		*c += n
	}
}

func (p *Pool) addShared(off, n uint64) { atomic.AddUint64(p.counter(off), n) }

// raiseShared stores n unless the word is larger.
func (p *Pool) raiseShared(off, n uint64) {
	for c := p.counter(off); ; {
		if have := atomic.LoadUint64(c); have >= n || atomic.CompareAndSwapUint64(c, have, n) {
			return
		}
	}
}

// persist writes the ranges back and drains. Up to maxPersistRanges are one assembly
// call with one drain.
func (p *Pool) persist(ranges []Range) {
	if len(ranges) <= fewRanges { // a vector that costs little to clear
		var entries [fewRanges]flush.Entry
		p.persistIn(entries[:], ranges)
		return
	}
	var entries [maxPersistRanges]flush.Entry
	for ; len(ranges) > len(entries); ranges = ranges[len(entries):] {
		p.persistIn(entries[:], ranges[:len(entries)])
	}
	p.persistIn(entries[:], ranges)
}

const (
	fewRanges        = 4
	maxPersistRanges = 64
)

// persistOne writes one range back and drains.
func (p *Pool) persistOne(r Range) { flush.PersistLines(p.at(r.Offset), uintptr(r.Bytes)) }

// persistIn is persist by a vector that is long enough.
func (p *Pool) persistIn(entries []flush.Entry, ranges []Range) {
	for i, r := range ranges {
		entries[i] = flush.Entry{Dst: p.at(r.Offset), Len: uintptr(r.Bytes)}
	}
	flush.Persist(entries[:len(ranges)])
}

// Prefetch asks for the line at off, which is about to be read or written. It
// changes nothing and never fails, whatever off is.
func (p *Pool) Prefetch(off uint64) {
	if off < p.size.Load() {
		flush.Prefetch(p.at(off))
	}
}

// prefetchWord is Prefetch for the heap.
func prefetchWord(w *uint64) { flush.Prefetch(unsafe.Pointer(w)) }

// setBase points the pool at its mapped memory.
func (p *Pool) setBase(mem []byte) { p.base = unsafe.Pointer(unsafe.SliceData(mem)) }

// view is the type of Pool.base, named here so that no other file needs unsafe.
type view = unsafe.Pointer
