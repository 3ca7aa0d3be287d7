package table_test

import (
	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// What a judgement reads of an image, so that crashes need not branch on the rest
// (crashtest.Crash.Read): the fixed parts, the descriptors, and what some root reaches.
// The versions, and the slots in flight beside them, are read, but decide nothing across a
// power loss: whatever an open finds there, it goes on from.
// What no root reaches is free, and nobody reads it: this is what the crash suite then
// checks, with all of it as old as can be and as new.

// crashReads has a bit for each line of the arena's first chunks.
type crashReads struct {
	lines [16]uint64 // by chunk, of 64 lines each
}

// add adds a block.
func (r *crashReads) add(p *pmem.Pool, off uint64, sizeBytes int) {
	first := (off - p.Regions().Arena) / layout.LineBytes
	last := (off + uint64(sizeBytes) - 1 - p.Regions().Arena) / layout.LineBytes
	for line := first; line <= last && line/64 < uint64(len(r.lines)); line++ {
		r.lines[line/64] |= 1 << (line % 64)
	}
}

// addBlock adds the block at off.
func (r *crashReads) addBlock(p *pmem.Pool, off uint64) {
	size, _ := crashBlocksOf(p, int((off-p.Regions().Arena)/uint64(p.Geometry().ChunkBytes)))
	r.add(p, off, size)
}

// slotReads is what an open reads beside the tree of the working root: what the
// superblock slots of an image list for a commit by one sync, to find out whether the
// commit was complete; and behind a log, which changes that tree, what the slot reaches.
// There it is all that is read: the open builds the rest anew, and where depends on how
// far the marking has come beside it, so that two judgements of images that are alike in
// all that they read may differ in it.
func (b *crashBench) slotReads(tab *table.Table, image []byte) (reads crashReads) {
	p := tab.Pool()
	g, arena := layout.Geometry(p.Geometry()), p.Regions().Arena
	for i := range reads.lines {
		if g.HoldsDescriptors(i) {
			reads.lines[i] = ^uint64(0)
		}
	}
	if p.Media() != pmem.PageCache {
		return reads
	}
	for _, at := range p.Regions().Superblock {
		s, ok := layout.DecodeSuperblock(g, image[at:][:g.SuperblockBytes()])
		if !ok {
			continue
		}
		for _, e := range s.Extents {
			if e.Offset >= arena && e.Offset < uint64(len(image)) {
				reads.add(p, e.Offset, int(e.Bytes))
			}
		}
	}
	if s := tab.LoggedSlot(); s != nil {
		block := func(off uint64) error { reads.addBlock(p, off); return nil }
		if err := recovery.Blocks(p, recovery.Roots{Stripes: s.Roots}, block); err != nil {
			panic(err) // the open marked it
		}
		if s.Metadata != 0 {
			_ = block(s.Metadata)
		}
	}
	return reads
}

// read is reads as a function, the same one for the same reads: many images have them.
// Chunks that reads has no bits for count as read.
func (b *crashBench) read(reads crashReads) func(line uint64) bool {
	if fn, ok := b.reads[reads]; ok {
		return fn
	}
	r := b.writer.Regions()
	arena, versions := r.Arena, r.Versions
	unversioned := versions + uint64(b.writer.Geometry().Stripes)*layout.LineBytes
	fn := func(line uint64) bool {
		if line < arena {
			return line < versions || line >= unversioned
		}
		n := (line - arena) / layout.LineBytes
		return n/64 >= uint64(len(reads.lines)) || reads.lines[n/64]>>(n%64)&1 != 0
	}
	if b.reads == nil {
		b.reads = map[crashReads]func(uint64) bool{}
	}
	b.reads[reads] = fn
	return fn
}
