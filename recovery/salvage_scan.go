package recovery

import (
	"cmp"
	"slices"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
)

// This file is the second pass of Salvage.

// candidate is an intact record that the first pass did not come by, or came by
// from a root that was guessed.
type candidate struct {
	hash, birth, off uint64
	rank             uint64 // of the segment that leads to it
}

// reachedRank is the rank of what a guessed root reaches.
const reachedRank = ^uint64(0)

// grouping is a hash that brings equal keys together: the table's where it is known.
func (s *salvager) grouping(key []byte) uint64 {
	if s.hash != nil {
		return s.hash(key)
	}
	return xxh3.Hash(key)
}

// lostSet answers whether a hash falls into a damaged range.
type lostSet struct {
	ranges map[hashRange]struct{}
	depths map[int]uint64 // per stripe, a bit per depth that occurs
	bits   uint           // of a hash, that choose the stripe
}

func newLostSet(ranges []hashRange, bits uint) lostSet {
	l := lostSet{map[hashRange]struct{}{}, map[int]uint64{}, bits}
	for _, r := range ranges {
		l.ranges[r] = struct{}{}
		l.depths[r.stripe] |= 1 << r.depth
	}
	return l
}

func (l *lostSet) has(hash uint64) bool {
	stripe := layout.StripeOf(hash, l.bits)
	for depth := uint(0); depth <= layout.MaxDepth; depth++ {
		if l.depths[stripe]>>depth&1 != 0 {
			if _, ok := l.ranges[hashRange{stripe, depth, layout.DirectoryIndex(hash, l.bits, depth)}]; ok {
				return true
			}
		}
	}
	return false
}

// scanner is the state of the second pass.
type scanner struct {
	*salvager
	lost    lostSet
	sizes   []int // of the classes of blocks
	found   []candidate
	covered uint64 // up to here the file is one large record
	// ranks are those of the records that segments lead to which no directory does:
	// by birth, then by depth. They tell which of several records of one epoch
	// counts: a segment that was split or copied is older than what came of it.
	ranks map[uint64]uint64
}

func (s *salvager) scan() {
	g := s.pool.Geometry()
	c := &scanner{salvager: s, lost: newLostSet(s.lost, g.StripeBits()), sizes: layout.NewClasses(g.ChunkBytes).Sizes,
		ranks: map[uint64]uint64{}}
	first := s.pool.Regions().Arena
	for i := 0; ; i++ {
		at := first + uint64(i)*uint64(g.ChunkBytes)
		if at >= s.pool.SizeBytes() || s.failed != nil {
			break
		}
		if at < c.covered || s.runs[at] || g.HoldsDescriptors(i) {
			continue
		}
		s.guard(at, func() { c.chunk(i, at) })
	}
	c.choose()
}

// chunk looks for records where the chunk's descriptor says that blocks begin.
func (c *scanner) chunk(i int, at uint64) {
	g := c.pool.Geometry()
	home, offset := g.DescriptorPlace(i)
	descriptor := c.pool.Regions().Arena + uint64(home)*uint64(g.ChunkBytes) + offset
	word := c.pool.Load(descriptor)
	d, ok := layout.DecodeDescriptor(word, i)
	switch {
	case ok && d.Kind == layout.ChunkRun:
		if n := c.block(at, d.Run*g.ChunkBytes); n > 0 {
			c.covered = at + uint64(n)
		}
	case ok && d.Class < len(c.sizes):
		size := c.sizes[d.Class]
		for off := at; off+uint64(size) <= at+uint64(g.ChunkBytes); off += uint64(size) {
			if size != g.SegmentBytes || !c.segment(off) {
				c.block(off, size)
			}
		}
	default:
		if word != 0 {
			c.problem("chunk", descriptor, "the descriptor of chunk %d is damaged", i)
		}
		c.blindChunk(at)
	}
}

