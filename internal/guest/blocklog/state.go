package blocklog

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Kind says which of the writes that no flush has covered are on the disk.
type Kind int

const (
	AtFlush Kind = iota // none: the cut came right behind the flush
	InOrder             // all up to the cut
	Subset              // any of them
	Torn                // of each sector any version that it had since the flush
	kinds
)

// String names a kind.
func (k Kind) String() string {
	return [...]string{"at a flush", "in order", "a subset", "torn"}[k]
}

// State is a content that the disk may have when the power is cut: all that was
// written before a flush began to be answered, and something of what came since.
//
// A disk may write what it holds in its cache in any order. Where two writes of
// one sector change places, the result is that of the one that ended last alone:
// so subsets, sector by sector, are all there is to reorder.
type State struct {
	Flush int // index of the flush's entry, -1: before the first
	Cut   int // entries below it had been sent when the power was cut
	Kind  Kind
	Seed  uint64
}

// String describes a state so that a run with the same seed finds it again.
func (s State) String() string {
	return fmt.Sprintf("flush at entry %d, cut at entry %d, %v, seed %d", s.Flush, s.Cut, s.Kind, s.Seed)
}

// States chooses n states, in the order of their cuts. Half of them stand right
// behind a flush, evenly spread, or behind each if there are no more; the others
// are drawn.
func States(entries []Entry, n int, seed uint64) []State {
	flushes := []int{-1}
	for i, e := range entries {
		if e.Flush {
			flushes = append(flushes, i)
		}
	}
	random := rand.New(rand.NewPCG(seed, 2))
	var out []State
	for i, even := 0, min(n/2, len(flushes)); i < even; i++ {
		at := flushes[i*len(flushes)/even]
		out = append(out, State{Flush: at, Cut: at + 1, Kind: AtFlush})
	}
	for len(out) < n {
		i := random.IntN(len(flushes))
		end := len(entries)
		if i+1 < len(flushes) {
			end = flushes[i+1]
		}
		window := end - flushes[i] - 1
		if window < 2 && random.IntN(8) != 0 { // little can happen there
			continue
		}
		s := State{Flush: flushes[i], Kind: InOrder + Kind(random.IntN(int(kinds-InOrder))), Seed: random.Uint64()}
		s.Cut = flushes[i] + 1 + random.IntN(window+1)
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b State) int { return cmp.Or(a.Flush-b.Flush, a.Cut-b.Cut) })
	return out
}

// Disk makes the contents of one region of the disk, state after state.
type Disk struct {
	entries []Entry
	first   uint64 // sector of the disk at which the region begins
	durable []byte
	applied int // entries below it are in durable
}

// NewDisk begins with what the region held before the first entry.
func NewDisk(entries []Entry, first uint64, initial []byte) *Disk {
	return &Disk{entries: entries, first: first, durable: slices.Clone(initial)}
}

// Image makes the content of a state. They must come in the order of States.
func (d *Disk) Image(s State, into []byte) []byte {
	for ; d.applied <= s.Flush; d.applied++ {
		d.apply(d.durable, d.entries[d.applied], nil)
	}
	image := append(into[:0], d.durable...)
	random := rand.New(rand.NewPCG(s.Seed, 3))
	share := [...]float64{0.1, 0.5, 0.9}[random.IntN(3)] // of what is kept
	for _, e := range d.entries[s.Flush+1 : s.Cut] {
		switch s.Kind {
		case InOrder:
			d.apply(image, e, nil)
		case Subset:
			if random.Float64() < share {
				d.apply(image, e, nil)
			}
		case Torn:
			d.apply(image, e, func() bool { return random.Float64() < share })
		}
	}
	return image
}

// apply writes the sectors of an entry that fall into the region; of them, with
// keep, those for which it is true.
func (d *Disk) apply(image []byte, e Entry, keep func() bool) {
	for i := range e.Sectors {
		at := (e.Sector + i - d.first) * SectorBytes // wraps to far outside below the region
		if e.Sector+i < d.first || at >= uint64(len(image)) || keep != nil && !keep() {
			continue
		}
		to := image[at : at+SectorBytes]
		if e.Data == nil {
			clear(to)
			continue
		}
		copy(to, e.Data[i*SectorBytes:])
	}
}
