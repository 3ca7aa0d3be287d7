package table_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/table"
)

// disk plays a page cache with a medium behind it, as a hook of a pool on a heap:
// it knows which value of every word a power cut may leave behind. What was stored
// before a sync began is on the medium when the sync has succeeded; of all later
// stores any subset is, word by word, in any order.
type disk struct {
	heap     *pmem.Heap
	geometry pmem.Geometry
	control  uint64 // offset of the word that publishes the size of the file
	maxBytes int
	boots    int

	// beforeSync, when set, runs at the beginning of every sync, which it numbers,
	// and makes it fail by an error. whole tells that it is one of the whole file.
	beforeSync func(n int, whole bool) error
	// beforePiece, when set, runs at the beginning of every sync of a piece.
	beforePiece func(from uint64)

	mu          sync.Mutex // guards the rest
	syncs       int
	clock       uint64 // stores so far
	now         []byte // what programs see
	durable     []byte // what is on the medium for sure
	durableSize int
	dirty       map[uint64][]cell // by offset of the word: what it held since, oldest first
	trap        *trap
	rng         *rand.Rand // of what a failed sync drops
	dropped     *pmem.Pool // writes it, when set
}

// trap waits for a store into a part of the file, and for some more stores, and
// then keeps what a crash at that instant leaves behind.
type trap struct {
	from, to uint64
	more     int
	kill     bool // of the process, not of the machine
	rng      *rand.Rand
	image    []byte // after a power cut
	disk     *disk  // after a kill
}

type cell struct {
	at   uint64
	word uint64
}

// newDisk is a disk that holds an image, all of it durable.
func newDisk(image []byte, maxBytes, boots int) *disk {
	d := &disk{heap: pmem.NewHeap(image, maxBytes), maxBytes: maxBytes, boots: boots, dirty: map[uint64][]cell{}}
	for range boots {
		d.heap.Reboot()
	}
	d.now, d.durable = make([]byte, maxBytes+layout.PageBytes), make([]byte, maxBytes+layout.PageBytes)
	copy(d.now, image)
	copy(d.durable, image)
	header, err := layout.DecodeHeader(image)
	if err != nil {
		panic(err)
	}
	d.geometry = header.Geometry()
	d.control = d.geometry.Regions().Control + layout.ControlSize
	d.durableSize = len(image)
	binary.LittleEndian.PutUint64(d.now[d.control:], uint64(len(image)))
	return d
}

// formatted is the image of a new table of a geometry.
func formatted(t require.TestingT, g pmem.Geometry) []byte {
	h := pmem.NewHeap(nil, 1<<20)
	p, err := pmem.OpenHeap(h, pmem.Options{Geometry: g, Media: pmem.PageCache})
	require.NoError(t, err)
	require.NoError(t, p.Close())
	return h.Image()
}

// open opens the table that the disk holds.
func (d *disk) open(o *table.Options) (*table.Table, error) {
	p, err := pmem.OpenHeap(d.heap, pmem.Options{Media: pmem.Auto, Hook: d})
	if err != nil {
		return nil, err
	}
	return table.OpenPool(p, table.MarkBeside(o))
}

// word returns the word at an offset of b.
func wordOf(b []byte, off uint64) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

// stored notes that the words of n bytes at off may have changed.
func (d *disk) stored(off uint64, n int) {
	d.clock++
	for at := off &^ 7; at < off+uint64(n); at += 8 {
		d.dirty[at] = append(d.dirty[at], cell{d.clock, wordOf(d.now, at)})
	}
	t := d.trap
	if t == nil || t.image != nil || t.disk != nil {
		return
	}
	if off >= t.from && off < t.to {
		t.from, t.to = 0, ^uint64(0)
	}
	if t.from != 0 {
		return
	}
	if t.more--; t.more >= 0 {
		return
	}
	if t.kill {
		t.disk = d.fork()
	} else {
		t.image = d.cut(t.rng)
	}
}

// Store implements pmem.Hook.
func (d *disk) Store(off, word uint64, apply func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	apply()
	binary.LittleEndian.PutUint64(d.now[off:], word)
	d.stored(off, 8)
}

// Copy implements pmem.Hook.
func (d *disk) Copy(off uint64, src []byte, apply func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	apply()
	copy(d.now[off:], src)
	d.stored(off, len(src))
}

