package crashtest

import (
	"fmt"
	"slices"
)

// Model says what a crash may leave missing; see the package's text.
type Model uint8

// The models.
const (
	X86 Model = iota
	ARM
	PageCache
	Kill
)

// String names the model.
func (m Model) String() string {
	if m > Kill {
		return fmt.Sprintf("Model(%d)", uint8(m))
	}
	return [...]string{"x86", "arm", "page cache", "kill"}[m]
}

// cellBytes is the size of what is independent of all else in a crash.
func (m Model) cellBytes() uint64 {
	if m == X86 {
		return lineBytes
	}
	return wordBytes
}

// machine replays a log: what the medium looks like to the program, what of it is
// guaranteed, and what may be anything in between.
type machine struct {
	model  Model
	now    []byte // with every store
	safe   []byte // with every store that is guaranteed
	cells  map[uint64]*cell
	stores int
	// pending are the write-backs of each goroutine that it has not drained, and
	// syncing what syncs that have not ended will guarantee.
	pending map[uint64][]capture
	syncing map[int][]capture
	// onSafe, when set, is told of every word that becomes guaranteed.
	onSafe func(off, word uint64)
}

// cell is a line or word with stores that are not guaranteed.
type cell struct {
	at      uint64
	dropped int // stores that are, and are no longer in stores
	stores  []wordStore
}

type wordStore struct {
	off, word uint64
	seq       int // its place in the order of memory
}

// capture: the first count stores of a cell were written back.
type capture struct {
	at    uint64
	count int
}

func newMachine(model Model, image []byte) *machine {
	m := &machine{
		model:   model,
		cells:   map[uint64]*cell{},
		pending: map[uint64][]capture{},
		syncing: map[int][]capture{},
	}
	m.now, m.safe = slices.Clone(image), slices.Clone(image)
	m.extend(uint64(len(image)))
	return m
}

// extend makes room to end: a medium may grow.
func (m *machine) extend(end uint64) {
	m.now, m.safe = extended(m.now, end), extended(m.safe, end)
}

// extended is an image that reaches to end, in whole lines; what is new is zero.
func extended(image []byte, end uint64) []byte {
	end = (end + lineBytes - 1) &^ (lineBytes - 1)
	if n := uint64(len(image)); n < end {
		image = append(image, make([]byte, end-n)...)
	}
	return image
}

func (m *machine) wordOf(image []byte, off uint64) uint64 { return getWord(image, off) }

// step replays one event.
func (m *machine) step(e *Event) {
	switch e.Kind {
	case Store:
		m.extend(e.Off + wordBytes)
		m.store(e.Off, e.Word)
	case Copy:
		m.extend(e.Off + uint64(e.Bytes))
		m.copyBytes(e.Off, e.Data)
	case WriteBack:
		if m.model == X86 || m.model == ARM {
			m.pending[e.Goroutine] = m.captureRange(m.pending[e.Goroutine], e.Off, e.Bytes)
		}
	case Drain:
		m.guarantee(m.pending[e.Goroutine])
		delete(m.pending, e.Goroutine)
	case SyncBegin:
		if m.model == PageCache {
			m.syncing[e.Op] = m.capturePages(e.Off, e.Bytes)
		}
	case SyncEnd:
		if !e.Failed {
			m.guarantee(m.syncing[e.Op])
		}
		delete(m.syncing, e.Op)
	}
}

// raises tells whether an event will guarantee something.
func (m *machine) raises(e *Event) bool {
	var caught []capture
	switch {
	case e.Kind == Drain:
		caught = m.pending[e.Goroutine]
	case e.Kind == SyncEnd && !e.Failed:
		caught = m.syncing[e.Op]
	}
	for _, c := range caught {
		if cell := m.cells[c.at]; cell != nil && c.count > cell.dropped {
			return true
		}
	}
	return false
}

// store adds a store of a word. One that changes nothing adds no image.
func (m *machine) store(off, word uint64) {
	if getWord(m.now, off) == word {
		return
	}
	putWord(m.now, off, word)
	if m.model == Kill {
		putWord(m.safe, off, word)
		return
	}
	at := off &^ (m.model.cellBytes() - 1)
	c := m.cells[at]
	if c == nil {
		c = &cell{at: at}
		m.cells[at] = c
	}
	m.stores++
	c.stores = append(c.stores, wordStore{off, word, m.stores})
}

func (m *machine) copyBytes(off uint64, src []byte) {
	eachWord(m.now, off, src, m.store)
}

// eachWord calls fn with every aligned word that a copy of src to off touches, as
// it is afterwards.
func eachWord(image []byte, off uint64, src []byte, fn func(off, word uint64)) {
	for i := 0; i < len(src); {
		at := (off + uint64(i)) &^ (wordBytes - 1)
		var b [wordBytes]byte
		putWord(b[:], 0, getWord(image, at))
		i += copy(b[off+uint64(i)-at:], src[i:])
		fn(at, getWord(b[:], 0))
	}
}

// captureRange notes what a write-back of whole lines catches.
func (m *machine) captureRange(to []capture, off uint64, n int) []capture {
	if n <= 0 {
		return to
	}
	step := m.model.cellBytes()
	end := (off + uint64(n) + lineBytes - 1) &^ (lineBytes - 1)
	for at := off &^ (lineBytes - 1); at < end; at += step {
		if c := m.cells[at]; c != nil {
			to = append(to, capture{at, c.dropped + len(c.stores)})
		}
	}
	return to
}

// capturePages notes what a sync of the pages of a range catches, of all if n is 0.
func (m *machine) capturePages(off uint64, n int) (all []capture) {
	first, end := off&^(pageBytes-1), (off+uint64(n)+pageBytes-1)&^(pageBytes-1)
	for at, c := range m.cells {
		if n == 0 || at >= first && at < end {
			all = append(all, capture{at, c.dropped + len(c.stores)})
		}
	}
	return all
}

// guarantee makes what was captured durable.
func (m *machine) guarantee(caught []capture) {
	for _, g := range caught {
		c := m.cells[g.at]
		if c == nil || g.count <= c.dropped {
			continue
		}
		n := g.count - c.dropped
		for _, s := range c.stores[:n] {
			putWord(m.safe, s.off, s.word)
			if m.onSafe != nil {
				m.onSafe(s.off, s.word)
			}
		}
		c.stores, c.dropped = c.stores[n:], g.count
		if len(c.stores) == 0 {
			// A later cell at this place begins to count anew: forget what older
			// write-backs caught of this one.
			m.forget(g.at)
			delete(m.cells, g.at)
		}
	}
}

func (m *machine) forget(at uint64) {
	drop := func(caught []capture) {
		for i := range caught {
			if caught[i].at == at {
				caught[i].count = 0
			}
		}
	}
	for _, caught := range m.pending {
		drop(caught)
	}
	for _, caught := range m.syncing {
		drop(caught)
	}
}
