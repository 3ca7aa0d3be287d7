package inspect

import (
	"fmt"

	"pmemtable/internal/layout"
)

// stripe describes a stripe: its version, its root word and its directory.
func (f *File) stripe(n int) (*Object, error) {
	if f.view == nil {
		return nil, f.viewErr
	}
	at := f.view.StripeRoots + uint64(n)*layout.WordBytes
	root := f.load(at)
	dir, depth, ok := layout.DecodeStripeRoot(root)
	versionAt := f.geometry.Regions().Versions + uint64(n)*layout.LineBytes
	o := &Object{Kind: "stripe", At: Hex(at), SizeBytes: layout.WordBytes, Intact: root == 0 || ok, Fields: []Field{
		{Hex(versionAt), f.bytes(versionAt, 8), "version", fmt.Sprint(f.version(n))},
		{Hex(at), f.bytes(at, 8), "stripe root", rootMeaning(root)},
	}}
	o.Notes = append(o.Notes, "of "+f.view.Decision.Why)
	if root == 0 || !ok {
		return o, nil
	}
	c, err := f.object("directory", dir, layout.DirectoryBytes(depth))
	if err != nil {
		o.Intact = false
		o.Notes = append(o.Notes, err.Error())
		return o, nil
	}
	h, ok := layout.DecodeDirectory(c.word(), f.pool.Load(dir+layout.WordBytes), dir)
	o.Intact = ok && h.Stripe == n && h.Depth == depth
	c.take(8, "directory", "born in epoch %d, depth %d", h.Birth, h.Depth)
	c.take(8, "", "stripe %d; checksum %s", h.Stripe, rightOrWrong(ok))
	for i := range uint64(1) << depth {
		segment, local, shift, ok := layout.DecodeDirectoryWord(c.word())
		if !ok || local > depth {
			o.Intact = false
			c.take(8, fmt.Sprintf("word %d", i), "NO DIRECTORY WORD")
			continue
		}
		c.take(8, fmt.Sprintf("word %d", i), "segment at %#x, local depth %d, tag shift %d", segment, local, shift)
	}
	o.Fields = append(o.Fields, c.Fields...)
	return o, nil
}

// bytes copies a few bytes of the fixed parts.
func (f *File) bytes(at uint64, n int) []byte {
	return append([]byte(nil), f.pool.Speculative(at, n)...)
}

// segmentAt describes a segment: its header and how full its lines are.
func (f *File) segmentAt(at uint64) (*Object, error) {
	if at%layout.LineBytes != 0 {
		return nil, addressf("%#x is not on a line: no multiple of %d", at, layout.LineBytes)
	}
	c, err := f.object("segment", at, f.geometry.SegmentBytes)
	if err != nil {
		return nil, err
	}
	h, ok := layout.DecodeSegment(c.b, at)
	c.Intact = ok
	overflow := ""
	if h.Overflow {
		overflow = ", an overflow segment"
	}
	c.take(8, "birth", "born in epoch %d%s; %d slots of a window may fill before it splits", h.Birth, overflow, h.Reach)
	c.take(8, "place", "stripe %d, local depth %d, tag shift %d", h.Stripe, h.Depth, h.TagShift)
	c.take(8, "prefix", "%#x", h.Prefix)
	c.take(8, "offset", "%#x", c.word())
	c.take(8, "CRC32C", "of the words before; %s", rightOrWrong(ok))
	next, _ := layout.DecodeSegmentLink(c.word())
	c.take(8, "next", "%s", link("overflow segment", next))
	c.skipTo(layout.LineBytes)
	total := 0
	for n := range f.geometry.Lines() {
		used, overflow := lineUse(c.b[c.next : c.next+layout.LineBytes])
		total += used
		if used == 0 && !overflow {
			c.skipTo(c.next + layout.LineBytes)
			continue
		}
		meaning := fmt.Sprintf("%d of %d slots", used, layout.SlotsPerLine)
		if overflow {
			meaning += ", overflow"
		}
		c.take(layout.LineBytes, fmt.Sprintf("line %d", n), "%s", meaning)
	}
	c.note("%d of %d slots are in use; lines that are empty are left out", total, f.geometry.Lines()*layout.SlotsPerLine)
	return c.Object, nil
}

func lineUse(b []byte) (used int, overflow bool) {
	c := cursor{b: b}
	for i := range layout.SlotsPerLine {
		c.skipTo(i * layout.WordBytes)
		if c.word()&layout.SlotLinkMask != 0 {
			used++
		}
		overflow = overflow || i == 0 && c.word()&layout.SlotOverflow != 0
	}
	return used, overflow
}

// line describes a bucket line, slot by slot.
func (f *File) line(at uint64) (*Object, error) {
	if at%layout.LineBytes != 0 {
		return nil, addressf("%#x is not on a line: no multiple of %d", at, layout.LineBytes)
	}
	c, err := f.object("line", at, layout.LineBytes)
	if err != nil {
		return nil, err
	}
	c.Intact = true
	for i := range layout.SlotsPerLine {
		w := c.word()
		meaning := "empty"
		if w&layout.SlotLinkMask != 0 {
			r := f.record(layout.SlotRecord(w))
			meaning = fmt.Sprintf("record at %v, tag %#x, displacement %d", r.At, w&layout.SlotTagMask, layout.SlotDisplacement(w))
			if !r.Intact {
				meaning += "; the record is DAMAGED, or this is no bucket line"
				c.Intact = false
			}
		}
		if w&layout.SlotOverflow != 0 {
			meaning += "; overflow"
		}
		c.take(8, fmt.Sprintf("slot %d", i), "%s", meaning)
	}
	return c.Object, nil
}