// WriteBack implements pmem.Hook.
func (d *disk) WriteBack(uint64, int) {}

// Drain implements pmem.Hook.
func (d *disk) Drain() {}

// Sync implements pmem.Hook.
func (d *disk) Sync(apply func() error) error { return d.sync(0, ^uint64(0), apply) }

// SyncRange implements pmem.RangeHook.
func (d *disk) SyncRange(off uint64, n int, apply func() error) error {
	return d.sync(off, off+uint64(n), apply)
}

func (d *disk) sync(from, to uint64, apply func() error) error {
	whole := to == ^uint64(0)
	d.mu.Lock()
	d.syncs++
	n, at, size := d.syncs, d.clock, d.sizeNow()
	d.mu.Unlock()
	var err error
	if d.beforeSync != nil {
		err = d.beforeSync(n, whole)
	}
	if d.beforePiece != nil && !whole {
		d.beforePiece(from)
	}
	if err == nil {
		err = apply()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.drop(from, to)
		return err
	}
	if whole {
		d.durableSize = size
	}
	d.settle(from, to, at)
	return nil
}

// settle makes durable what was stored up to a time to the words in [from, to).
func (d *disk) settle(from, to, at uint64) {
	for off, cells := range d.dirty {
		if off < from || off >= to {
			continue
		}
		n := 0
		for n < len(cells) && cells[n].at <= at {
			n++
		}
		if n == 0 {
			continue
		}
		binary.LittleEndian.PutUint64(d.durable[off:], cells[n-1].word)
		if n == len(cells) {
			delete(d.dirty, off)
		} else {
			d.dirty[off] = slices.Clone(cells[n:])
		}
	}
}

func (d *disk) sizeNow() int { return int(wordOf(d.now, d.control)) }

// drop is what the kernel may do when a write-back fails: the pages count as
// clean, though what is on the medium is any mixture, and they are read again from
// there. No later sync tries them again.
func (d *disk) drop(from, to uint64) {
	if d.dropped == nil {
		return
	}
	image := d.cut(d.rng)
	for off := range d.dirty {
		if off < from || off >= to || int(off) >= len(image) {
			continue
		}
		copy(d.durable[off:off+8], image[off:])
		if d.rng.IntN(2) == 0 { // some stay in the cache for a while
			copy(d.now[off:off+8], image[off:])
			d.dropped.Store(off, wordOf(image, off))
		}
		delete(d.dirty, off)
	}
}

// dropping makes failed syncs drop pages. The file must not grow from now on. Not
// under the race detector, which would take the kernel for a goroutine that stores
// without a lock.
func (d *disk) dropping(t require.TestingT, r *rand.Rand) {
	if race.Enabled {
		return
	}
	p, err := pmem.OpenHeap(d.heap, pmem.Options{Media: pmem.Tmpfs})
	require.NoError(t, err)
	d.heap.Abandon()
	d.dropped, d.rng = p, r
}

// cut is the medium after a power cut at this instant: one of the many there may
// be. It is called with mu held.
func (d *disk) cut(r *rand.Rand) []byte {
	size := d.sizeNow()
	if r.IntN(2) == 0 {
		size = min(size, d.durableSize)
	}
	image := slices.Clone(d.durable[:size])
	style, share := r.IntN(8), r.Float64()
	arena := d.geometry.Regions().Arena
	moment := d.clock - min(d.clock, uint64(r.IntN(200)))
	pages := map[uint64]bool{}
	// In a fixed order, so that a seed repeats a run.
	for _, off := range slices.Sorted(maps.Keys(d.dirty)) {
		if int(off)+8 > size {
			continue
		}
		cells := d.dirty[off]
		pick := -1 // what is durable
		switch style {
		case 0: // nothing was written back
		case 1: // everything was
			pick = len(cells) - 1
		case 2: // every word for itself, any of its values
			pick = r.IntN(len(cells)+1) - 1
		case 3: // whole pages
			page := off / layout.PageBytes
			if _, known := pages[page]; !known {
				pages[page] = r.Float64() < share
			}
			if pages[page] {
				pick = len(cells) - 1
			}
		case 4: // most words, or few
			if r.Float64() < share*share {
				pick = len(cells) - 1
			}
		case 6: // what says where to look, but not all that is there
			if off < arena || r.Float64() < share {
				pick = len(cells) - 1
			}
		case 7: // the reverse
			if off >= arena || r.Float64() < share/4 {
				pick = len(cells) - 1
			}
		case 5: // all that was stored up to some moment
			for pick+1 < len(cells) && cells[pick+1].at <= moment {
				pick++
			}
		}
		if pick >= 0 {
			binary.LittleEndian.PutUint64(image[off:], cells[pick].word)
		}
	}
	return image
}

