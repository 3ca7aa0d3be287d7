package table

import (
	"pmemtable/internal/layout"
)

// A lookup waits for memory at each of its steps, and a write waits once more for
// its drain. What is here asks for lines before they are needed, so that these
// times overlap: of the keys of a group with each other, and of a Put's lookup with
// the filling and the draining of its record. It looks without a lock and trusts
// nothing of what it reads: a wrong guess costs the time of a hint.

// lineAhead approaches a key's home line, and asks for it.
func (t *Table) lineAhead(hash uint64) glance {
	g := t.approach(hash)
	if g.line != nil {
		g.line.Prefetch()
	}
	return g
}

// recordAhead asks for the record that a glance chooses, and returns it; noGlance if this
// lookup is no glance.
func (t *Table) recordAhead(g *glance) (record uint64) {
	record, ok := g.choose()
	if !ok {
		return noGlance
	}
	if record != 0 {
		t.pool.Prefetch(record)
		t.pool.Prefetch(record + layout.LineBytes)
	}
	return record
}

// noGlance is where no record lies.
const noGlance = ^uint64(0)

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
