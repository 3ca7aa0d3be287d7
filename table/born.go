package table

import (
	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// A commit needs one sync instead of two if its slot can list, with checksums, all
// that was stored for it: then the slot may reach the medium before what it
// reaches, since it counts only if the list verifies. So each stripe notes the
// blocks that are linked since the last commit, as long as they are few: with a
// lone writer under Always these are a record, a segment and a directory.

// bornMost bounds a stripe's list; a commit of more takes two syncs.
const bornMost = 32

// noteBorn notes a block that was linked. The stripe is locked.
func (t *Table) noteBorn(s *stripe, block uint64, sizeBytes int) {
	if s.bornOver || t.pool.Media() != pmem.PageCache {
		return
	}
	if len(s.born) == bornMost || sizeBytes > layout.MaxExtentBytes {
		s.bornOver = true
		return
	}
	s.born = append(s.born, layout.Extent{Offset: block, Bytes: uint32(sizeBytes)})
}

// forgetBorn takes a block off the list that was unlinked: it may be reused before
// the commit, and so must not be verified. The stripe is locked.
func (t *Table) forgetBorn(s *stripe, block uint64) {
	for i := range s.born {
		if s.born[i].Offset == block {
			last := len(s.born) - 1
			s.born[i] = s.born[last]
			s.born = s.born[:last]
			return
		}
	}
}

// takeBorn moves the stripes' lists into a cut; all stripes are locked.
func (t *Table) takeBorn(f *frozen) {
	over := t.pool.Media() != pmem.PageCache
	for i := range t.stripes {
		s := &t.stripes[i]
		over = over || s.bornOver
		if !over {
			f.born = append(f.born, s.born...)
		}
		s.born, s.bornOver = s.born[:0], false
	}
	if over || len(f.born) > t.geometry.MaxExtents() {
		f.born = nil
	}
	f.fresh = t.pool.TakeFresh()
}

// extentsOf computes the checksums of a frozen epoch's blocks, for a commit by one
// sync; nil if it takes two. Nobody changes the blocks: they are frozen.
func (t *Table) extentsOf(f *frozen) []layout.Extent {
	if f.born == nil {
		return nil
	}
	extents := make([]layout.Extent, 0, len(f.born)+len(f.fresh))
	for _, b := range f.born {
		extents = append(extents, t.pool.Checksum(b.Offset, int(b.Bytes)))
	}
	extents = t.pool.FreshDescriptors(f.fresh, f.born, extents)
	if len(extents) > t.geometry.MaxExtents() {
		return nil
	}
	return extents
}
