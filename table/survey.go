package table

import (
	"runtime"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// Survey is what a walk over all of a table found: its shape, where Stats has
// counters.
type Survey struct {
	Entries     int64
	KeyBytes    int64
	ValueBytes  int64
	Directories int64
	Segments    int64
	Chains      int64 // overflow segments among them
	Slots       int64 // that the segments have
	// ProbeLengths[i] counts the entries that a lookup finds in the i+1-th bucket
	// line that it reads.
	ProbeLengths []int64
	// Classes are the size classes of blocks in use, the smallest first; Runs are
	// what is larger than any.
	Classes []ClassUse
	Runs    ClassUse
	// Log is what the log of a read-only table holds that nobody has taken up yet. The
	// other figures are of the committed root alone.
	Log PendingLog
}

// ClassUse says how well the blocks of one size are used.
type ClassUse struct {
	BlockBytes   int64 // 0 for runs, each of which has its own
	Blocks       int64 // in use
	PayloadBytes int64 // what lies in them
	Chunks       int64 // that they lie in
	ChunkBlocks  int64 // that these chunks have room for
}

// Survey walks over the whole table and returns its shape; visit, if not nil, is
// called with the sizes of every entry. It reads no keys and no values, checks no
// checksums (Check does) and writes nothing; beside writers, in this or another
// process, each segment is seen as of one instant, and the whole is of none. Blocks
// that wait for reuse, or that only a snapshot holds, count as not used. An error
// is ErrClosed, ErrCorrupt, or that a writer is too busy for a reader of another
// process. The cost grows with the table.
func (t *Table) Survey(visit func(keyBytes, valueBytes int)) (Survey, error) {
	defer runtime.KeepAlive(t)
	if t.closing.Load() {
		return Survey{}, ErrClosed
	}
	s := surveyor{t: t, visit: visit, classes: layout.NewClasses(t.geometry.ChunkBytes), chunks: make(map[uint64]struct{})}
	s.used = make([]ClassUse, len(s.classes.Sizes))
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		next, err := s.segment(cursor)
		if err != nil {
			return Survey{}, err
		}
		cursor = next
	}
	if err := s.metadata(); err != nil {
		return Survey{}, err
	}
	for i, use := range s.used {
		if use.Blocks > 0 {
			use.BlockBytes = int64(s.classes.Sizes[i])
			use.ChunkBlocks = use.Chunks * int64(t.geometry.ChunkBytes/s.classes.Sizes[i])
			s.Classes = append(s.Classes, use)
		}
	}
	s.Log = t.pendingLog()
	return s.Survey, nil
}

// surveyor adds a survey up.
type surveyor struct {
	Survey
	t       *Table
	visit   func(keyBytes, valueBytes int)
	classes *layout.Classes
	used    []ClassUse
	chunks  map[uint64]struct{} // in which a block was seen

	// What one segment holds, while it is not known yet whether that can be trusted.
	seen  []surveyed
	chain []uint64 // the segment and its overflow segments
}

// surveyed is an entry, or a directory or segment (probe 0).
type surveyed struct {
	block      uint64
	sizeBytes  int
	key, value int
	probe      int // bucket lines that a lookup reads
}

// segment adds the one segment that holds cursor, and its chain.
func (s *surveyor) segment(cursor uint64) (next uint64, err error) {
	t := s.t
	stripe := layout.StripeOf(cursor, t.stripeBits)
	directory := false
	err = t.validated(stripe, func(root uint64) error {
		s.seen, s.chain, directory = s.seen[:0], s.chain[:0], false
		at, want, end, err := t.segmentAt(root, stripe, cursor)
		next = end
		if err != nil || at == 0 {
			return err
		}
		if want.Prefix == 0 { // the first of its stripe
			dir, depth, _ := layout.DecodeStripeRoot(root)
			s.seen, directory = append(s.seen, surveyed{block: dir, sizeBytes: layout.DirectoryBytes(depth)}), true
		}
		return s.slots(at, want)
	})
	if err != nil || len(s.chain) == 0 {
		return next, err
	}
	if directory {
		s.Directories++
	}
	s.Segments += int64(len(s.chain))
	s.Chains += int64(len(s.chain) - 1)
	s.Slots += int64(len(s.chain) * t.lines * t.slotsPerLine())
	for i := range s.seen {
		s.add(&s.seen[i])
	}
	return next, nil
}