// blindChunk looks for records at every unit of a chunk of which no descriptor
// tells what it holds. What lies within an intact one is not looked at.
func (c *scanner) blindChunk(at uint64) {
	g := c.pool.Geometry()
	end := at + uint64(g.ChunkBytes)
	limit := g.MaxRunChunks() * g.ChunkBytes // at its start a large one may begin
	for off := at; off < end; {
		n := 0
		if off%layout.LineBytes == 0 && c.segment(off) {
			n = g.SegmentBytes
		} else {
			n = c.block(off, limit)
		}
		off += uint64(max(n, 1)+layout.UnitBytes-1) / layout.UnitBytes * layout.UnitBytes
		limit = int(end - min(off, end))
	}
	if size := uint64(c.size(at)); size > uint64(g.ChunkBytes) {
		c.covered = at + size
	}
}

// size is the size of the candidate at off, 0 if there is none.
func (c *scanner) size(off uint64) int {
	for i := len(c.found) - 1; i >= 0 && c.found[i].off >= off; i-- {
		if c.found[i].off == off {
			return layout.DecodeRecord(c.pool.Bytes(off, layout.MaxRecordHeaderBytes)).Size()
		}
	}
	return 0
}

// segment notes where the slots of a segment lead that the first pass did not come
// by; false if there is none at off.
func (c *scanner) segment(off uint64) bool {
	b := c.pool.Bytes(off, c.pool.Geometry().SegmentBytes)
	if b == nil {
		return false
	}
	h, ok := layout.DecodeSegment(b, off)
	if !ok || c.whole[off] {
		return ok
	}
	for at := off + layout.LineBytes; at < off+uint64(len(b)); at += layout.WordBytes {
		if record := layout.SlotRecord(c.load(at)); record != 0 && c.pool.Bytes(record, 1) != nil {
			c.ranks[record] = max(c.ranks[record], h.Birth<<8|uint64(h.Depth)+1)
		}
	}
	return true
}

// block notes the record at off, if there is one of at most limit bytes, and
// returns its size.
func (c *scanner) block(off uint64, limit int) int {
	if c.wasVisited(off) {
		return 0
	}
	rec, ok := c.record(off, limit)
	if !ok {
		return 0
	}
	h := c.grouping(rec.Key)
	switch {
	case len(rec.Key) == 0, c.hash != nil && !c.lost.has(h):
		// One with an empty key may be metadata of the past.
		c.Stale++
	default:
		c.found = append(c.found, candidate{hash: h, birth: rec.Birth, off: off})
	}
	return rec.Size()
}

// choose keeps, of the candidates of each key, the one of the highest epoch.
func (c *scanner) choose() {
	for i := range c.found {
		c.found[i].rank = c.ranks[c.found[i].off]
	}
	c.found = append(c.found, c.deferred...)
	slices.SortFunc(c.found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(b.birth, a.birth),
			cmp.Compare(b.rank, a.rank), cmp.Compare(b.off, a.off))
	})
	for i := 0; i < len(c.found) && c.failed == nil; {
		end := i + 1
		for end < len(c.found) && c.found[end].hash == c.found[i].hash {
			end++
		}
		c.guard(c.found[i].off, func() { c.chooseOf(c.found[i:end]) })
		i = end
	}
}

// chooseOf chooses among candidates of one hash, the highest epoch first.
func (c *scanner) chooseOf(same []candidate) {
	type winner struct {
		birth, rank uint64
		fresh       bool // the first pass had not come by its key
	}
	winners := make(map[string]winner, 1)
	for _, x := range same {
		rec, err := ReadRecord(c.pool, x.off)
		if err != nil {
			continue
		}
		w, beaten := winners[string(rec.Key)]
		if !beaten {
			w = winner{x.birth, x.rank, c.keep(x.off, rec)}
			winners[string(rec.Key)] = w
			if w.fresh && x.rank == reachedRank {
				c.Reached++
			} else if w.fresh {
				c.Scanned++
			}
			if w.fresh {
				continue
			}
		}
		c.Older++
		if beaten && w.fresh && w.birth == x.birth && w.rank == x.rank {
			c.Ambiguous++
		}
	}
}
