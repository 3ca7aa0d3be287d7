package crashtest

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// Bound limits the images of one crash point. The zero value takes the defaults.
type Bound struct {
	// Images: a point with at most so many is enumerated completely, those left out
	// that differ from others only where nobody reads (Crash.Read). 0: 4096.
	Images int
	// Pairs: beyond Images, a point with at most so many pairs of cells gets all
	// of them; with more, so many of them are drawn. 0: 1000; negative: none.
	Pairs int
	// Samples: beyond Images, so many images are drawn at random. 0: 200;
	// negative: none.
	Samples int
	// Seed of what is drawn.
	Seed uint64
}

func (b Bound) fill() Bound {
	b.Images = cmp.Or(b.Images, 4096)
	b.Pairs = cmp.Or(b.Pairs, 1000)
	b.Samples = cmp.Or(b.Samples, 200)
	return b
}

// Seen remembers which images were judged good with which operations acknowledged,
// and their Crash.Read. Traces that begin with the same image may share one. It is not
// safe for concurrent use.
type Seen map[seenKey]func(line uint64) bool

type seenKey struct{ image, acked uint64 }

// Crash is one image that a crash may leave behind.
type Crash struct {
	Model Model
	// Image is the medium. It is valid during the call and must not be changed.
	Image []byte
	// Event is the number of events that the log held.
	Event int
	// Acked are the operations whose callers knew that they were done, in that
	// order; Pending those that had begun and were not.
	Acked, Pending []int
	// Sampled: the image was drawn at random.
	Sampled bool
	// First is the crash that was being recovered from, nil unless this is one
	// inside recovery.
	First *Crash
	// Read, which a judge of the image may set, tells whether its judgement depended
	// on the 64 bytes at an offset: whether anybody read them before storing there.
	// Nil says that it may have depended on all. Images that differ only where nobody
	// read are judged alike, so of each such set two are made: with what is there
	// unread as old as can be, and as new.
	Read func(line uint64) bool

	e *enumerator
}

// ImageKey identifies the image, among traces that begin with the same one.
func (c *Crash) ImageKey() uint64 { return c.e.hash }

// Place is a number for the image that depends only on where in the log it was made, and
// of which states, not on what it holds: for a judge that does some of its work for one
// image in so many, the same ones in every run.
func (c *Crash) Place() uint64 {
	place := mix(uint64(c.e.figures.Points), uint64(c.e.event))
	for i := range c.e.cells {
		place = mix(place, uint64(c.e.at[i]))
	}
	if c.First != nil {
		place = mix(place, c.First.Place())
	}
	return place
}

// String says what the crash lost, for a failure's text.
func (c *Crash) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: crash after event %d of %d, acknowledged %v, pending %v", c.Model, c.Event, len(c.e.trace.Events), c.Acked, c.Pending)
	if c.Event > 0 {
		fmt.Fprintf(&b, ", the last one: %v", c.e.trace.Events[c.Event-1])
	}
	for i, cell := range c.e.cells {
		if at := c.e.at[i]; at < len(cell.states)-1 {
			fmt.Fprintf(&b, "\n  of the stores to %#x after the last guarantee: %d of %d", cell.at, at, len(cell.states)-1)
		}
	}
	return b.String()
}

// Crashes calls visit with every image that a crash may leave behind, within the
// bound, until visit returns an error. seen may be nil.
func (t *Trace) Crashes(model Model, bound Bound, seen Seen, visit func(*Crash) error) (Figures, error) {
	if seen == nil {
		seen = Seen{}
	}
	e := newEnumerator(t, model, bound, seen, visit)
	err := e.run()
	return e.figures, err
}

type enumerator struct {
	trace   *Trace
	model   Model
	bound   Bound
	seen    Seen
	visit   func(*Crash) error
	figures Figures
	machine *machine

	work      []byte // the image in hand: machine.safe with the cells as at says
	hash      uint64
	acked     []int
	begun     []int
	ackedHash uint64

	event int
	cells []choice
	at    []int  // which state of each cell work has
	fixed []bool // the cells whose states explore is going through
	left  int    // images that explore may make yet, -1 when it has given up
	err   error
}

// choice is a cell and the states that a crash may leave it in, the guaranteed
// one first, the newest last.
type choice struct {
	at     uint64
	states [][]uint64
}

func newEnumerator(t *Trace, model Model, bound Bound, seen Seen, visit func(*Crash) error) *enumerator {
	e := &enumerator{trace: t, model: model, bound: bound.fill(), seen: seen, visit: visit}
	e.figures.Traces = 1
	e.machine = newMachine(model, t.initial)
	e.work = slices.Clone(e.machine.safe)
	e.machine.onSafe = e.setWord
	return e
}

// setWord changes a word of the image in hand and its hash.
func (e *enumerator) setWord(off, word uint64) {
	if old := getWord(e.work, off); old != word {
		e.hash ^= mix(off, old) ^ mix(off, word)
		putWord(e.work, off, word)
	}
}

