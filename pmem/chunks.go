package pmem

import (
	"math/bits"

	"pmemtable/internal/layout"
)

// chunkTable is what the allocator knows of the chunks of the file, in pages that
// come to be when one of their chunks is reached or used. So its memory is in
// proportion to what a file holds, not to the size that it claims: anyone can make a
// sparse one of many terabytes.
type chunkTable struct {
	geometry layout.Geometry
	n        int // chunks in the file
	// pages are nil where all chunks are alike: unknown until the sweep, and free
	// from then on, but for those that hold descriptors.
	pages []*chunkPage
	swept bool
}

const chunksPerPage = 1024

type chunkPage struct {
	chunks []chunk                    // as many as the file has
	free   [chunksPerPage / 64]uint64 // those that are free
}

// pagesOf is how many pages n chunks take.
func pagesOf(n int) int { return (n + chunksPerPage - 1) / chunksPerPage }

// chunksFrom is how many of n chunks lie in the page that begins with the first.
func chunksFrom(first, n int) int { return min(chunksPerPage, n-first) }

func newChunkTable(g layout.Geometry, n int) chunkTable {
	return chunkTable{geometry: g, n: n, pages: make([]*chunkPage, pagesOf(n))}
}

// idle is the state of a chunk whose page there is not.
func (t *chunkTable) idle(i int) chunkState {
	switch {
	case !t.swept:
		return chunkUnknown
	case t.geometry.HoldsDescriptors(i):
		return chunkMeta
	}
	return chunkFree
}

// state is that of chunk i, which the file has.
func (t *chunkTable) state(i int) chunkState {
	if p := t.pages[i/chunksPerPage]; p != nil {
		return p.chunks[i%chunksPerPage].state
	}
	return t.idle(i)
}

// at returns chunk i, which the file has, to be changed.
func (t *chunkTable) at(i int) *chunk {
	p := t.pages[i/chunksPerPage]
	if p == nil {
		first := i - i%chunksPerPage
		p = &chunkPage{chunks: make([]chunk, chunksFrom(first, t.n))}
		for j := range p.chunks {
			state := t.idle(first + j)
			p.chunks[j].state = state
			if state == chunkFree {
				bitset(p.free[:]).set(j)
			}
		}
		t.pages[i/chunksPerPage] = p
	}
	return &p.chunks[i%chunksPerPage]
}

// setFree puts chunk i among the free ones, or takes it out.
func (t *chunkTable) setFree(i int, free bool) {
	t.at(i) // its page
	if b := bitset(t.pages[i/chunksPerPage].free[:]); free {
		b.set(i % chunksPerPage)
	} else {
		b.clear(i % chunksPerPage)
	}
}

// isFree tells whether chunk i is among the free ones.
func (t *chunkTable) isFree(i int) bool {
	if p := t.pages[i/chunksPerPage]; p != nil {
		return bitset(p.free[:]).has(i % chunksPerPage)
	}
	return t.idle(i) == chunkFree
}

// freeRun returns the first of n consecutive free chunks, -1 if there are none.
func (t *chunkTable) freeRun(n int) int {
	length := 0
	for i := 0; i < t.n; i++ {
		if skip := t.noneFree(i); skip > 0 {
			length = 0
			i += skip - 1
			continue
		}
		if !t.isFree(i) {
			length = 0
			continue
		}
		if length++; length == n {
			return i - n + 1
		}
	}
	return -1
}

// noneFree is how many chunks from i on are not free for sure, as far as that can be
// told at a glance.
func (t *chunkTable) noneFree(i int) int {
	switch p := t.pages[i/chunksPerPage]; {
	case p == nil && !t.swept:
		return chunksPerPage - i%chunksPerPage
	case p == nil:
		return 0
	default:
		rest := p.free[i%chunksPerPage/64] >> (i % 64)
		if rest == 0 {
			return 64 - i%64
		}
		return bits.TrailingZeros64(rest)
	}
}

// extend adds chunks to the file, which are of no use yet, up to n in all.
func (t *chunkTable) extend(n int) {
	if t.n%chunksPerPage != 0 {
		t.at(t.n - 1) // those before the new ones in their page stay as they are
	}
	for len(t.pages) < pagesOf(n) {
		t.pages = append(t.pages, new(chunkPage))
	}
	for i := t.n; i < n; i++ {
		p := t.pages[i/chunksPerPage]
		p.chunks = append(p.chunks, chunk{state: chunkMeta})
	}
	t.n = n
}

// cut takes the chunks from n on off, and returns how many of them were free.
func (t *chunkTable) cut(n int) (free int) {
	for i := n; i < t.n; i++ {
		if i%chunksPerPage == 0 {
			if p := t.pages[i/chunksPerPage]; p != nil {
				free += popcount(p.free[:])
				i += chunksPerPage - 1
				continue
			}
		}
		if t.isFree(i) {
			free++
			if i < pagesOf(n)*chunksPerPage { // in a page that stays
				t.setFree(i, false)
			}
		}
	}
	clear(t.pages[pagesOf(n):])
	t.n, t.pages = n, t.pages[:pagesOf(n)]
	if first := n - n%chunksPerPage; first < n && t.pages[first/chunksPerPage] != nil {
		p := t.pages[first/chunksPerPage]
		p.chunks = p.chunks[:n-first]
	}
	return free
}

// each calls fn with every chunk of the pages that there are: with all that hold blocks.
func (t *chunkTable) each(fn func(i int, c *chunk)) {
	for p, page := range t.pages {
		if page == nil {
			continue
		}
		for j := range page.chunks {
			fn(p*chunksPerPage+j, &page.chunks[j])
		}
	}
}
