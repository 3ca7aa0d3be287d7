package layout

import "math/bits"

// A pool whose geometry says Inline holds entries of two words, an 8-byte key and an
// 8-byte value, which lie in the bucket lines themselves: there are no records. All
// else (stripe roots, directories, segment headers, chains) is as in other pools.
//
// A line has four slots of two words:
//
//	word 0: bit 0 live | bit 1 overflow (slot 0 of a line only) | bit 2 zero |
//	        3-63 what tells the key apart from others of its stripe
//	word 1: the value
//
// A slot holds an entry when it is live and its value is not 0, or when it is live
// and zero: then the value is 0 whatever word 1 says. So one drain makes an insert
// durable, though nothing is assumed about the order of its two words: a slot is
// free only when word 1 is durably 0, and of the four states that a crash may leave
// three hold no entry. See table/inline.go.
//
// What of a slot is not live says which entry it held last, or is 0. A crash may
// leave a value beside it: a copy of the segment, which comes before the first store
// of a session, leaves both out.
const (
	InlineLive = 1 << 0
	InlineZero = 1 << 2

	InlineFlagBits     = 3
	InlineSlotBytes    = 2 * WordBytes
	InlineSlotsPerLine = LineBytes / InlineSlotBytes
	InlineKeyBytes     = WordBytes
	InlineValueBytes   = WordBytes

	// MinInlineStripes are so many that the stripe implies the bits of a key that a
	// slot has flags for.
	MinInlineStripes = 16

	// InlineProbes bounds the lines in which a key may lie in an ordinary segment.
	InlineProbes = 24
)

// The multipliers of the mix, and their inverses modulo 2^64. (The structure and the
// constants are those of the finalizer of MurmurHash3 in Stafford's variant 13.)
const (
	inlineMul1 = 0xbf58476d1ce4e5b9
	inlineMul2 = 0x94d049bb133111eb
)

var inlineInv1, inlineInv2 = inverse(inlineMul1), inverse(inlineMul2)

// inverse of an odd number modulo 2^64, by Newton's iteration.
func inverse(n uint64) uint64 {
	x := n // right in 3 bits
	for range 5 {
		x *= 2 - n*x
	}
	return x
}

// inlineMix is a bijection: another number for every key.
func inlineMix(key, seed uint64) uint64 {
	x := key ^ seed
	x = (x ^ x>>30) * inlineMul1
	x = (x ^ x>>27 ^ bits.RotateLeft64(seed, 32)) * inlineMul2
	return x ^ x>>31
}

func inlineUnmix(x, seed uint64) uint64 {
	x = unshift(x, 31) * inlineInv2
	x = unshift(x^bits.RotateLeft64(seed, 32), 27) * inlineInv1
	return unshift(x, 30) ^ seed
}

// unshift is the inverse of x ^ x>>n, for n of at least 22.
func unshift(x uint64, n uint) uint64 { return x ^ x>>n ^ x>>(2*n) }

// InlineMap says where the keys of a pool of inline entries belong. The key is mixed;
// its upper 16 bits choose the stripe, by intervals, and the place in the interval and
// the lower 48 bits are what a slot keeps. So the slot and the stripe give the key.
//
// The intervals are of different widths, the last one twice as wide as the first and
// those between in about equal ratios. Segments of one stripe have filled up all at
// about the same time, and split then; those of stripes of different widths do so at
// different times, so the space for an entry stays level while the table grows.
type InlineMap struct {
	seed       uint64
	stripeBits uint
	binShift   uint
	bins       []uint16 // the stripe in which each bin of the upper bits begins
	starts     []uint32 // of the stripes' intervals, and the end of the last
}

const (
	inlineUpperBits = 16
	inlineLowerBits = 64 - inlineUpperBits
	inlineLowerMask = 1<<inlineLowerBits - 1
)

// NewInlineMap returns the map of a pool of the geometry with the header's hash seed.
func NewInlineMap(g Geometry, seed uint64) *InlineMap {
	n := uint64(g.Stripes)
	m := &InlineMap{seed: seed, stripeBits: g.StripeBits(), starts: make([]uint32, n+1)}
	for s := range n + 1 {
		// 2^t - 1, as t runs from 0 to 1, is nearly 0.6565 t + 0.3435 t^2.
		t := s << inlineUpperBits / n
		m.starts[s] = uint32(t * (43024 + 22512*t>>inlineUpperBits) >> inlineUpperBits)
	}
	// So small that no bin lies in three stripes.
	m.binShift = inlineUpperBits - m.stripeBits - 2
	m.bins = make([]uint16, 4*n)
	stripe := 0
	for bin := range m.bins {
		for uint32(bin)<<m.binShift >= m.starts[stripe+1] {
			stripe++
		}
		m.bins[bin] = uint16(stripe)
	}
	return m
}

