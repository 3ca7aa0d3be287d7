package layout

import "hash/crc32"

// A directory is a block:
//
//	word 0: bits 0-46 birth epoch | 48-55 global depth | 56-63 'D'
//	word 1: bits 0-31 stripe | 32-63 CRC32C of word 0, the stripe and its own offset
//	then 2^depth directory words
const (
	DirectoryHeaderBytes = 16
	directoryMark        = 'D'
)

// DirectoryBytes is the size of a directory of the given global depth.
func DirectoryBytes(depth uint) int { return DirectoryHeaderBytes + WordBytes<<depth }

// DirectoryHeader is a decoded directory header.
type DirectoryHeader struct {
	Birth  uint64
	Depth  uint
	Stripe int
}

// Words encodes the header of a directory that lies at offset at.
func (d DirectoryHeader) Words(at uint64) (w0, w1 uint64) {
	w0 = d.Birth | uint64(d.Depth)<<48 | directoryMark<<56
	return w0, uint64(d.Stripe) | uint64(wordsCRC(w0, uint64(d.Stripe), at))<<32
}

// DecodeDirectory returns false when the words are not the header of a directory
// at offset at.
func DecodeDirectory(w0, w1, at uint64) (d DirectoryHeader, ok bool) {
	d = DirectoryHeader{Birth: w0 & MaxEpoch, Depth: uint(w0 >> 48 & 255), Stripe: int(uint32(w1))}
	return d, w0>>56 == directoryMark && w0>>47&1 == 0 &&
		uint32(w1>>32) == wordsCRC(w0, uint64(uint32(w1)), at)
}

// A segment is a block: one header line, then bucket lines of eight slots.
//
//	word 0: bits 0-46 birth epoch | 47 overflow segment | 48-55 reach | 56-63 'S'
//	word 1: bits 0-31 stripe | 32-39 local depth | 40-47 tag shift
//	word 2: prefix: the hash bits after the stripe's that all its keys share
//	word 3: its own offset
//	word 4: CRC32C of words 0 to 3
//	word 5: offset/16 of the overflow segment, 0 for none; the only one that changes
//	words 6 and 7: zero
const (
	SegmentHeaderBytes = 5 * WordBytes // the words that never change
	SegmentNext        = 5 * WordBytes // offset of the link to the overflow segment
	segmentMark        = 'S'
	segmentCRC         = 4 * WordBytes
)

// SegmentHeader is a decoded segment header.
type SegmentHeader struct {
	Birth    uint64
	Overflow bool // a link of a chain: every line may hold every key
	Reach    int  // slots of a window that an insert may fill before the segment splits
	Stripe   int
	Depth    uint
	TagShift uint
	Prefix   uint64 // Depth bits
}

// Encode writes the fixed words of a segment that will lie at offset at to b.
func (s SegmentHeader) Encode(b []byte, at uint64) {
	w := s.Birth | uint64(s.Reach)<<48 | segmentMark<<56
	if s.Overflow {
		w |= 1 << 47
	}
	putWord(b, w)
	putWord(b[8:], uint64(s.Stripe)|uint64(s.Depth)<<32|uint64(s.TagShift)<<40)
	putWord(b[16:], s.Prefix)
	putWord(b[24:], at)
	putWord(b[segmentCRC:], uint64(crc32.Checksum(b[:segmentCRC], Castagnoli)))
}

// DecodeSegment returns false when b does not begin with the header of a segment
// at offset at.
func DecodeSegment(b []byte, at uint64) (s SegmentHeader, ok bool) {
	w0, w1 := getWord(b), getWord(b[8:])
	s = SegmentHeader{
		Birth:    w0 & MaxEpoch,
		Overflow: w0>>47&1 != 0,
		Reach:    int(w0 >> 48 & 255),
		Stripe:   int(uint32(w1)),
		Depth:    uint(w1 >> 32 & 255),
		TagShift: uint(w1 >> 40 & 255),
		Prefix:   getWord(b[16:]),
	}
	return s, w0>>56 == segmentMark && getWord(b[24:]) == at &&
		getWord(b[segmentCRC:]) == uint64(crc32.Checksum(b[:segmentCRC], Castagnoli)) &&
		s.Reach > 0 && s.Reach <= maxReach
}

// Matches tells whether b begins with the header of a segment at offset at that has the
// stripe, the depth, the tag shift, the prefix and the place in a chain that s says, and
// fills the rest of s in: DecodeSegment for who knows what there must be.
func (s *SegmentHeader) Matches(b []byte, at uint64) bool {
	b = b[:SegmentHeaderBytes]
	w := getWord(b)
	known := uint64(s.Stripe) | uint64(s.Depth)<<32 | uint64(s.TagShift)<<40
	if w>>56 != segmentMark || (w>>47&1 != 0) != s.Overflow || getWord(b[8:]) != known ||
		getWord(b[16:]) != s.Prefix || getWord(b[24:]) != at ||
		getWord(b[segmentCRC:]) != uint64(crc32.Update(0, Castagnoli, b[:segmentCRC])) {
		return false
	}
	s.Birth, s.Reach = w&MaxEpoch, int(w>>48&255)
	return s.Reach > 0 && s.Reach <= maxReach
}

// maxReach is the most slots that a window has.
const maxReach = max(WindowLines*SlotsPerLine, InlineProbes*InlineSlotsPerLine)

// SegmentLink encodes the link to an overflow segment.
func SegmentLink(segment uint64) uint64 { return segment / UnitBytes }

// DecodeSegmentLink returns the offset that a link names, 0 for none. ok is
// false when bits that must be zero are not.
func DecodeSegmentLink(w uint64) (segment uint64, ok bool) { return w * UnitBytes, w>>linkBits == 0 }
