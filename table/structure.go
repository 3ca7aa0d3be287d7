package table

import (
	"context"
	"encoding/binary"
	"math/bits"
	"runtime/trace"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Structural changes happen under the stripe's lock, with blocks taken before it.
// Each builds what is new aside, makes it durable, and then stores one word, the
// commit, which it makes durable before anything is stored beneath it. A crash
// before the commit finds the old structure, and the new blocks free; after it
// the new one, and the old blocks free. None changes an entry, so it does not
// matter that readers may follow the new word before it is durable.
//
//	change                          commit
//	first segment of a stripe       stripe root
//	copy of a segment               its directory word, where that is the only one
//	                                and the directory is of this epoch; else the
//	                                stripe root, of a directory copied with it
//	copy of an overflow segment     the link in the segment before it
//	new overflow segment            the link in the segment before it
//	split, directory doubling       stripe root

// prepare makes the structure fit for a store at the place of a key: it returns
// ready, or does one change after which the place must be located anew, or says
// what blocks it lacks.
func (t *Table) prepare(s *stripe, k *kit, hash uint64, at *place) (ready bool, missing need, err error) {
	if at.root == 0 {
		return false, t.plant(s, k), nil
	}
	inserts := at.slot == 0
	if inserts && (at.free == 0 || at.beyond) && t.separates(at, hash) {
		missing, err = t.split(s, k, at)
		return false, missing, err
	}
	last := at.segment
	if inserts {
		if last = at.freeSegment; at.free == 0 {
			last = at.segments - 1
		}
	}
	epoch := t.epoch.Load()
	for i := 0; i <= last; i++ {
		if t.bornIn(at, i) != epoch {
			missing, err = t.copySegment(s, k, at, i)
			return false, missing, err
		}
	}
	if inserts && at.free == 0 {
		return false, t.chain(s, k, at), nil
	}
	return true, need{}, nil
}

// fits tells whether prepare would be ready at once.
func (t *Table) fits(at *place) bool {
	if at.root == 0 || at.slot == 0 && (at.free == 0 || at.beyond) {
		return false
	}
	last := at.segment
	if at.slot == 0 {
		last = at.freeSegment
	}
	for i := 0; i <= last; i++ {
		if t.bornIn(at, i) != t.epoch.Load() {
			return false
		}
	}
	return true
}

// bornIn is the birth epoch of the i-th segment of a place.
func (t *Table) bornIn(at *place, i int) uint64 {
	if i == 0 {
		return at.header.Birth
	}
	return t.birthOf(at.seg(i))
}

// birthOf is the birth epoch of a segment or directory whose header was checked.
func (t *Table) birthOf(object uint64) uint64 { return t.pool.Load(object) & layout.MaxEpoch }

// plant makes the first segment of an empty stripe.
func (t *Table) plant(s *stripe, k *kit) need {
	n := need{segments: 1, directory: true}
	if !k.has(n) {
		return n
	}
	segment, dir := k.takeSegment(), k.takeDirectory()
	h := layout.SegmentHeader{Birth: t.epoch.Load(), Stripe: s.index, Reach: t.reach(s.index, 0, 0)}
	b := t.newBuilder()
	b.header(h, segment)
	t.pool.Copy(segment, b.buf)
	b.done()
	t.writeDirectory(s, dir, 0, []uint64{layout.DirectoryWord(segment, 0, 0)})
	t.pool.Persist(pmem.Range{Offset: segment, Bytes: t.geometry.SegmentBytes},
		pmem.Range{Offset: dir, Bytes: layout.DirectoryBytes(0)})
	t.noteBorn(s, segment, t.geometry.SegmentBytes)
	t.noteBorn(s, dir, layout.DirectoryBytes(0))
	t.commitRoot(s, dir, 0)
	return need{}
}

// reach is how many slots of a window an insert may fill before the segment
// splits. Segments fill at the same rate and would all split at the same size of
// the table; so the first ones differ, by up to an octave of load, and their
// descendants keep that phase.
func (t *Table) reach(stripe int, depth uint, prefix uint64) int {
	const full = layout.WindowLines * layout.SlotsPerLine
	const least = layout.SlotsPerLine + 2
	n := t.stripeBits + depth
	if t.inline { // whose stripes differ in width: layout.InlineMap
		return layout.InlineProbes * layout.InlineSlotsPerLine
	}
	if n > phaseBits || n == 0 {
		return full
	}
	phase := bits.Reverse64(uint64(stripe)<<depth|prefix) >> (64 - n) // spreads neighbours
	return full - int(phase*(full-least)>>n)
}

// phaseBits: so many top bits of the hash spread the moments of splitting.
const phaseBits = 6

// commitRoot stores and persists a stripe root: the commit of most changes.
func (t *Table) commitRoot(s *stripe, dir uint64, depth uint) {
	t.pool.Store(t.rootAt(s.index), layout.StripeRoot(dir, depth))
	t.pool.PersistWord(t.rootAt(s.index))
	s.lastChange = t.epoch.Load()
}

// writeDirectory fills a directory's block; it does not persist it.
func (t *Table) writeDirectory(s *stripe, dir uint64, depth uint, words []uint64) {
	w0, w1 := layout.DirectoryHeader{Birth: t.epoch.Load(), Depth: depth, Stripe: s.index}.Words(dir)
	b := make([]byte, layout.DirectoryBytes(depth))
	le := binary.LittleEndian
	le.PutUint64(b, w0)
	le.PutUint64(b[8:], w1)
	for i, w := range words {
		le.PutUint64(b[layout.DirectoryHeaderBytes+i*layout.WordBytes:], w)
	}
	t.pool.Copy(dir, b)
}

// directoryWords reads a directory, as one of the given depth, which is not less
// than its own.
func (t *Table) directoryWords(at *place, depth uint) []uint64 {
	words := make([]uint64, 1<<depth)
	for i := range words {
		from := uint64(i) >> (depth - at.depth)
		words[i] = t.pool.Load(at.directory + layout.DirectoryHeaderBytes + from*layout.WordBytes)
	}
	return words
}

// copySegment copies the i-th segment of the place into this epoch: the segment
// of the directory, or one of its chain, of which those before are copied already.
func (t *Table) copySegment(s *stripe, k *kit, at *place, i int) (need, error) {
	n := need{segments: 1, passing: true}
	if i == 0 && !t.inPlace(at) {
		n.directory, n.depth = true, at.depth
	}
	if !k.has(n) {
		return n, nil
	}
	defer trace.StartRegion(context.Background(), "pmemtable.copy").End()
	old, segment := at.seg(i), k.takeSegment()
	birth := t.birthOf(old)
	h := at.header
	h.Birth, h.Overflow = t.epoch.Load(), i > 0
	b := t.newBuilder()
	copy(b.buf, t.pool.Bytes(old, len(b.buf)))
	if t.inline {
		b.tidyInline()
	}
	b.header(h, segment)
	t.pool.Copy(segment, b.buf)
	b.done()
	t.pool.Persist(pmem.Range{Offset: segment, Bytes: t.geometry.SegmentBytes})
	if i == 0 {
		t.redirect(s, k, at, layout.DirectoryWord(segment, h.Depth, h.TagShift))
	} else {
		t.link(s, at.seg(i-1), segment)
	}
	t.noteBorn(s, segment, t.geometry.SegmentBytes)
	t.countStripe(s, layout.CounterCopies)
	k.did.copies++
	t.retire(s, old, birth, t.geometry.SegmentBytes)
	return need{}, nil
}

// inPlace tells whether the directory word of a segment may be stored in place.
func (t *Table) inPlace(at *place) bool {
	return at.header.Depth == at.depth && t.birthOf(at.directory) == t.epoch.Load()
}

// redirect makes the directory refer to another segment for the place's range.
func (t *Table) redirect(s *stripe, k *kit, at *place, word uint64) {
	if t.inPlace(at) {
		wordAt := at.directory + layout.DirectoryHeaderBytes + at.index*layout.WordBytes
		t.pool.Store(wordAt, word)
		t.pool.PersistWord(wordAt)
		s.lastChange = t.epoch.Load()
		return
	}
	words := t.directoryWords(at, at.depth)
	span := uint64(1) << (at.depth - at.header.Depth)
	for i := at.index &^ (span - 1); i <= at.index|(span-1); i++ {
		words[i] = word
	}
	t.replaceDirectory(s, k, at, at.depth, words)
}

// replaceDirectory commits a new directory of the given depth. What it refers to is
// durable, or is built, which is made so with it.
func (t *Table) replaceDirectory(s *stripe, k *kit, at *place, depth uint, words []uint64, built ...pmem.Range) {
	dir, birth := k.takeDirectory(), t.birthOf(at.directory)
	t.writeDirectory(s, dir, depth, words)
	t.pool.Persist(append(built, pmem.Range{Offset: dir, Bytes: layout.DirectoryBytes(depth)})...)
	t.noteBorn(s, dir, layout.DirectoryBytes(depth))
	t.commitRoot(s, dir, depth)
	t.retire(s, at.directory, birth, layout.DirectoryBytes(at.depth))
}

// link stores and persists the link from a segment to an overflow segment.
func (t *Table) link(s *stripe, from, to uint64) {
	t.pool.Store(from+layout.SegmentNext, layout.SegmentLink(to))
	t.pool.PersistWord(from + layout.SegmentNext)
	s.lastChange = t.epoch.Load()
}

// chain adds an overflow segment behind the last one of the place, for hashes
// that no split separates.
func (t *Table) chain(s *stripe, k *kit, at *place) need {
	n := need{segments: 1}
	if !k.has(n) {
		return n
	}
	segment := k.takeSegment()
	h := at.header
	h.Birth, h.Overflow = t.epoch.Load(), true
	b := t.newBuilder()
	b.header(h, segment)
	t.pool.Copy(segment, b.buf)
	b.done()
	t.pool.Persist(pmem.Range{Offset: segment, Bytes: t.geometry.SegmentBytes})
	// The lines before must lead here before the link does: set with the slot's
	// own overflow bits, in setOverflow.
	t.link(s, at.seg(at.segments-1), segment)
	t.noteBorn(s, segment, t.geometry.SegmentBytes)
	t.countStripe(s, layout.CounterChains)
	k.did.chains++
	return need{}
}