// slots notes what a segment and its chain hold; nothing of it is trusted yet.
func (s *surveyor) slots(at uint64, want layout.SegmentHeader) error {
	t := s.t
	for link, n := at, 0; link != 0; n++ {
		s.chain = append(s.chain[:n], link)
		s.seen = append(s.seen, surveyed{block: link, sizeBytes: t.geometry.SegmentBytes})
		var ok bool
		if link, ok = layout.DecodeSegmentLink(t.pool.Load(link + layout.SegmentNext)); !ok || n > recovery.MaxChain {
			return t.pool.Corrupt("segment", s.chain[n], "its link to an overflow segment is damaged")
		}
	}
	if t.inline {
		return t.eachInline(at, want, func(found inlineEntry, segment uint64, line int, chained bool) error {
			e := surveyed{key: layout.InlineKeyBytes, value: layout.InlineValueBytes, probe: t.probesTo(found.hash, line)}
			if chained {
				e.probe = t.probesTo(found.hash, -1) + (slices.Index(s.chain, segment)-1)*t.lines + line + 1
			}
			s.seen = append(s.seen, e)
			return nil
		})
	}
	return t.eachSlot(at, want, func(segment uint64, line int, chained bool, word uint64) error {
		e := surveyed{block: layout.SlotRecord(word), probe: layout.SlotDisplacement(word) + 1}
		if chained { // after the window, and the segments of the chain before this one
			e.probe = layout.WindowLines + (slices.Index(s.chain, segment)-1)*t.lines + line + 1
		}
		head := t.pool.Speculative(e.block, layout.MaxRecordHeaderBytes)
		if head == nil {
			return t.pool.Corrupt("record", e.block, "it lies outside the file")
		}
		shape := layout.DecodeRecord(head)
		if shape.ValueSize > layout.MaxValueBytes || t.pool.Bytes(e.block, shape.Size()) == nil {
			return t.pool.Corrupt("record", e.block, "it runs over the end of the file")
		}
		e.sizeBytes, e.key, e.value = shape.Size(), shape.KeySize, shape.ValueSize
		s.seen = append(s.seen, e)
		return nil
	})
}

// add counts what is known to be there.
func (s *surveyor) add(e *surveyed) {
	if e.sizeBytes > 0 { // an inline entry lies in a segment
		s.block(e.block, e.sizeBytes)
	}
	if e.probe == 0 {
		return
	}
	s.Entries++
	s.KeyBytes += int64(e.key)
	s.ValueBytes += int64(e.value)
	for len(s.ProbeLengths) < e.probe {
		s.ProbeLengths = append(s.ProbeLengths, 0)
	}
	s.ProbeLengths[e.probe-1]++
	if s.visit != nil {
		s.visit(e.key, e.value)
	}
}

// block counts a block in use and its chunk.
func (s *surveyor) block(off uint64, sizeBytes int) {
	chunkBytes := uint64(s.t.geometry.ChunkBytes)
	use, chunks := &s.Runs, (int64(sizeBytes)+int64(chunkBytes)-1)/int64(chunkBytes)
	if class, ok := s.classes.Of(sizeBytes); ok {
		use, chunks = &s.used[class], 0
		chunk := (off - s.t.pool.Regions().Arena) / chunkBytes
		if _, there := s.chunks[chunk]; !there {
			s.chunks[chunk] = struct{}{}
			chunks = 1
		}
	}
	use.Blocks++
	use.PayloadBytes += int64(sizeBytes)
	use.Chunks += chunks
}

// metadata counts the block of the metadata record.
func (s *surveyor) metadata() error {
	t := s.t
	at, size := uint64(0), 0
	err := t.validated(0, func(uint64) error {
		if at = t.loadMetadataWord(); at == 0 {
			return nil
		}
		head := t.pool.Speculative(at, layout.MaxRecordHeaderBytes)
		if head == nil {
			return t.pool.Corrupt("metadata", at, "it lies outside the file")
		}
		size = layout.DecodeRecord(head).Size()
		return nil
	})
	if err == nil && at != 0 {
		s.block(at, size)
	}
	return err
}

// Activity is what the file itself tells of the work that goes on in it, whoever
// does it: counters that a reader in another process can compare with what they
// were before. A writer's own Stats tell more.
type Activity struct {
	Generation     uint64 // sessions that have begun
	Epoch          uint64 // cuts, by commits and snapshots
	CommitSequence uint64 // commits, where the medium needs them
	Collections    uint64 // lists of blocks that were unlinked and became free
	FileSizeBytes  int64
	// Entries as of the last commit, when EntriesKnown.
	Entries      int64
	EntriesKnown bool
	// Counters are those of the process that writes.
	Counters
}

// Activity reads the counters of this moment. O(stripes).
func (t *Table) Activity() Activity {
	defer runtime.KeepAlive(t)
	p, r := t.pool, t.pool.Regions()
	if p.ReadOnly() {
		p.Refresh()
	}
	a := Activity{
		Generation:    max(p.Load(r.Control+layout.ControlGeneration), p.Generation()),
		Epoch:         p.Load(r.Control + layout.ControlEpoch),
		FileSizeBytes: int64(p.SizeBytes()),
		Counters:      t.counters(),
	}
	for i := range t.stripes {
		a.Collections += p.Load(t.versionAt(i))
	}
	if slots := p.Slots(); len(slots) > 0 {
		a.CommitSequence = slots[0].Sequence
		a.EntriesKnown = slots[0].CountsKnown
		for _, n := range slots[0].Counts {
			a.Entries += int64(n)
		}
	}
	return a
}

// SurvivesWith says in words which failures an acknowledged write of a table with
// durability d survives on this medium.
func (s Stats) SurvivesWith(d Durability) string { return survives(s.Medium, s.Forced, d) }

// BesideWriter tells whether a read-only table has, or had since it was opened, a
// writer beside it: then its figures are not of one instant. False for a writer.
func (t *Table) BesideWriter() bool {
	return t.pool.ReadOnly() && (t.pool.BesideWriter() || t.writerBegan() || t.pool.WriterLive())
}
