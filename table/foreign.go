package table

import (
	"fmt"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// A read-only table beside a writer in another process reads the writer's working
// root. It trusts what it read by the same versions as the writer's own readers,
// which lie in the mapping.

// maxForeignTries bounds how often such a reader tries again: it has no pin.
const maxForeignTries = 1000

var errBusy = fmt.Errorf("the table is changing too fast for a reader of another process")

// overlaid is the word at an offset as a batch would have left it that a crash cut
// off; word is what is stored there.
func (t *Table) overlaid(at, word uint64) uint64 {
	if overlay := t.overlay.Load(); overlay != nil {
		if w, ok := (*overlay)[at]; ok {
			return w
		}
	}
	return word
}

// followWriter takes notice of what a writer may have changed beneath: the root
// area in use and the size of the file. Without one, now or since the open, there
// is nothing to follow.
func (t *Table) followWriter() {
	generation := t.pool.Load(t.pool.Regions().Control + layout.ControlGeneration)
	if !t.pool.BesideWriter() && generation == t.opened.generation {
		return
	}
	t.overlay.Store(nil) // the writer has redone it
	if area, err := recovery.WorkingRoot(t.pool); err == nil && area+layout.RootStripes != t.roots.Load() {
		t.useRootArea(area)
	}
	if t.pool.Load(t.pool.Regions().Control+layout.ControlSize) > t.pool.SizeBytes() {
		t.pool.Refresh()
	}
}
