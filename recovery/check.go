package recovery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Report is what a check saw.
type Report struct {
	Entries        int
	KeyBytes       int64
	ValueBytes     int64
	Directories    int
	Segments       int
	Chains         int // overflow segments among them
	Chunks         int // in the file
	FreeChunks     int // that nothing reaches
	ReachableBytes int64
	FreeBytes      int64
	// Log is what the log holds behind the roots, which the other figures leave out.
	Log      PendingLog
	Problems []Problem
	// Dropped counts problems beyond MaxProblems, which are not listed.
	Dropped int
}

// MaxProblems bounds the list of a report.
const MaxProblems = 1000

// Problem is one thing that is wrong with a file.
type Problem struct {
	Where  string // the kind of object
	Offset uint64
	What   string
}

// String says it in a line.
func (p Problem) String() string {
	return fmt.Sprintf("%s at offset %#x: %s", p.Where, p.Offset, p.What)
}

// Err is nil for a report without problems, else an ErrCorrupt that names the first.
func (r *Report) Err(p *pmem.Pool) error {
	if len(r.Problems) == 0 {
		return nil
	}
	first := r.Problems[0]
	more := len(r.Problems) + r.Dropped - 1
	if more == 0 {
		return p.Corrupt(first.Where, first.Offset, "%s", first.What)
	}
	return p.Corrupt(first.Where, first.Offset, "%s (and %d more problems)", first.What, more)
}

// Hash is how a table hashes its keys; tests of collisions replace it.
type Hash func(key []byte) uint64

// KeyHash is the hash of a pool's keys: seeded XXH3, so that nobody who does not
// know the seed can choose keys that collide.
func KeyHash(p *pmem.Pool) Hash {
	seed := p.Header().HashSeed
	return func(key []byte) uint64 { return xxh3.HashSeed(key, seed) }
}

// Check verifies everything that frozen roots reach: structure, reachability, no
// block referred to twice, the checksum of every record, that it lies where a
// lookup of its key finds it, and the counts per stripe unless nil. It never
// writes. hash nil: KeyHash.
func Check(p *pmem.Pool, roots Roots, counts []uint64, hash Hash) Report {
	return CheckView(p, roots, nil, counts, hash)
}

// CheckView is Check for a read-only open, with the words of a batch that a crash
// cut off laid over the tree; nil for none.
func CheckView(p *pmem.Pool, roots Roots, overlay *map[uint64]uint64, counts []uint64, hash Hash) Report {
	r, _ := CheckWith(context.Background(), p, roots, CheckOptions{Counts: counts, Hash: hash, Overlay: overlay})
	return r
}

// compareCounts reports stripes whose entries are not as many as the count says. It
// comes last.
func (c *checker) compareCounts(counts []uint64) {
	if len(c.Problems) > 0 {
		return // what is damaged is not counted
	}
	for i, want := range counts {
		if got := c.perStripe[i]; got != want {
			c.Problems = append(c.Problems, Problem{"superblock", 0, fmt.Sprintf("stripe %d has %d entries, its count says %d", i, got, want)})
		}
	}
	c.limit()
}

// checker collects a report from several goroutines.
type checker struct {
	Report
	pool      *pmem.Pool
	hash      Hash
	overlay   map[uint64]uint64
	marks     *pmem.Marks
	perStripe []uint64
	level     Level
	progress  func(entries int)
	twice     atomic.Bool // two references to a block were met

	mu sync.Mutex // guards Report
}

func checkRoots(p *pmem.Pool, roots Roots, overlay map[uint64]uint64, hash Hash) *checker {
	return checked(context.Background(), p, roots, CheckOptions{Hash: hash, Overlay: &overlay})
}