// arm sets a trap, somewhere in the stores that come.
func (d *disk) arm(r *rand.Rand, kill bool) *trap {
	regions := d.geometry.Regions()
	// A commit in the background may go into it: r is the caller's alone.
	own := rand.New(rand.NewPCG(r.Uint64(), 0))
	t := &trap{to: ^uint64(0), more: r.IntN(60), kill: kill, rng: own}
	if n := r.IntN(6); n < 5 { // a part that is seldom stored to
		t.more = r.IntN(2) * r.IntN(10)
		switch n {
		case 0:
			t.from, t.to = regions.Superblock[0], regions.Log
		case 4:
			t.from, t.to = regions.Log, regions.Arena // nowhere if there is no log
		case 1:
			t.from, t.to = regions.Intent+layout.IntentCount, regions.Intent+layout.IntentCount+8
		case 2:
			t.from, t.to = regions.Root[0], regions.Superblock[0]
		case 3:
			t.from, t.to = regions.Session[0], regions.Intent
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trap = t
	return t
}

// disarm ends a trap, and tells whether anything went into it.
func (d *disk) disarm() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.trap
	d.trap = nil
	return t.image != nil || t.disk != nil
}

// fork is the disk as it is now, without those who use it: the process was killed.
// It is called with mu held.
func (d *disk) fork() *disk {
	f := newDisk(d.now[:d.sizeNow()], d.maxBytes, d.boots)
	copy(f.durable, d.durable)
	f.durableSize, f.clock = d.durableSize, d.clock
	for off, cells := range d.dirty {
		f.dirty[off] = slices.Clone(cells)
	}
	return f
}

// cutNow is the medium after a power cut now, while others may go on.
func (d *disk) cutNow(r *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut(r)
}

// after is the disk of the machine that comes up after a power cut.
func (d *disk) after(image []byte) *disk { return newDisk(image, d.maxBytes, d.boots+1) }

// diskState is the content of a table: entries, and the metadata record.
type diskState struct {
	entries map[string]string
	meta    string
}

func (s diskState) clone() diskState { return diskState{maps.Clone(s.entries), s.meta} }

func (s diskState) equal(o diskState) bool {
	return s.meta == o.meta && maps.Equal(s.entries, o.entries)
}

// diskChange is one step from a state to the next: all or nothing of it is there,
// unless it is loose: then each of its keys may be there or not.
type diskChange struct {
	what    string
	loose   bool
	puts    [][2]string
	removes []string
	clear   bool
	setMeta bool
	meta    string
}

func (c diskChange) apply(s *diskState) {
	if c.clear {
		clear(s.entries)
	}
	for _, kv := range c.puts {
		s.entries[kv[0]] = kv[1]
	}
	for _, k := range c.removes {
		delete(s.entries, k)
	}
	if c.setMeta {
		s.meta = c.meta
	}
}

// between tells whether have is a state in the middle of a loose change to s.
func (c diskChange) between(s, have diskState) bool {
	if !c.loose || s.meta != have.meta {
		return false
	}
	rest := have.clone()
	for _, kv := range c.puts {
		v, there := have.entries[kv[0]]
		old, was := s.entries[kv[0]]
		if there && slices.Contains(c.puts, [2]string{kv[0], v}) || there == was && v == old {
			delete(rest.entries, kv[0])
			if was {
				rest.entries[kv[0]] = old
			}
		}
	}
	return rest.equal(s)
}

// diskHistory is what one writer did, from the last state that is durable on.
type diskHistory struct {
	base    diskState
	changes []diskChange
	durable int // so many of the changes must survive a power cut
}

func (h *diskHistory) add(c ...diskChange) { h.changes = append(h.changes, c...) }

// current is the state after all changes.
func (h *diskHistory) current() diskState {
	s := h.base.clone()
	for _, c := range h.changes {
		c.apply(&s)
	}
	return s
}

// settled says that all changes up to now survive a power cut.
func (h *diskHistory) settled() {
	h.base, h.changes, h.durable = h.current(), nil, 0
}

// find returns which state of the history have is, at least the one after so many
// changes, and the change that turns the one before it into have.
func (h *diskHistory) find(have diskState, least int) (after int, to diskChange, err error) {
	s := h.base.clone()
	for n := 0; ; n++ {
		if n >= least && s.equal(have) {
			return n, diskChange{}, nil
		}
		if n == len(h.changes) {
			return 0, diskChange{}, errors.New(h.explain(have, least))
		}
		if c := h.changes[n]; n >= least && c.between(s, have) {
			c.puts = slices.DeleteFunc(slices.Clone(c.puts), func(kv [2]string) bool {
				v, there := have.entries[kv[0]]
				return !there || v != kv[1]
			})
			return n, c, nil
		}
		h.changes[n].apply(&s)
	}
}

// resume finds the state that a power cut left: one between what had to survive
// and the last change. The history goes on from it.
func (h *diskHistory) resume(have diskState) error {
	if _, _, err := h.find(have, h.durable); err != nil {
		return err
	}
	h.base, h.changes, h.durable = have.clone(), nil, 0
	return nil
}

// rewind finds the state that a kill in the middle of a call left: one at or after
// the given number of changes. Power cuts may still go back as far as before.
func (h *diskHistory) rewind(have diskState, before int) error {
	n, to, err := h.find(have, before)
	if err != nil {
		return err
	}
	h.changes = h.changes[:n:n]
	if to.loose {
		h.changes = append(h.changes, to)
	}
	return nil
}

// explain names the state that is nearest to what was found.
func (h *diskHistory) explain(have diskState, least int) string {
	s, best, at := h.base.clone(), 1<<30, 0
	var text string
	for n := 0; n <= len(h.changes); n++ {
		if diff := diffOf(s, have); len(diff) < best {
			best, at = len(diff), n
			text = fmt.Sprint(diff[:min(len(diff), 5)])
		}
		if n < len(h.changes) {
			h.changes[n].apply(&s)
		}
	}
	next := ""
	if at < len(h.changes) {
		next = ", before " + h.changes[at].what
	}
	return fmt.Sprintf("the table holds no state of its history: %d of %d changes had to survive; "+
		"it is nearest to the state after %d%s, which differs in %d: %s", least, len(h.changes), at, next, best, text)
}

func diffOf(want, have diskState) (out []string) {
	if want.meta != have.meta {
		out = append(out, fmt.Sprintf("metadata %q, found %q", want.meta, have.meta))
	}
	keys := slices.Collect(maps.Keys(want.entries))
	for k := range have.entries {
		if _, ok := want.entries[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, cmp.Compare)
	for _, k := range keys {
		w, inWant := want.entries[k]
		g, inHave := have.entries[k]
		if w != g || inWant != inHave {
			out = append(out, fmt.Sprintf("key %.20q: %.20q (%v), found %.20q (%v)", k, w, inWant, g, inHave))
		}
	}
	return out
}

// readState reads a table in every way, and checks that all agree.
func readState(tab *table.Table) (diskState, error) {
	s := diskState{entries: map[string]string{}}
	for k, v := range tab.All() {
		if _, twice := s.entries[string(k)]; twice {
			return s, fmt.Errorf("key %x comes twice", k)
		}
		s.entries[string(k)] = string(v)
	}
	if err := tab.Err(); err != nil {
		return s, err
	}
	meta, err := tab.Metadata()
	if err != nil {
		return s, err
	}
	s.meta = string(meta)
	for k, v := range s.entries {
		if got, err := tab.Get([]byte(k)); err != nil || string(got) != v {
			return s, fmt.Errorf("key %x: All has %q, Get has %q, %w", k, v, got, err)
		}
	}
	if n := tab.Len(); n != len(s.entries) {
		return s, fmt.Errorf("Len is %d, All has %d", n, len(s.entries))
	}
	report, err := tab.Check()
	if err != nil {
		return s, fmt.Errorf("%w: %v", err, report.Problems)
	}
	if damage := tab.Stats().Damage; damage != "" {
		return s, errors.New("recovery found damage: " + damage)
	}
	return s, nil
}
