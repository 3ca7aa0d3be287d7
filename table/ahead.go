package table

import (
	"pmemtable/internal/layout"
)

// A lookup waits for memory at each of its steps, and a write waits once more for
// its drain. What is here asks for lines before they are needed, so that these
// times overlap: of the keys of a group with each other, and of a Put's lookup with
// the filling and the draining of its record. It looks without a lock and trusts
// nothing of what it reads: a wrong guess costs the time of a hint.
//
// The three passes over a group are those of the batched lookups of main-memory
// joins (Chen et al., Improving hash join performance through prefetching, 2004).

// hint says where the lookup of a key begins.
type hint struct {
	line uint64 // offset of the home line
	tag  uint64
}

// lineAhead follows a stripe's root and directory, and asks for the key's home line.
func (t *Table) lineAhead(hash uint64) hint {
	p := t.pool
	dir, depth, _ := layout.DecodeStripeRoot(p.Load(t.rootAt(layout.StripeOf(hash, t.stripeBits))))
	word := p.Load(dir + layout.DirectoryHeaderBytes + layout.DirectoryIndex(hash, t.stripeBits, depth)*layout.WordBytes)
	segment, _, shift, _ := layout.DecodeDirectoryWord(word)
	line := segment + layout.LineBytes*uint64(t.homeLine(hash)+1)
	p.Prefetch(line)
	return hint{line, layout.Tag(hash, t.stripeBits, shift)}
}

// recordAhead asks for the record that the home line has for the key.
func (t *Table) recordAhead(h hint) {
	if t.inline {
		return
	}
	line := t.pool.Line(h.line)
	for i := range layout.SlotsPerLine {
		word := line.Load(i)
		if (word^h.tag)&layout.SlotTagMask == 0 && word&layout.SlotLinkMask != 0 {
			record := layout.SlotRecord(word)
			t.pool.Prefetch(record)
			t.pool.Prefetch(record + layout.LineBytes)
			return
		}
	}
}

// blockAhead asks for the lines of a block that is about to be filled.
func (t *Table) blockAhead(off uint64, sizeBytes int) {
	end := off + uint64(min(sizeBytes, aheadBytes))
	for ; off < end; off += layout.LineBytes {
		t.pool.Prefetch(off)
	}
}

// aheadBytes bounds what is asked for of one block: the processor follows a copy
// that is longer by itself.
const aheadBytes = 4 * layout.LineBytes