// checked checks the stripes in parallel. What it reports does not depend on the
// number of workers: stripes have nothing in common but the marks, and there only a
// block that two of them refer to belongs to the one that comes first. Of such a file
// the stripes are checked once more, one after the other.
func checked(ctx context.Context, p *pmem.Pool, roots Roots, o CheckOptions) *checker {
	if o.Workers == 0 {
		o.Workers = defaultWorkers()
	}
	c := newChecker(p, roots, o)
	c.run(ctx, roots, o.Workers)
	if o.Workers > 1 && c.twice.Load() {
		o.Progress = nil // it was told of all entries
		c = newChecker(p, roots, o)
		c.run(ctx, roots, 1)
	}
	return c
}

func newChecker(p *pmem.Pool, roots Roots, o CheckOptions) *checker {
	c := &checker{pool: p, hash: o.Hash, marks: p.NewMarksNow(), perStripe: make([]uint64, len(roots.Stripes)),
		level: o.Level, progress: o.Progress}
	if o.Overlay != nil {
		c.overlay = *o.Overlay
	}
	if c.hash == nil {
		c.hash = KeyHash(p)
	}
	if c.level == 0 {
		c.level = LevelFull
	}
	return c
}

func (c *checker) run(ctx context.Context, roots Roots, workers int) {
	p := c.pool
	if roots.Metadata != 0 {
		c.metadata(roots.Metadata)
	}
	err := eachStripe(ctx, p, len(roots.Stripes), workers, func(stripe int) error {
		c.addErr(p.Guard(func() error { // a page that is gone is no reason to leave out the other stripes
			c.stripe(stripe, roots.Stripes[stripe])
			return nil
		}))
		return nil
	})
	if err != nil {
		return // ctx's
	}
	if err := c.marks.Validate(); err != nil {
		c.add(Problem{"chunk", 0, err.Error()})
	}
	used, _, reachable := c.marks.Usage()
	c.Chunks = c.marks.Chunks()
	c.ReachableBytes = reachable
	c.FreeChunks = c.Chunks - used
	c.FreeBytes = int64(c.Chunks)*int64(p.Geometry().ChunkBytes) - reachable
	c.sortProblems()
}

// add keeps at least the problems that a report lists, whoever finds them when: the
// first MaxProblems by their place.
func (c *checker) add(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Problems = append(c.Problems, p)
	if len(c.Problems) >= 2*MaxProblems {
		c.sortProblems()
	}
}

func (c *checker) sortProblems() {
	slices.SortFunc(c.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Where, b.Where), cmp.Compare(a.What, b.What))
	})
	c.limit()
}

func (c *checker) limit() {
	if more := len(c.Problems) - MaxProblems; more > 0 {
		c.Problems, c.Dropped = c.Problems[:MaxProblems], c.Dropped+more
	}
}

// addErr turns a walk's error into a problem.
func (c *checker) addErr(err error) {
	if err == nil {
		return
	}
	var ce *pmem.CorruptError
	if errors.As(err, &ce) {
		c.add(Problem{ce.Object, ce.Offset, ce.Reason})
	} else {
		c.add(Problem{"tree", 0, err.Error()})
	}
}

// mark notes a reference to a block.
func (c *checker) mark(off uint64, sizeBytes int) error {
	fresh, err := c.marks.Mark(off, sizeBytes)
	if err == nil && !fresh {
		c.twice.Store(true)
		err = errTwice
	}
	return err
}

func (c *checker) markWhole(object string, off uint64, sizeBytes int) {
	if err := c.mark(off, sizeBytes); err != nil {
		c.add(Problem{object, off, err.Error()})
	}
}

func (c *checker) metadata(off uint64) {
	rec, err := ReadRecord(c.pool, off)
	if err != nil {
		c.addErr(err)
		return
	}
	c.markWhole("metadata", off, rec.Size())
}

// entry is what one slot of a chain holds.
type entry struct {
	hash uint64
	key  []byte
	at   uint64
}

