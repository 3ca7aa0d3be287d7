package table

import (
	"pmemtable/internal/layout"
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

// WaitCleared waits until the blocks of cleared trees are given back.
func (t *Table) WaitCleared() { t.condemned.work.Wait() }

// Epoch is the current epoch.
func (t *Table) Epoch() uint64 { return t.epoch.Load() }

// NewestBirth is the highest birth epoch of what the working roots reach. Nobody may
// be writing.
func (t *Table) NewestBirth() (newest uint64, err error) {
	for _, root := range t.WorkingRoots().Stripes {
		if root == 0 {
			continue
		}
		dir, depth, _ := layout.DecodeStripeRoot(root)
		newest = max(newest, t.birthOf(dir))
		for i := range uint64(1) << depth {
			segment, _, _, _ := layout.DecodeDirectoryWord(t.pool.Load(dir + layout.DirectoryHeaderBytes + i*layout.WordBytes))
			for segment != 0 {
				newest = max(newest, t.birthOf(segment))
				for at := segment + layout.LineBytes; at < segment+uint64(t.geometry.SegmentBytes); at += layout.WordBytes {
					slot := t.pool.Load(at)
					if slot&layout.SlotLinkMask == 0 {
						continue
					}
					rec, err := recovery.ReadRecord(t.pool, layout.SlotRecord(slot))
					if err != nil {
						return newest, err
					}
					newest = max(newest, rec.Birth)
				}
				segment, _ = layout.DecodeSegmentLink(t.pool.Load(segment + layout.SegmentNext))
			}
		}
	}
	return newest, nil
}
