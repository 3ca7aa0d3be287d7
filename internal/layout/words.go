package layout

import (
	"encoding/binary"
	"hash/crc32"
)

// MaxEpoch bounds every epoch in a file; at 100,000 cuts a second it lasts 44 years.
const MaxEpoch = 1<<47 - 1

const (
	linkBits = 40
	linkMask = 1<<linkBits - 1
)

// A stripe root is one word:
//
//	bits 0-39 offset/16 of the directory | 40-45 global depth | 46-63 zero
//
// Zero is an empty stripe.

// StripeRoot encodes a stripe root.
func StripeRoot(directory uint64, depth uint) uint64 {
	return directory/UnitBytes | uint64(depth)<<linkBits
}

// DecodeStripeRoot splits a stripe root. ok is false when bits that must be zero
// are not, or the depth is above MaxDepth.
func DecodeStripeRoot(w uint64) (directory uint64, depth uint, ok bool) {
	return w & linkMask * UnitBytes, uint(w >> linkBits & 63), w>>linkBits <= MaxDepth
}

// MaxDepth bounds a directory's global depth. It keeps a hostile depth from
// sizing a walk, and is far above what 16 TiB of segments need.
const MaxDepth = 40

// A directory word:
//
//	bits 0-39 offset/16 of the segment | 40-45 local depth | 46-51 tag shift | 52-63 zero

// DirectoryWord encodes a directory word.
func DirectoryWord(segment uint64, depth, tagShift uint) uint64 {
	return segment/UnitBytes | uint64(depth)<<linkBits | uint64(tagShift)<<(linkBits+6)
}

// DecodeDirectoryWord splits a directory word. ok is false when bits that must
// be zero are not.
func DecodeDirectoryWord(w uint64) (segment uint64, depth, tagShift uint, ok bool) {
	return w & linkMask * UnitBytes, uint(w >> linkBits & 63), uint(w >> (linkBits + 6) & 63), w>>(linkBits+12) == 0
}

// A slot:
//
//	bit 0 zero | bit 1 overflow (slot 0 of a line only) | 2-3 displacement |
//	4-23 tag | 24-63 offset/16 of the record
//
// A slot without an offset is empty. The displacement is how many lines after
// its home line the slot lies, so that a split can bring it home again without
// reading the record; in an overflow segment, where any line may hold any key,
// it is zero and means nothing.
const (
	SlotOverflow = 1 << 1 // some key that probes this line lives further on

	slotDisplacementShift = 2
	slotDisplacementMask  = 3 << slotDisplacementShift
	slotTagShift          = 4
	TagBits               = 20
	SlotTagMask           = (1<<TagBits - 1) << slotTagShift
	slotLinkShift         = 64 - linkBits
	SlotLinkMask          = linkMask << slotLinkShift

	SlotsPerLine = LineBytes / WordBytes
	WindowLines  = 4 // lines that a lookup in an ordinary segment probes
)

// Slot encodes an occupied slot. tag is in place, as Tag returns it.
func Slot(record uint64, tag uint64, displacement int) uint64 {
	return record/UnitBytes<<slotLinkShift | tag | uint64(displacement)<<slotDisplacementShift
}

// SlotRecord returns the offset of a slot's record, 0 for an empty slot.
func SlotRecord(w uint64) uint64 { return w >> slotLinkShift * UnitBytes }

// SlotDisplacement returns how many lines after its home line the slot lies.
func SlotDisplacement(w uint64) int { return int(w & slotDisplacementMask >> slotDisplacementShift) }

// The line of a stripe's version has, behind the version, room for the offsets of the
// slots that the holder of the stripe's lock has stored to and not drained yet, the
// first zero ending them. Whoever reads such a slot on persistent memory drains it
// before he answers. The line is never drained itself: a session that follows a kill
// finds it in the mapping.
const (
	InFlight      = WordBytes // where they begin
	InFlightSlots = SlotsPerLine - 1
)

// The 64-bit hash of a key is used from the top for the stripe, then for the
// directory, while the home line comes from its low half.

// StripeOf returns the stripe that a hash belongs to. Two shifts by less than 64,
// which the compiler can see, are cheaper than one that may be by 64.
func StripeOf(hash uint64, stripeBits uint) int {
	return int(hash >> 1 >> ((63 - stripeBits) & 63))
}

// DirectoryIndex returns the directory word that a hash selects.
func DirectoryIndex(hash uint64, stripeBits, depth uint) uint64 {
	return hash << (stripeBits & 63) >> 1 >> ((63 - depth) & 63)
}

// Tag returns the tag of a hash, in place in a slot: the TagBits bits that
// follow the stripe's and tagShift more.
func Tag(hash uint64, stripeBits, tagShift uint) uint64 {
	return hash << (stripeBits + tagShift) >> (64 - TagBits) << slotTagShift
}

// TagBit returns the bit of a slot that decides a split of a segment of the
// given local depth, and false when the tag does not hold it.
func TagBit(slot uint64, depth, tagShift uint) (bit uint64, ok bool) {
	if depth < tagShift || depth-tagShift >= TagBits {
		return 0, false
	}
	return slot >> (slotTagShift + TagBits - 1 - (depth - tagShift)) & 1, true
}

// HomeLine returns the bucket line, counted from 0, at which the search for a
// hash begins. The last lines of a segment are nobody's home: they take what the
// lines before them cannot, so no window wraps around.
func HomeLine(hash uint64, lines int) int {
	return int(uint64(uint32(hash)) * uint64(lines-(WindowLines-1)) >> 32)
}

func putWord(b []byte, w uint64) { binary.LittleEndian.PutUint64(b, w) }
func getWord(b []byte) uint64    { return binary.LittleEndian.Uint64(b) }

func wordsCRC(words ...uint64) uint32 {
	var b [8 * WordBytes]byte
	for i, w := range words {
		putWord(b[i*WordBytes:], w)
	}
	return crc32.Checksum(b[:len(words)*WordBytes], Castagnoli)
}