// stripe checks the tree of one stripe. Damage of the structure ends it, damage
// of single entries does not.
func (c *checker) stripe(stripe int, root uint64) {
	if root == 0 {
		return // an empty one
	}
	var (
		local   Report
		entries []entry
	)
	w := walk{pool: c.pool, stripe: stripe, overlay: c.overlay,
		directory: func(at uint64, depth uint) error {
			local.Directories++
			c.markWhole("directory", at, layout.DirectoryBytes(depth))
			if c.level == LevelHeader {
				return errShallow
			}
			return nil
		},
		segment: func(at uint64, h layout.SegmentHeader) (bool, error) {
			local.Segments++
			if h.Overflow {
				local.Chains++
			} else {
				c.duplicates(entries)
				c.tell(len(entries))
				entries = entries[:0]
			}
			return true, wrapMark(c.pool, "segment", at, c.mark(at, c.pool.Geometry().SegmentBytes))
		},
		slot: func(seg *segmentView, line, slot int, word uint64) error {
			e, shape, err := c.slot(seg, line, slot, word)
			if err != nil {
				c.addErr(err)
				return nil
			}
			local.Entries++
			local.KeyBytes += int64(shape.KeySize)
			local.ValueBytes += int64(shape.ValueSize)
			entries = append(entries, e)
			return nil
		},
		inline: func(seg *segmentView, line, slot int, word, _ uint64) error {
			e, err := c.inlineSlot(seg, line, slot, word)
			if err != nil {
				c.addErr(err)
				return nil
			}
			local.Entries++
			local.KeyBytes += layout.InlineKeyBytes
			local.ValueBytes += layout.InlineValueBytes
			entries = append(entries, e)
			return nil
		},
	}
	err := w.stripeRoot(root)
	c.duplicates(entries)
	c.tell(len(entries))
	if err != errShallow {
		c.addErr(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.perStripe[stripe] = uint64(local.Entries)
	c.Entries += local.Entries
	c.KeyBytes += local.KeyBytes
	c.ValueBytes += local.ValueBytes
	c.Directories += local.Directories
	c.Segments += local.Segments
	c.Chains += local.Chains
}

func (c *checker) tell(entries int) {
	if c.progress != nil && entries > 0 {
		c.progress(entries)
	}
}

// slot checks one entry: its record, and that a lookup finds it there.
func (c *checker) slot(seg *segmentView, line, slot int, word uint64) (entry, layout.RecordShape, error) {
	p, off := c.pool, layout.SlotRecord(word)
	at := seg.at + layout.LineBytes*uint64(line+1) + uint64(slot)*layout.WordBytes
	if slot != 0 && word&layout.SlotOverflow != 0 {
		return entry{}, layout.RecordShape{}, p.Corrupt("slot", at, "an overflow bit that only a line's first slot may have")
	}
	shape, err := c.markRecord(off)
	if err != nil || c.level < LevelChecksum {
		return entry{}, shape, err
	}
	rec, err := ReadRecord(p, off)
	if err != nil || c.level < LevelFull {
		return entry{}, shape, err
	}
	h, g := c.hash(rec.Key), p.Geometry()
	bits := g.StripeBits()
	switch {
	case layout.StripeOf(h, bits) != seg.header.Stripe,
		layout.DirectoryIndex(h, bits, seg.header.Depth) != seg.header.Prefix:
		err = p.Corrupt("record", off, "its key belongs to another segment than that of slot %#x", at)
	case layout.Tag(h, bits, seg.header.TagShift) != word&layout.SlotTagMask:
		err = p.Corrupt("slot", at, "its tag is not that of its key")
	default:
		err = c.findable(seg, line, at, h, word)
	}
	return entry{h, rec.Key, at}, shape, err
}

// markRecord marks a record's block before its checksum is computed: every block
// is read once and no further than it reaches, so that a file whose records
// overlap takes no longer to check than another of its size.
func (c *checker) markRecord(off uint64) (shape layout.RecordShape, err error) {
	sizeBytes := 1
	if head := c.pool.Bytes(off, layout.MaxRecordHeaderBytes); head != nil {
		shape = layout.DecodeRecord(head)
		sizeBytes = shape.Size()
	}
	return shape, wrapMark(c.pool, "record", off, c.mark(off, sizeBytes))
}

// findable checks that a lookup which begins at the home line comes by.
func (c *checker) findable(seg *segmentView, line int, at, hash, word uint64) error {
	p, g := c.pool, c.pool.Geometry()
	home := layout.HomeLine(hash, g.Lines())
	first, last := home, home+layout.WindowLines-1
	if seg.header.Overflow {
		first, last = 0, g.Lines()-1
	} else if layout.SlotDisplacement(word) != line-home {
		return p.Corrupt("slot", at, "its displacement %d does not lead home to line %d", layout.SlotDisplacement(word), home)
	}
	if line < first || line > last {
		return p.Corrupt("slot", at, "it lies in line %d, a lookup goes from %d to %d", line, first, last)
	}
	for l := first; l < line; l++ {
		if !c.overflows(seg.at, l) {
			return p.Corrupt("slot", at, "line %d before it lacks the overflow bit, so a lookup ends there", l)
		}
	}
	for s := seg.parent; s != nil; s = s.parent {
		first, end := home, home+layout.WindowLines
		if s.header.Overflow {
			first, end = 0, g.Lines()
		}
		for l := first; l < end; l++ {
			if !c.overflows(s.at, l) {
				return p.Corrupt("slot", at, "line %d of the segment at %#x lacks the overflow bit, so a lookup does not follow the chain", l, s.at)
			}
		}
	}
	return nil
}

func (c *checker) overflows(seg uint64, line int) bool {
	at := seg + layout.LineBytes*uint64(line+1)
	w := walk{pool: c.pool, overlay: c.overlay}
	return w.load(at)&layout.SlotOverflow != 0
}

// duplicates reports keys that a segment and its chain hold twice.
func (c *checker) duplicates(entries []entry) {
	if c.level < LevelFull {
		return // then nobody knows their keys
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if d := cmp.Compare(a.hash, b.hash); d != 0 {
			return d
		}
		return bytes.Compare(a.key, b.key)
	})
	for i := 1; i < len(entries); i++ {
		if a, b := entries[i-1], entries[i]; a.hash == b.hash && bytes.Equal(a.key, b.key) {
			c.add(Problem{"slot", b.at, fmt.Sprintf("the same key as slot %#x", a.at)})
		}
	}
}

// Record is a record in place: its slices lie in the mapping.
type Record struct {
	layout.RecordShape
	Key, Value []byte
}

// IntactRecord returns the record at offset off in place, whole, and its shape; nil if
// there is none that is intact, of which RecordDamage says why. Nobody may be reusing it.
func IntactRecord(p *pmem.Pool, off uint64) (record []byte, shape layout.RecordShape) {
	if record, shape = p.Record(off); record == nil || !layout.RecordIntact(record) {
		return nil, shape
	}
	return record, shape
}

// ReadRecord reads and verifies the record at offset off, which nobody may be
// reusing: it lies in a frozen tree, is pinned, or its stripe is locked.
func ReadRecord(p *pmem.Pool, off uint64) (Record, error) {
	b, shape := IntactRecord(p, off)
	if b == nil {
		err := RecordDamage(p, off)
		if err == nil {
			err = p.Corrupt("record", off, "somebody changed it meanwhile")
		}
		return Record{}, err
	}
	b = b[shape.HeaderSize:]
	return Record{shape, b[:shape.KeySize:shape.KeySize], b[shape.KeySize:]}, nil
}

// RecordDamage says what is wrong with the record at offset off, nil if nothing is,
// for a caller that has nothing but the offset: it may be changing.
func RecordDamage(p *pmem.Pool, off uint64) error {
	head := p.Speculative(off, layout.MaxRecordHeaderBytes)
	if head == nil || off < p.Regions().Arena {
		return p.Corrupt("record", off, "it lies outside the file")
	}
	shape := layout.DecodeRecord(head)
	b := p.Speculative(off, shape.Size())
	switch {
	case shape.ValueSize > layout.MaxValueBytes || b == nil:
		return p.Corrupt("record", off, "its size of %d bytes runs over the end of the file", shape.Size())
	case !layout.RecordIntact(b):
		return p.Corrupt("record", off, "its checksum is wrong")
	}
	return nil
}