// recordAt describes a record.
func (f *File) recordAt(at uint64) (*Object, error) {
	if at%layout.UnitBytes != 0 {
		return nil, addressf("%#x is no start of a block: no multiple of %d", at, layout.UnitBytes)
	}
	r := f.record(at)
	size := r.HeaderBytes + r.KeyBytes + r.ValueBytes
	if r.Key == nil {
		return nil, addressf("what is at %#x does not fit into the file as a record", at)
	}
	c, err := f.object("record", at, size)
	if err != nil {
		return nil, err
	}
	c.Intact = r.Intact
	c.take(4, "CRC32C", "%v; %s", r.Checksum, rightOrWrong(r.Intact))
	c.take(8, "meta", "born in epoch %d, a key of %d bytes", r.Birth, r.KeyBytes)
	if c.next < r.HeaderBytes {
		c.take(4, "value size", "%d", c.half())
	}
	c.take(r.KeyBytes, "key", "%d bytes", r.KeyBytes)
	c.take(r.ValueBytes, "value", "%d bytes", r.ValueBytes)
	return c.Object, nil
}

// chunk describes a chunk: its descriptor, and what its blocks look like. Whether a
// root reaches them it does not say: a block that is free keeps what was in it.
func (f *File) chunk(n uint64) (*Object, error) {
	g := f.geometry
	r := g.Regions()
	count := (f.pool.SizeBytes() - min(f.pool.SizeBytes(), r.Arena)) / uint64(g.ChunkBytes)
	if n >= count {
		return nil, addressf("the chunks are 0 to %d", int64(count)-1)
	}
	at := r.Arena + n*uint64(g.ChunkBytes)
	c, err := f.object("chunk", at, g.ChunkBytes)
	if err != nil {
		return nil, err
	}
	if g.HoldsDescriptors(int(n)) {
		c.Intact = true
		c.note("it holds descriptors of chunks")
		return c.Object, nil
	}
	place, offset := g.DescriptorPlace(int(n))
	descriptorAt := r.Arena + uint64(place)*uint64(g.ChunkBytes) + offset
	word := f.pool.Load(descriptorAt)
	d, ok := layout.DecodeDescriptor(word, int(n))
	field := Field{Hex(descriptorAt), f.bytes(descriptorAt, 8), "descriptor", "none: free, never used, or of a run that began before"}
	c.Intact = ok || word == 0
	switch {
	case !ok:
		c.note("only descriptors of chunks that a root reaches are trusted")
	case d.Kind == layout.ChunkRun:
		field.Meaning = fmt.Sprintf("a run of %d chunks for one block", d.Run)
		c.Notes = append(c.Notes, "the block: "+f.looksLike(at))
	default:
		sizes := layout.NewClasses(g.ChunkBytes).Sizes
		if d.Class >= len(sizes) {
			c.Intact = false
			field.Meaning = fmt.Sprintf("class %d, which there is not", d.Class)
			break
		}
		size := sizes[d.Class]
		field.Meaning = fmt.Sprintf("blocks of %d bytes (class %d), %d of them", size, d.Class, g.ChunkBytes/size)
		f.blocks(c, size)
	}
	c.Fields = append([]Field{field}, c.Fields...)
	return c.Object, nil
}

// blocks adds a field for each block that begins with something.
func (f *File) blocks(c *cursor, size int) {
	blank := 0
	for i := range len(c.b) / size {
		c.skipTo(i * size)
		if c.word() == 0 {
			blank++
			continue
		}
		c.take(min(size, layout.UnitBytes), fmt.Sprintf("block %d", i), "%s", f.looksLike(uint64(c.At)+uint64(c.next)))
	}
	c.note("%d blocks begin with zeros and are left out; a block that is free keeps what was in it", blank)
}

// looksLike says what a block begins with.
func (f *File) looksLike(at uint64) string {
	b := f.pool.Speculative(at, layout.MaxRecordHeaderBytes)
	if b == nil {
		return "it runs over the end of the file"
	}
	if head := f.pool.Speculative(at, layout.SegmentHeaderBytes); head != nil {
		if h, ok := layout.DecodeSegment(head, at); ok {
			return fmt.Sprintf("a segment of stripe %d, born in epoch %d", h.Stripe, h.Birth)
		}
	}
	if h, ok := layout.DecodeDirectory(f.pool.Load(at), f.pool.Load(at+layout.WordBytes), at); ok {
		return fmt.Sprintf("a directory of stripe %d, depth %d, born in epoch %d", h.Stripe, h.Depth, h.Birth)
	}
	if r := f.record(at); r.Intact {
		return fmt.Sprintf("a record born in epoch %d: key of %d, value of %d bytes", r.Birth, r.KeyBytes, r.ValueBytes)
	}
	return "nothing that is intact"
}
