package table

import (
	"encoding/binary"
	"sync"

	"pmemtable/internal/layout"
)

// builder assembles a segment in ordinary memory, to be copied into its block.
type builder struct {
	buf  []byte
	used []uint8 // slots per line
	pool *sync.Pool
}

// newBuilder returns a builder of an empty segment; done gives it back.
func (t *Table) newBuilder() *builder {
	b, _ := t.builders.Get().(*builder)
	if b == nil {
		b = &builder{buf: make([]byte, t.geometry.SegmentBytes), used: make([]uint8, t.lines), pool: &t.builders}
	}
	clear(b.buf)
	clear(b.used)
	return b
}

func (b *builder) done() { b.pool.Put(b) }

func (b *builder) word(off int) uint64       { return binary.LittleEndian.Uint64(b.buf[off:]) }
func (b *builder) setWord(off int, w uint64) { binary.LittleEndian.PutUint64(b.buf[off:], w) }

// header writes the fixed words for a segment that will lie at offset at.
func (b *builder) header(h layout.SegmentHeader, at uint64) { h.Encode(b.buf, at) }

// put adds a slot word in the first free line from first to before end, and says
// which; every line that it passes gets the overflow bit. false: all are full,
// and all have it now.
func (b *builder) put(word uint64, first, end int, displaces bool) bool {
	for l := first; l < end; l++ {
		at := layout.LineBytes * (l + 1)
		if n := b.used[l]; n < layout.SlotsPerLine {
			w := word
			if displaces {
				w = layout.Slot(layout.SlotRecord(word), word&layout.SlotTagMask, l-first)
			}
			off := at + int(n)*layout.WordBytes
			b.setWord(off, w|b.word(off)&layout.SlotOverflow)
			b.used[l]++
			return true
		}
		b.setWord(at, b.word(at)|layout.SlotOverflow)
	}
	return false
}
