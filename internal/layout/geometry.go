package layout

import (
	"errors"
	"fmt"
	"math/bits"
)

// Sizes that no geometry changes.
const (
	PageBytes = 4096 // unit of the fixed regions; also the smallest write of most disks
	LineBytes = 64   // a bucket line; also the usual cache line
	WordBytes = 8
	UnitBytes = 16 // blocks start at multiples of it, so an offset/16 fits 40 bits

	// FormatVersion is what this code writes and the only one it reads.
	FormatVersion = 2

	// MaxFileBytes follows from the 40-bit block links.
	MaxFileBytes = 1 << 40 * UnitBytes
)

// Geometry holds the sizes chosen when a pool is created. They are written to
// the header once and win over any option afterwards.
type Geometry struct {
	Stripes      int  // power of two, 1 to MaxStripes
	ChunkBytes   int  // power of two, MinChunkBytes to MaxChunkBytes
	SegmentBytes int  // multiple of LineBytes, at least MinSegmentBytes, divides ChunkBytes
	IntentBytes  int  // multiple of PageBytes: bounds the size of a batch
	LogBytes     int  // power of two from MinLogBytes to MaxLogBytes: room for the log; 0 for none
	Inline       bool // entries of two words, in the bucket lines; at least MinInlineStripes
}

// Bounds of a geometry. The small ends exist for tests: with them every program
// of a few operations meets splits and chunk changes.
const (
	MaxStripes      = 1 << 12
	MinChunkBytes   = 4096
	MaxChunkBytes   = 1 << 20
	MinSegmentBytes = 8 * LineBytes
	MaxSegmentBytes = 256 * LineBytes
	MaxIntentBytes  = 1 << 24
)

// DefaultGeometry is what a pool gets unless its creator says otherwise.
func DefaultGeometry() Geometry {
	return Geometry{Stripes: 64, ChunkBytes: 64 << 10, SegmentBytes: 16 << 10, IntentBytes: 64 << 10, LogBytes: 16 << 20}
}

// Validate reports the first field that is out of range.
func (g Geometry) Validate() error {
	switch {
	case g.Stripes < 1 || g.Stripes > MaxStripes || bits.OnesCount(uint(g.Stripes)) != 1:
		return fmt.Errorf("stripes: %d is not a power of two from 1 to %d", g.Stripes, MaxStripes)
	case g.Inline && g.Stripes < MinInlineStripes:
		return fmt.Errorf("stripes: %d are fewer than the %d that inline entries need", g.Stripes, MinInlineStripes)
	case g.ChunkBytes < MinChunkBytes || g.ChunkBytes > MaxChunkBytes || bits.OnesCount(uint(g.ChunkBytes)) != 1:
		return fmt.Errorf("chunk size: %d is not a power of two from %d to %d", g.ChunkBytes, MinChunkBytes, MaxChunkBytes)
	case g.SegmentBytes < MinSegmentBytes || g.SegmentBytes > MaxSegmentBytes || bits.OnesCount(uint(g.SegmentBytes)) != 1:
		return fmt.Errorf("segment size: %d is not a power of two from %d to %d", g.SegmentBytes, MinSegmentBytes, MaxSegmentBytes)
	case g.SegmentBytes > g.ChunkBytes:
		return errors.New("segment size: larger than a chunk")
	case g.IntentBytes < PageBytes || g.IntentBytes > MaxIntentBytes || g.IntentBytes%PageBytes != 0:
		return fmt.Errorf("intent size: %d is not a multiple of %d up to %d", g.IntentBytes, PageBytes, MaxIntentBytes)
	case g.LogBytes != 0 && (g.LogBytes < MinLogBytes || g.LogBytes > MaxLogBytes || bits.OnesCount(uint(g.LogBytes)) != 1):
		return fmt.Errorf("log size: %d is neither 0 nor a power of two from %d to %d", g.LogBytes, MinLogBytes, MaxLogBytes)
	}
	return nil
}

// StripeBits is the number of top hash bits that choose the stripe.
func (g Geometry) StripeBits() uint { return uint(bits.TrailingZeros(uint(g.Stripes))) }

// Lines is the number of bucket lines of a segment: all but the header line.
func (g Geometry) Lines() int { return g.SegmentBytes/LineBytes - 1 }

// Regions are the offsets of a pool's fixed parts; they follow from the geometry.
type Regions struct {
	Session    [2]uint64
	Control    uint64
	Intent     uint64
	Versions   uint64    // one line per stripe
	Counters   uint64    // of the stripes: see counters.go
	Root       [2]uint64 // root areas
	Superblock [2]uint64
	Log        uint64
	Arena      uint64 // the first chunk
}

// Regions lays the fixed parts out one after the other, each on pages of its own.
func (g Geometry) Regions() Regions {
	var r Regions
	next := uint64(PageBytes)
	take := func(sizeBytes int) uint64 {
		at := next
		next += roundUp(uint64(sizeBytes), PageBytes)
		return at
	}
	r.Session[0], r.Session[1] = take(PageBytes), take(PageBytes)
	r.Control = take(PageBytes)
	r.Intent = take(g.IntentBytes)
	r.Versions = take(g.Stripes * LineBytes)
	r.Counters = take(g.countersBytes())
	r.Root[0], r.Root[1] = take(g.rootBytes()), take(g.rootBytes())
	r.Superblock[0], r.Superblock[1] = take(g.SuperblockBytes()), take(g.SuperblockBytes())
	r.Log = take(g.LogBytes)
	r.Arena = roundUp(next, uint64(g.ChunkBytes))
	return r
}

// Words of the control page, each on a line of its own: offsets from its start.
const (
	ControlRoot       = 0   // the working root pointer: the offset of a root area
	ControlEpoch      = 64  // the current epoch
	ControlSize       = 128 // the file's size, published for readers of other processes
	ControlGeneration = 192 // the session's generation, for readers of other processes
	ControlReplaying  = 256 // 1 while the session takes up what the log holds, for readers of other processes
	ControlCounters   = 1024
)

// Offsets inside a root area.
const (
	RootMetadata = 0         // word: the user's metadata record, or 0
	RootStripes  = LineBytes // one stripe root word each
)

func (g Geometry) rootBytes() int { return RootStripes + g.Stripes*WordBytes }

func roundUp(n, unit uint64) uint64 { return (n + unit - 1) / unit * unit }
