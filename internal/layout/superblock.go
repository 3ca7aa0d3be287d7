package layout

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"
	"sync"
)

// Superblock is a committed root: the whole table as it stood at the end of an
// epoch. Two slots take turns; the valid one with the higher sequence counts.
type Superblock struct {
	Sequence    uint64
	Epoch       uint64
	Metadata    uint64   // word: the user's metadata record, or 0
	CountsKnown bool     // Counts mean something
	Roots       []uint64 // one stripe root word per stripe
	Counts      []uint64 // entries per stripe
	// Extents of a commit by one sync: all that was stored for it. The slot counts
	// only if they verify; nil for a commit whose tree was synced before its slot.
	Extents []Extent
	// Log is where the log goes on from this root; of generation 0 if there is none.
	Log LogSpan
}

// Extent is a piece of the file with its checksum.
type Extent struct {
	Offset uint64
	Bytes  uint32
	CRC    uint32
}

// ExtentChecksum is the checksum of an extent: CRC-32 by the IEEE polynomial, not
// CRC32C. What is followed by its own CRC32C, as a segment's header is, leaves a
// CRC32C over both the same whatever it says: an old header would pass for a new one.
func ExtentChecksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }

// Bounds of a slot's extents, so that verifying them is quick whatever they say.
const (
	MaxExtentBytes  = 64 << 10
	extentBytes     = 16
	leastMaxExtents = 64
)

// MaxExtents is how many extents a slot holds: what its last page has room for.
func (g Geometry) MaxExtents() int {
	return (g.SuperblockBytes() - SuperRoots - 2*g.Stripes*WordBytes) / extentBytes
}

// Offsets inside a superblock slot. The roots lie as they do in a root area, so
// that a reader can be pointed at either.
const (
	SuperSequence = 0 // never 0
	superEpoch    = 8
	SuperMetadata = 16
	superFlags    = 24
	SuperStripes  = 32
	superExtents  = 40 // how many extents follow the counts
	superCRC      = 56
	superLog      = 64 // generation, position, size of the ring
	SuperLogBytes = 88 // of the geometry, for who finds a slot without a header
	SuperRoots    = 2 * LineBytes
)

// SuperblockBytes is the size of a slot: whole pages.
func (g Geometry) SuperblockBytes() int {
	return int(roundUp(uint64(SuperRoots+2*g.Stripes*WordBytes+leastMaxExtents*extentBytes), PageBytes))
}

// Encode writes the slot into b, as many zeros as a slot has bytes.
func (s *Superblock) Encode(g Geometry, b []byte) {
	le := binary.LittleEndian
	le.PutUint64(b[SuperSequence:], s.Sequence)
	le.PutUint64(b[superEpoch:], s.Epoch)
	le.PutUint64(b[SuperMetadata:], s.Metadata)
	if s.CountsKnown {
		le.PutUint64(b[superFlags:], 1)
	}
	le.PutUint64(b[SuperStripes:], uint64(g.Stripes))
	for i := range g.Stripes {
		le.PutUint64(b[SuperRoots+i*WordBytes:], s.Roots[i])
		le.PutUint64(b[SuperRoots+(g.Stripes+i)*WordBytes:], s.Counts[i])
	}
	le.PutUint64(b[superExtents:], uint64(len(s.Extents)))
	le.PutUint64(b[superLog:], s.Log.Generation)
	le.PutUint64(b[superLog+8:], s.Log.Start)
	le.PutUint64(b[superLog+16:], s.Log.RingBytes)
	le.PutUint64(b[SuperLogBytes:], uint64(g.LogBytes))
	at := SuperRoots + 2*g.Stripes*WordBytes
	for i, e := range s.Extents {
		le.PutUint64(b[at+i*extentBytes:], e.Offset)
		le.PutUint64(b[at+i*extentBytes+8:], uint64(e.Bytes)|uint64(e.CRC)<<32)
	}
	le.PutUint64(b[superCRC:], uint64(crc32.Checksum(b, Castagnoli)))
}

// holdsRing tells whether a log can have a ring of this size; 0: no log.
func (g Geometry) holdsRing(ringBytes uint64) bool {
	return ringBytes == 0 || ringBytes >= MinLogBytes && ringBytes <= uint64(g.LogBytes) && bits.OnesCount64(ringBytes) == 1
}

// slotCopies are buffers of DecodeSuperblock, which an open calls many times.
var slotCopies = sync.Pool{New: func() any { return new([]byte) }}

// DecodeSuperblock returns false for an empty, torn or damaged slot.
func DecodeSuperblock(g Geometry, slot []byte) (*Superblock, bool) {
	if len(slot) < g.SuperblockBytes() {
		return nil, false
	}
	copied := slotCopies.Get().(*[]byte)
	defer slotCopies.Put(copied)
	b := append((*copied)[:0], slot[:g.SuperblockBytes()]...) // it may be changing
	*copied = b
	le := binary.LittleEndian
	sum := le.Uint64(b[superCRC:])
	le.PutUint64(b[superCRC:], 0)
	sequence, epoch, extents := le.Uint64(b[SuperSequence:]), le.Uint64(b[superEpoch:]), le.Uint64(b[superExtents:])
	if sequence == 0 || epoch > MaxEpoch || le.Uint64(b[SuperStripes:]) != uint64(g.Stripes) ||
		le.Uint64(b[SuperLogBytes:]) != uint64(g.LogBytes) || !g.holdsRing(le.Uint64(b[superLog+16:])) ||
		extents > uint64(g.MaxExtents()) || uint64(crc32.Checksum(b, Castagnoli)) != sum {
		return nil, false
	}
	words := make([]uint64, 2*g.Stripes)
	s := &Superblock{
		Sequence:    sequence,
		Epoch:       epoch,
		Metadata:    le.Uint64(b[SuperMetadata:]),
		CountsKnown: le.Uint64(b[superFlags:])&1 != 0,
		Roots:       words[:g.Stripes:g.Stripes],
		Counts:      words[g.Stripes:],
		Log:         LogSpan{le.Uint64(b[superLog:]), le.Uint64(b[superLog+8:]), le.Uint64(b[superLog+16:])},
	}
	if extents > 0 {
		s.Extents = make([]Extent, 0, extents)
	}
	for i := range int(extents) {
		at := SuperRoots + 2*g.Stripes*WordBytes + i*extentBytes
		w := le.Uint64(b[at+8:])
		s.Extents = append(s.Extents, Extent{le.Uint64(b[at:]), uint32(w), uint32(w >> 32)})
	}
	for i := range g.Stripes {
		s.Roots[i] = le.Uint64(b[SuperRoots+i*WordBytes:])
		s.Counts[i] = le.Uint64(b[SuperRoots+(g.Stripes+i)*WordBytes:])
	}
	return s, true
}