func mix(off, word uint64) uint64 {
	h := (word ^ off*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	h ^= h >> 29
	h = (h + off) * 0x94d049bb133111eb
	return h ^ h>>32
}

func (e *enumerator) run() error {
	for i := range e.trace.Events {
		ev := &e.trace.Events[i]
		late := i >= e.trace.from
		if late && e.machine.raises(ev) {
			e.point(i)
		}
		if e.model == Kill && (ev.Kind == Store || ev.Kind == Copy) {
			e.killed(i, ev, late)
		}
		e.machine.step(ev)
		e.fit()
		switch ev.Kind {
		case Begin:
			e.begun = append(e.begun, ev.Op)
		case Ack:
			e.acked = append(e.acked, ev.Op)
			e.ackedHash ^= mix(uint64(ev.Op)+1, 1)
			if late {
				e.point(i + 1)
			}
		}
		if e.err != nil {
			return e.err
		}
	}
	e.point(len(e.trace.Events))
	return e.err
}

// fit makes the image in hand as long as the medium.
func (e *enumerator) fit() {
	if n := len(e.machine.safe) - len(e.work); n > 0 {
		e.work = append(e.work, make([]byte, n)...)
	}
}

// killed stops the process before each word of a store.
func (e *enumerator) killed(i int, ev *Event, late bool) {
	e.machine.extend(ev.Off + uint64(ev.Bytes))
	e.fit()
	step := func(off, word uint64) {
		if late {
			e.figures.Points++
			e.figures.Exhaustive++
			e.event, e.cells = i, nil
			e.emit(false)
		}
		e.setWord(off, word)
	}
	if ev.Kind == Store {
		step(ev.Off, ev.Word)
		return
	}
	eachWord(e.work, ev.Off, ev.Data, step)
}

// point makes the images of a crash after the first n events.
func (e *enumerator) point(n int) {
	if e.err != nil {
		return
	}
	e.event = n
	e.choices()
	e.figures.Points++
	read := e.emit(false)
	total := 1 // images that the cells make of which it depends
	for _, c := range e.cells {
		if reads(read, c.at) {
			total *= len(c.states)
		}
		if total > e.bound.Images {
			break
		}
	}
	if e.left = e.bound.Images - 1; total > e.bound.Images {
		e.left = -1
	} else {
		e.explore(read)
	}
	e.setAll(func(int, choice) int { return 0 })
	if e.left >= 0 {
		e.figures.Exhaustive++
	} else {
		e.some()
		e.setAll(func(int, choice) int { return 0 })
	}
	e.cells = nil
}

// choices finds the cells that are not guaranteed and their states.
func (e *enumerator) choices() {
	e.cells, e.at, e.fixed = e.cells[:0], e.at[:0], e.fixed[:0]
	for _, at := range slices.Sorted(maps.Keys(e.machine.cells)) {
		state := make([]uint64, e.model.cellBytes()/wordBytes)
		for i := range state {
			state[i] = getWord(e.work, at+uint64(i)*wordBytes)
		}
		c := choice{at, [][]uint64{slices.Clone(state)}}
		for _, s := range e.machine.cells[at].stores {
			state[(s.off-at)/wordBytes] = s.word
			c.states = append(c.states, slices.Clone(state))
		}
		if e.model != X86 {
			c.states = distinct(c.states)
		}
		e.cells, e.at, e.fixed = append(e.cells, c), append(e.at, 0), append(e.fixed, false)
	}
}

// distinct drops repeated values of a word, but keeps the newest last.
func distinct(states [][]uint64) [][]uint64 {
	newest := states[len(states)-1][0]
	var out [][]uint64
	for i, s := range states {
		again := slices.ContainsFunc(out, func(o []uint64) bool { return o[0] == s[0] })
		if !again && (i == 0 || s[0] != newest) {
			out = append(out, s)
		}
	}
	return append(out, states[len(states)-1])
}

// set puts cell i into a state.
func (e *enumerator) set(i, state int) {
	if e.at[i] == state {
		return
	}
	e.at[i] = state
	for w, word := range e.cells[i].states[state] {
		e.setWord(e.cells[i].at+uint64(w)*wordBytes, word)
	}
}

func (e *enumerator) setAll(to func(i int, c choice) int) {
	for i, c := range e.cells {
		e.set(i, to(i, c))
	}
}

// explore makes every image that differs from the one in hand in cells that are not
// fixed, all of which are in their oldest states. The one in hand was judged and
// depends on what read says. A cell that nobody reads is not branched on: its states
// would all be judged alike. In an image that differs, more may be read, and is branched
// on then (as Jaaru does, ASPLOS 2021). It gives up when left is used up.
func (e *enumerator) explore(read func(line uint64) bool) {
	var branch, rest []int
	for i, c := range e.cells {
		switch {
		case e.fixed[i]:
		case reads(read, c.at):
			branch = append(branch, i)
		default:
			rest = append(rest, i)
		}
	}
	e.unread(rest)
	for _, i := range branch {
		e.fixed[i] = true
		for s := 1; s < len(e.cells[i].states); s++ {
			if e.left--; e.left < 0 || e.err != nil {
				e.left = -1
				return
			}
			e.set(i, s)
			e.explore(e.emit(false))
		}
		e.set(i, 0)
	}
	for _, i := range branch {
		e.fixed[i] = false
	}
}

// reads tells whether a judgement that says what it read may depend on a cell.
func reads(read func(line uint64) bool, cell uint64) bool {
	return read == nil || read(cell&^(lineBytes-1))
}

// unread has the image in hand judged with the newest states of cells that its judgement
// did not depend on: then this judgement must not either.
func (e *enumerator) unread(cells []int) {
	if len(cells) == 0 || e.err != nil {
		return
	}
	for _, i := range cells {
		e.set(i, len(e.cells[i].states)-1)
	}
	read := e.emit(false)
	for _, i := range cells {
		if at := e.cells[i].at; read != nil && read(at&^(lineBytes-1)) {
			e.err = cmp.Or(e.err, fmt.Errorf("crashtest: a judgement that does not read %#x does when something else is there that it does not read", at))
		}
		e.set(i, 0)
	}
}

// some makes the images next to the extremes, in the cells that those depend on, and
// samples.
func (e *enumerator) some() {
	oldest := func(int, choice) int { return 0 }
	newest := func(_ int, c choice) int { return len(c.states) - 1 }
	for _, base := range []func(int, choice) int{oldest, newest} {
		e.setAll(base)
		read := e.emit(false)
		for i, c := range e.cells {
			if !reads(read, c.at) {
				continue
			}
			for s := range c.states {
				e.set(i, s)
				e.emit(false)
			}
			e.set(i, base(i, c))
		}
	}
	e.moments()
	rng := rand.New(rand.NewPCG(e.bound.Seed, uint64(e.event)))
	e.pairs(rng, oldest, newest)
	e.pairs(rng, newest, oldest)
	for n := 0; n < e.bound.Samples && e.err == nil; n++ {
		odds := rng.IntN(5) // from few to many cells ahead
		e.setAll(func(_ int, c choice) int {
			switch {
			case odds == 2 || rng.IntN(8) == 0:
				return rng.IntN(len(c.states))
			case rng.IntN(5) < odds:
				return len(c.states) - 1
			}
			return 0
		})
		e.emit(true)
	}
}

// moments makes the images in which every store before some moment is there, and
// none after it.
func (e *enumerator) moments() {
	type moment struct {
		wordStore
		cell int
	}
	var log []moment
	for i, c := range e.cells {
		for _, s := range e.machine.cells[c.at].stores {
			log = append(log, moment{s, i})
		}
	}
	slices.SortFunc(log, func(a, b moment) int { return cmp.Compare(a.seq, b.seq) })
	e.setAll(func(int, choice) int { return 0 })
	for _, m := range log {
		state := e.at[m.cell] + 1
		if e.model != X86 {
			state = slices.IndexFunc(e.cells[m.cell].states, func(s []uint64) bool { return s[0] == m.word })
		}
		e.set(m.cell, state)
		e.emit(false)
	}
}

// pairs makes the images in which two cells are elsewhere than all others.
func (e *enumerator) pairs(rng *rand.Rand, base, other func(int, choice) int) {
	e.setAll(base)
	pair := func(i, j int, sampled bool) {
		e.set(i, other(i, e.cells[i]))
		e.set(j, other(j, e.cells[j]))
		e.emit(sampled)
		e.set(i, base(i, e.cells[i]))
		e.set(j, base(j, e.cells[j]))
	}
	n := len(e.cells)
	if n*(n-1)/2 > e.bound.Pairs {
		for k := 0; k < e.bound.Pairs && e.err == nil; k++ {
			pair(rng.IntN(n), rng.IntN(n), true)
		}
		return
	}
	for i := range n {
		for j := i + 1; j < n && e.err == nil; j++ {
			pair(i, j, false)
		}
	}
}

// emit has the image in hand judged, and returns the judge's Crash.Read.
func (e *enumerator) emit(sampled bool) (read func(line uint64) bool) {
	if e.err != nil {
		return nil
	}
	key := seenKey{e.hash, e.ackedHash}
	if read, known := e.seen[key]; known {
		e.figures.Known++
		return read
	}
	e.figures.Images++
	if sampled {
		e.figures.Sampled++
	}
	c := Crash{Model: e.model, Image: e.work, Event: e.event, Acked: e.acked, Sampled: sampled, e: e}
	for _, op := range e.begun {
		if !slices.Contains(e.acked, op) {
			c.Pending = append(c.Pending, op)
		}
	}
	if e.err = e.visit(&c); e.err != nil {
		return nil
	}
	e.seen[key] = c.Read
	return c.Read
}
