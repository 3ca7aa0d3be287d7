package table

import (
	"math/rand/v2"
	"sync/atomic"

	"pmemtable/flush"
	"pmemtable/internal/layout"
)

// A pin keeps blocks from being reused while somebody looks at them without the
// check of a version afterwards: View, and a reader that lost that check too
// often. It is hazard pointers (Michael, 2004) with one addition: before the
// block is known, the pin names a stripe and a version of it, and holds every
// block that is unlinked from that stripe at that version or later.
//
//	0                             free
//	1<<63 | stripe<<48 | version  searching; the version's low 48 bits
//	1<<62 | offset                holding the block at offset
//
// Order: a reader publishes its pin, then reads the slot; a writer unlinks the
// block, then advances the version, then reads the pins. Both sides have a full
// fence between their two steps. So either the writer sees the pin, or the reader
// sees that the block is gone.
type pin struct {
	word atomic.Uint64
	_    [layout.LineBytes - 8]byte
}

const (
	pinSearching   = 1 << 63
	pinHolding     = 1 << 62
	pinVersionMask = 1<<48 - 1
	pinStripeShift = 48
	pinStripeMask  = 1<<14 - 1

	pinCount = 128 // Views at the same time; more are served by copies
)

// pinSet is all pins of a table.
type pinSet struct {
	// used is set, for good, before the first pin is published: until then a writer need
	// not read the pins. Whoever does not see it set does not see that pin either.
	used atomic.Bool
	_    [layout.LineBytes - 4]byte
	pins [pinCount]pin
}

// acquire publishes a searching pin for the stripe, at the version read before.
// It returns nil if no pin is free.
func (ps *pinSet) acquire(stripe int, version uint64) *pin {
	word := pinSearching | uint64(stripe)<<pinStripeShift | version&pinVersionMask
	if !ps.used.Load() {
		ps.used.Store(true)
	}
	start := rand.Uint32()
	for i := range uint32(pinCount) {
		p := &ps.pins[(start+i)%pinCount]
		if p.word.Load() == 0 && p.word.CompareAndSwap(0, word) {
			flush.Fence() // the pin is visible before any load of the search
			return p
		}
	}
	return nil
}

// hold narrows a searching pin to the one block that was found.
func (p *pin) hold(block uint64) { p.word.Store(pinHolding | block) }

// release frees the pin.
func (p *pin) release() { p.word.Store(0) }

// pinned is what the pins hold back of one stripe, read at one moment.
type pinned struct {
	searching bool
	oldest    uint64 // lowest version of a searching pin of the stripe
	blocks    []uint64
}

// of reads the pins for a writer of the stripe, which has advanced the version
// and fenced. buf is room for blocks.
func (ps *pinSet) of(stripe int, buf []uint64) pinned {
	r := pinned{blocks: buf[:0]}
	if !ps.used.Load() {
		return r
	}
	for i := range ps.pins {
		switch w := ps.pins[i].word.Load(); {
		case w&pinSearching != 0:
			v := w & pinVersionMask
			if int(w>>pinStripeShift&pinStripeMask) == stripe && (!r.searching || v < r.oldest) {
				r.searching, r.oldest = true, v
			}
		case w&pinHolding != 0:
			r.blocks = append(r.blocks, w&^pinHolding)
		}
	}
	return r
}

// holds tells whether the pins hold a block that was unlinked at version.
func (r *pinned) holds(block, version uint64) bool {
	if r.searching && version&pinVersionMask >= r.oldest {
		return true
	}
	for _, b := range r.blocks {
		if b == block {
			return true
		}
	}
	return false
}
