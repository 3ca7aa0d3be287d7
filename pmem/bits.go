package pmem

import "math/bits"

// bitset is a set of small integers.
type bitset []uint64

func (b bitset) has(i int) bool { return b[i>>6]>>(i&63)&1 != 0 }
func (b bitset) set(i int)      { b[i>>6] |= 1 << (i & 63) }
func (b bitset) clear(i int)    { b[i>>6] &^= 1 << (i & 63) }

// next returns the first member at or after i, -1 if there is none.
func (b bitset) next(i int) int {
	for w := i >> 6; w < len(b); w++ {
		word := b[w]
		if w == i>>6 {
			word &= ^uint64(0) << (i & 63)
		}
		if word != 0 {
			return w<<6 + bits.TrailingZeros64(word)
		}
	}
	return -1
}

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

// fill makes 0 to n-1 members.
func (b bitset) fill(n int) {
	for i := range b {
		switch {
		case n >= (i+1)*64:
			b[i] = ^uint64(0)
		case n > i*64:
			b[i] = 1<<(n-i*64) - 1
		}
	}
}

func popcount(words []uint64) int {
	n := 0
	for _, w := range words {
		n += bits.OnesCount64(w)
	}
	return n
}