// Of returns the hash of a key, by which it finds its stripe, its segment and its
// lines, and word 0 of its slot, without flags.
func (m *InlineMap) Of(key uint64) (hash, word uint64) {
	x := inlineMix(key, m.seed)
	upper := uint32(x >> inlineLowerBits)
	stripe := int(m.bins[upper>>m.binShift])
	if upper >= m.starts[stripe+1] {
		stripe++
	}
	word = (uint64(upper-m.starts[stripe])<<inlineLowerBits | x&inlineLowerMask) << InlineFlagBits
	return m.Hash(stripe, word), word
}

// Hash returns the hash of the key that word 0 of a slot of a stripe keeps. Hashes of
// different keys are seldom equal.
func (m *InlineMap) Hash(stripe int, word uint64) uint64 {
	id := word >> InlineFlagBits
	place := id >> inlineLowerBits & (1<<(inlineUpperBits-m.stripeBits) - 1)
	return uint64(stripe)<<(64-m.stripeBits) | id&inlineLowerMask<<(inlineUpperBits-m.stripeBits) | place
}

// Key returns the key that word 0 of a slot of a stripe keeps; false if there is none,
// since the word would belong to another stripe.
func (m *InlineMap) Key(stripe int, word uint64) (key uint64, ok bool) {
	id := word >> InlineFlagBits
	upper := uint64(m.starts[stripe]) + id>>inlineLowerBits
	return inlineUnmix(upper<<inlineLowerBits|id&inlineLowerMask, m.seed), upper < uint64(m.starts[stripe+1])
}

// InlineIs tells whether word 0 of a slot says that it holds the entry of a key, whose
// word without flags is given.
func InlineIs(word, want uint64) bool { return word&^(SlotOverflow|InlineZero) == want|InlineLive }

// InlineHolds tells whether the two words of a slot hold an entry, and its value.
func InlineHolds(word, valueWord uint64) (value uint64, holds bool) {
	if word&InlineZero != 0 {
		return 0, word&InlineLive != 0
	}
	return valueWord, word&InlineLive != 0 && valueWord != 0
}

// InlineProbe goes through the lines in which a key may lie in an ordinary segment: its
// home line, the one beside it, with which memory is fetched in pairs, and then others
// at a distance that is odd and the key's own, so that keys of one home part ways.
type InlineProbe struct{ home, step, mask, next, end uint32 }

// ProbeInline returns the probe of a hash in a segment of so many bucket lines, one
// less than a power of two.
func ProbeInline(hash uint64, lines int) InlineProbe {
	mask := uint32(lines)
	hash >>= inlineUpperBits // below are bits of little use
	return InlineProbe{home: uint32(hash), step: uint32(hash>>8) | 1, mask: mask, end: min(InlineProbes, mask+2)}
}

// InlineHome returns the first line of the probe of a hash, or -1 where that is the
// header's.
func InlineHome(hash uint64, lines int) int {
	return int(uint32(hash>>inlineUpperBits)&uint32(lines)) - 1
}

// Next returns the next line, counted as bucket lines are from 0; false when there is
// none. A small segment's lines may come twice.
func (p *InlineProbe) Next() (line int, ok bool) {
	for p.next < p.end {
		i, at := p.next, p.home
		switch p.next++; i {
		case 0:
		case 1:
			at ^= 1
		default:
			at += (i - 1) * p.step
		}
		if at &= p.mask; at != 0 { // which is the header's line
			return int(at) - 1, true
		}
	}
	return 0, false
}

// Passed counts the lines that came before the last one, those of the header among them.
func (p *InlineProbe) Passed() int { return int(p.next) - 1 }

// ProbeMeets tells whether a lookup of a hash may come by a line of its segment.
func ProbeMeets(hash uint64, lines, line int) bool {
	probe := ProbeInline(hash, lines)
	for l, ok := probe.Next(); ok; l, ok = probe.Next() {
		if l == line {
			return true
		}
	}
	return false
}
