package table

import (
	"fmt"

	"pmemtable/flush"
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

// foreignVersion has a read-only table follow the writer before and after each read,
// and adds to the version what else makes a read void: the session's generation,
// since a new session may put another root in the place of the one that the read
// began at, the size of the file, since what lies behind the one that the read
// knew looked like damage to it, and whether the tail of a log is gone, since a root
// that was loaded before may lack what was taken up of it. All four only grow, so equal
// sums are equal parts.
func (t *Table) foreignVersion(stripe int) uint64 {
	version := t.pool.Load(t.versionAt(stripe))
	flush.LoadFence()
	generation := t.followWriter()
	version += t.pool.SizeBytes() + generation<<48
	if t.tail.Load() == nil {
		version += tailGone
	}
	return version
}

const tailGone = 1 << 47 // above the size of any file

// followWriter takes notice of what a writer may have changed beneath: the root
// area in use, the size of the file, and a batch that a kill cut off in the middle.
// It returns the generation of the session that it found. As long as no session
// began since the open, a table whose root is a committed one, or that a dead
// writer left, has nothing to follow.
func (t *Table) followWriter() uint64 {
	control := t.pool.Regions().Control
	generation := t.pool.Load(control + layout.ControlGeneration)
	if generation <= t.opened.generation && !t.pool.BesideWriter() {
		return t.opened.generation
	}
	t.followIntent(generation)
	area, err := recovery.WorkingRoot(t.pool)
	if err == nil {
		area = t.overlaid(control+layout.ControlRoot, area)
	}
	if err == nil && area+layout.RootStripes != t.roots.Load() {
		t.useRootArea(area)
	}
	if t.pool.Load(control+layout.ControlSize) > t.pool.SizeBytes() {
		t.pool.Refresh()
	}
	return generation
}

// followIntent lays over the tree what a writer that died in the middle of a batch
// or a Clear left to do, and takes it off again when another writer has done it.
func (t *Table) followIntent(generation uint64) {
	r := t.pool.Regions()
	overlay := t.overlay.Load()
	if overlay != nil && t.overlaidIn.Load() != generation {
		t.overlay.CompareAndSwap(overlay, nil)
		overlay = nil
	}
	if overlay != nil || t.pool.Load(r.Intent+layout.IntentCount) == 0 || t.pool.WriterLive() {
		return // a live writer is done with it in a moment
	}
	stores := t.pool.PendingIntent()
	words := make(map[uint64]uint64, len(stores))
	for _, s := range stores {
		words[s.Offset] = s.Word
	}
	root, clears := words[r.Control+layout.ControlRoot]
	if len(words) == 0 || clears && root != r.Root[0] && root != r.Root[1] {
		return
	}
	t.pool.Persist(t.pool.IntentRange(len(stores))) // before anybody is answered by it
	t.overlaidIn.Store(generation)
	t.overlay.Store(&words)
}

// writerBegan tells whether a session for writing began since this read-only open:
// then what the open learned of the committed root may be out of date.
func (t *Table) writerBegan() bool {
	return t.pool.Load(t.pool.Regions().Control+layout.ControlGeneration) > t.opened.generation
}
