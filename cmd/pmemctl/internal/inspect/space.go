package inspect

import (
	"math/bits"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// Space is how a file's chunks are used, and how full what lies in them is. Beside a
// writer it is of no single instant.
type Space struct {
	SizeBytes    int64               `json:"size_bytes"`
	ChunkBytes   int64               `json:"chunk_bytes"`
	FixedBytes   int64               `json:"fixed_bytes"` // before the first chunk
	Entries      int64               `json:"entries"`
	Chunks       []ChunkUse          `json:"chunks"`
	Stripes      []StripeShape       `json:"stripes"`
	SegmentLoads [10]int64           `json:"segment_loads"` // segments by tenths of their slots in use
	Probes       []int64             `json:"probe_lengths"` // entries by lines that a lookup reads
	RecordSizes  [32]int64           `json:"record_sizes"`  // records by bits.Len of their size
	Classes      []ClassUse          `json:"classes"`
	Problems     int                 `json:"problems"` // places that are damaged, or changed meanwhile
	BesideWriter bool                `json:"beside_writer"`
	classOf      map[int]int         // place in Classes by block size
	chained      map[uint64]struct{} // overflow segments that were seen: a damaged chain may go in circles
	sizes        *layout.Classes
	file         *File
}

// ChunkUse is how a chunk is used. A run begins with its first chunk.
type ChunkUse struct {
	Kind       string `json:"kind"` // one of ChunkKinds
	UsedBytes  int64  `json:"used_bytes"`
	Blocks     int    `json:"blocks"`
	BlockBytes int    `json:"block_bytes"` // 0 for runs
	byKind     [3]int64
}

// The kinds of chunks: by what takes most of their bytes.
const (
	ChunkFree        = "free"
	ChunkDescriptors = "descriptors"
	ChunkDirectories = "directories"
	ChunkSegments    = "segments"
	ChunkRecords     = "records"
	ChunkRun         = "run"
)

// ChunkKinds lists them.
var ChunkKinds = []string{ChunkRecords, ChunkRun, ChunkSegments, ChunkDirectories, ChunkDescriptors, ChunkFree}

// StripeShape is the shape of a stripe's tree.
type StripeShape struct {
	Depth    uint  `json:"depth"`
	Segments int64 `json:"segments"`
	Chains   int64 `json:"overflow_segments"`
	Entries  int64 `json:"entries"`
}

// ClassUse is how the blocks of one size are used.
type ClassUse struct {
	BlockBytes int64 `json:"block_bytes"`
	Blocks     int64 `json:"blocks"`
	Room       int64 `json:"room"` // blocks that their chunks have room for
	UsedBytes  int64 `json:"used_bytes"`
}

const (
	inDirectory = iota
	inSegment
	inRecord
)

// Space walks over all of the table. It reads of the records their headers. began,
// if not nil, is told which stripe comes next.
func (f *File) Space(began func(stripe, stripes int)) (*Space, error) {
	if f.view == nil {
		return nil, f.viewErr
	}
	g := f.geometry
	r := g.Regions()
	size := f.pool.SizeBytes()
	s := &Space{
		SizeBytes: int64(size), ChunkBytes: int64(g.ChunkBytes), FixedBytes: int64(r.Arena), BesideWriter: f.pool.BesideWriter(),
		Chunks:  make([]ChunkUse, (size-min(size, r.Arena))/uint64(g.ChunkBytes)),
		Stripes: make([]StripeShape, g.Stripes), classOf: map[int]int{}, chained: map[uint64]struct{}{}, sizes: layout.NewClasses(g.ChunkBytes), file: f,
	}
	for i := range s.Stripes {
		if began != nil {
			began(i, len(s.Stripes))
		}
		if err := f.pool.Guard(func() error { return s.stripe(i) }); err != nil {
			s.Problems++
		}
	}
	if at := f.load(f.view.Metadata); at != 0 {
		if rec := f.record(at); rec.Key != nil {
			s.block(at, rec.HeaderBytes+rec.KeyBytes+rec.ValueBytes, inRecord)
		}
	}
	s.finish()
	return s, nil
}

func (s *Space) stripe(n int) error {
	f, p := s.file, s.file.pool
	root := f.load(f.view.StripeRoots + uint64(n)*layout.WordBytes)
	if root == 0 {
		return nil
	}
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok || p.Bytes(dir, layout.DirectoryBytes(depth)) == nil {
		return p.Corrupt("stripe root", dir, "%#x is no stripe root", root)
	}
	s.Stripes[n].Depth = depth
	s.block(dir, layout.DirectoryBytes(depth), inDirectory)
	for i := uint64(0); i < 1<<depth; {
		word := f.load(dir + layout.DirectoryHeaderBytes + i*layout.WordBytes)
		segment, local, shift, ok := layout.DecodeDirectoryWord(word)
		if !ok || local > depth {
			return p.Corrupt("directory word", dir, "%#x is no directory word", word)
		}
		want := layout.SegmentHeader{Stripe: n, Depth: local, TagShift: shift, Prefix: i >> (depth - local)}
		if err := s.chain(&s.Stripes[n], segment, want); err != nil {
			s.Problems++
		}
		i += 1 << (depth - local)
	}
	return nil
}

func (s *Space) chain(stripe *StripeShape, at uint64, want layout.SegmentHeader) error {
	f, g := s.file, s.file.geometry
	for n := range recovery.MaxChain {
		if _, err := recovery.ReadSegment(f.pool, at, want); err != nil {
			return err
		}
		s.block(at, g.SegmentBytes, inSegment)
		stripe.Segments++
		if n > 0 {
			stripe.Chains++
			if _, twice := s.chained[at]; twice {
				return f.pool.Corrupt("segment", at, "it is in two chains")
			}
			s.chained[at] = struct{}{}
		}
		used := int64(0)
		for l := range g.Lines() {
			lineAt := at + layout.LineBytes*uint64(l+1)
			for i := range layout.SlotsPerLine {
				word := f.load(lineAt + uint64(i)*layout.WordBytes)
				if word&layout.SlotLinkMask == 0 {
					continue
				}
				used++
				probe := layout.SlotDisplacement(word) + 1
				if n > 0 {
					probe = layout.WindowLines + (n-1)*g.Lines() + l + 1
				}
				s.entry(layout.SlotRecord(word), probe)
			}
		}
		stripe.Entries += used
		s.SegmentLoads[min(9, used*10/int64(g.Lines()*layout.SlotsPerLine))]++
		next, ok := layout.DecodeSegmentLink(f.load(at + layout.SegmentNext))
		if !ok {
			return f.pool.Corrupt("segment", at, "its link to an overflow segment is damaged")
		}
		if next == 0 {
			return nil
		}
		at, want.Overflow = next, true
	}
	return f.pool.Corrupt("segment", at, "its chain of overflow segments does not end")
}

// maxProbes bounds the list of probe lengths: the last one stands for all above it.
const maxProbes = 16

func (s *Space) entry(at uint64, probe int) {
	s.Entries++
	for len(s.Probes) < min(probe, maxProbes) {
		s.Probes = append(s.Probes, 0)
	}
	s.Probes[min(probe, maxProbes)-1]++
	head := s.file.pool.Speculative(at, layout.MaxRecordHeaderBytes)
	if head == nil {
		s.Problems++
		return
	}
	size := layout.DecodeRecord(head).Size()
	s.RecordSizes[min(31, bits.Len(uint(size)))]++
	s.block(at, size, inRecord)
}

// block counts a block in use.
func (s *Space) block(at uint64, sizeBytes, kind int) {
	arena := uint64(s.FixedBytes)
	i := (at - arena) / uint64(s.ChunkBytes)
	if at < arena || i >= uint64(len(s.Chunks)) {
		s.Problems++
		return
	}
	class, small := s.sizes.Of(sizeBytes)
	if !small {
		for left := int64(sizeBytes); left > 0 && i < uint64(len(s.Chunks)); i++ {
			c := &s.Chunks[i]
			c.Kind, c.UsedBytes, c.Blocks = ChunkRun, min(left, s.ChunkBytes), 1
			left -= s.ChunkBytes
		}
		return
	}
	c, size := &s.Chunks[i], s.sizes.Sizes[class]
	c.BlockBytes = size
	c.Blocks++
	c.UsedBytes += int64(sizeBytes)
	c.byKind[kind] += int64(sizeBytes)
}

// finish names the chunks and sums the classes up.
func (s *Space) finish() {
	kinds := [...]string{inDirectory: ChunkDirectories, inSegment: ChunkSegments, inRecord: ChunkRecords}
	for i := range s.Chunks {
		c := &s.Chunks[i]
		switch {
		case c.Kind == ChunkRun:
			continue
		case s.file.geometry.HoldsDescriptors(i):
			c.Kind, c.UsedBytes = ChunkDescriptors, s.ChunkBytes
			continue
		case c.Blocks == 0:
			c.Kind = ChunkFree
			continue
		}
		most := 0
		for k, n := range c.byKind {
			if n > c.byKind[most] {
				most = k
			}
		}
		c.Kind = kinds[most]
		c.UsedBytes = min(c.UsedBytes, s.ChunkBytes)
		s.class(c)
	}
}

func (s *Space) class(c *ChunkUse) {
	i, ok := s.classOf[c.BlockBytes]
	if !ok {
		i = len(s.Classes)
		s.classOf[c.BlockBytes] = i
		s.Classes = append(s.Classes, ClassUse{BlockBytes: int64(c.BlockBytes)})
	}
	u := &s.Classes[i]
	u.Blocks += int64(c.Blocks)
	u.Room += s.ChunkBytes / int64(c.BlockBytes)
	u.UsedBytes += c.UsedBytes
}

// Cell is a run of chunks that a picture shows as one.
type Cell struct {
	First, Last int // chunks
	Kind        string
	Fill        float64 // of the bytes of all, 0 to 1
}

// Cells makes at most n cells of the chunks. The kind is that of most chunks that
// are not free.
func (s *Space) Cells(n int) []Cell {
	per := max(1, (len(s.Chunks)+n-1)/n)
	var cells []Cell
	for first := 0; first < len(s.Chunks); first += per {
		c := Cell{First: first, Last: min(first+per, len(s.Chunks)) - 1, Kind: ChunkFree}
		count, used := map[string]int{}, int64(0)
		for i := first; i <= c.Last; i++ {
			chunk := &s.Chunks[i]
			used += chunk.UsedBytes
			if chunk.Kind == ChunkFree {
				continue
			}
			if count[chunk.Kind]++; count[chunk.Kind] > count[c.Kind] {
				c.Kind = chunk.Kind
			}
		}
		c.Fill = float64(used) / float64(int64(c.Last-first+1)*s.ChunkBytes)
		cells = append(cells, c)
	}
	return cells
}

// BlockSizes are the sizes of the blocks in use, ascending.
func (s *Space) BlockSizes() []int64 {
	var sizes []int64
	for _, c := range s.Classes {
		sizes = append(sizes, c.BlockBytes)
	}
	slices.Sort(sizes)
	return sizes
}
