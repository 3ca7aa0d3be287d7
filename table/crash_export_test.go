package table

import (
	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// MakeRoom frees all that can be freed.
func (t *Table) MakeRoom() { t.makeRoom() }

// Die ends a table as a kill would, and gives its pool's lock and background work
// up. No call may be under way.
func (t *Table) Die() {
	t.DieHeld()
	_ = t.pool.Close()
}

// Abandon is Die for a table with a call under way that will never return.
func (t *Table) Abandon() {
	t.cancel()
	_ = t.pool.Close()
}

// WorkingRoots are the roots that writers use. No write may be under way.
func (t *Table) WorkingRoots() recovery.Roots {
	r := recovery.Roots{Stripes: make([]uint64, len(t.stripes)), Metadata: t.pool.Load(t.metadataAt.Load())}
	for i := range r.Stripes {
		r.Stripes[i] = t.pool.Load(t.rootAt(i))
	}
	return r
}

// LoggedSlot is the superblock slot behind which the open took up a log, nil if it took up
// none.
func (t *Table) LoggedSlot() *pmem.Slot {
	if d := &t.opened.decision; d.Log.Generation != 0 {
		return d.Slot
	}
	return nil
}

// WaitCleared waits until the blocks of cleared trees are given back.
func (t *Table) WaitCleared() { t.condemned.work.Wait() }

// MarkError is the damage that the marking met, which Stats tells.
func (t *Table) MarkError() error {
	if err := t.opened.markErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Epoch is the current epoch.
func (t *Table) Epoch() uint64 { return t.epoch.Load() }

// Reached calls fn with every block of the working roots' trees, and returns the highest
// birth epoch of what lies there. Nobody may be writing.
func (t *Table) Reached(fn func(block uint64) error) (newest uint64, err error) {
	see := func(block, birth uint64) error {
		newest = max(newest, birth)
		return fn(block)
	}
	for _, root := range t.WorkingRoots().Stripes {
		if root == 0 {
			continue
		}
		dir, depth, _ := layout.DecodeStripeRoot(root)
		if err := see(dir, t.birthOf(dir)); err != nil {
			return newest, err
		}
		for i := uint64(0); i < 1<<depth; {
			segment, local, _, _ := layout.DecodeDirectoryWord(t.pool.Load(dir + layout.DirectoryHeaderBytes + i*layout.WordBytes))
			i += 1 << (depth - local)
			for segment != 0 {
				if err := see(segment, t.birthOf(segment)); err != nil {
					return newest, err
				}
				for at := segment + layout.LineBytes; !t.inline && at < segment+uint64(t.geometry.SegmentBytes); at += layout.WordBytes {
					slot := t.pool.Load(at)
					if slot&layout.SlotLinkMask == 0 {
						continue
					}
					rec, err := recovery.ReadRecord(t.pool, layout.SlotRecord(slot))
					if err == nil {
						err = see(layout.SlotRecord(slot), rec.Birth)
					}
					if err != nil {
						return newest, err
					}
				}
				segment, _ = layout.DecodeSegmentLink(t.pool.Load(segment + layout.SegmentNext))
			}
		}
	}
	return newest, nil
}
