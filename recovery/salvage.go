package recovery

import (
	"context"
	"fmt"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Salvage reads what is intact of a pool that may be damaged anywhere, in two
// passes:
//
//  1. The tree below the chosen root, stripe by stripe, as far as it can be
//     walked: what is damaged is passed over, and the range of hashes that it was
//     responsible for is noted. A record that is reached counts, whatever else the
//     file holds of its key.
//  2. Only where there are such ranges: every block of the file that the first
//     pass did not come by, as the chunks' descriptors divide it, or at every unit
//     where a descriptor is damaged. An intact record whose key falls into a
//     damaged range is a candidate, and of several of one key that with the
//     highest birth epoch counts; of equal ones, that to which the newest segment
//     leads, whether a directory leads there or not. The format has nothing else to
//     tell them apart; if that is not enough, the one further back in the file counts.
//
// So a deleted entry never comes back where the tree is intact. In a damaged range
// it may, and so may an older value of an entry whose own record is damaged: what
// the second pass brings is counted apart.
//
// If what tells the true root is damaged too, a root is guessed, and where damage
// cut anything off from it, what it reaches is a candidate like the others.
//
// What the log holds behind the root goes over all of that (salvage_log.go).
//
// Inline entries have no records: what the root does not reach of them is lost, and of
// the others only the keys are checked. Without the header, which has the seed of their
// hash, none can be told.
//
// A record is intact if its CRC32C is right. All is read under a guard, so a page
// that cannot be read is damage too. The work is bounded: checksums are computed
// over at most 64 times as many bytes as the file has, which only a file made to
// cost time comes near, and every object is visited once.

// Reach says how far a Salvage looks.
type Reach uint8

const (
	// DamagedRanges: the second pass covers what damage that shows cut off.
	DamagedRanges Reach = iota
	// ReachableOnly: there is no second pass.
	ReachableOnly
	// Everything: the second pass covers all, for damage that does not show, such
	// as slots or roots of zeros in a file that was not closed.
	Everything
)

// SalvageReport is what Salvage saw.
type SalvageReport struct {
	Root    string // which root it walked, and why
	Reached int    // records that the root reaches
	Scanned int    // records that only the second pass found, and that counted
	// Older are intact records of the damaged ranges that another of their key
	// stood before; Ambiguous those among them that might as well have counted.
	Older, Ambiguous int
	// Stale are intact records that no damaged range explains: old values and
	// deleted entries in free blocks. They were left.
	Stale int
	// LogFrames and LogChanges are what the log holds behind the root, in all. Of the
	// changes of a key the last counts: Logged are the records that came from the log,
	// LogRemoved the records that were left for a delete in it.
	LogFrames, LogChanges int
	Logged, LogRemoved    int

	Metadata bool // the metadata record was found
	Complete bool // nothing was damaged: the second pass was not needed
	Problems []Problem
	Dropped  int // problems beyond MaxProblems, which are not listed
}

// workFactor bounds the bytes that checksums are computed over, as a multiple of
// the file's size.
const workFactor = 64

// salvager is the state of a Salvage.
type salvager struct {
	SalvageReport
	ctx     context.Context
	pool    *pmem.Pool
	hash    Hash // nil: the seed is not to be trusted, and keys' places are not checked
	overlay map[uint64]uint64
	work    int64 // bytes that checksums may still be computed over
	emit    func(r Record) (bool, error)
	meta    func(b []byte) error
	failed  error    // of emit, meta or ctx: ends it all
	counts  []uint64 // entries per stripe that there should be, nil if not known

	visited  map[uint64][]uint64 // by page of the file: a bit per unit that an object begins at
	runs     map[uint64]bool     // chunks that a record larger than one covers
	guessed  bool                // nothing vouches for the root: what it reaches is deferred
	deferred []candidate
	shallow  bool   // look at segments' headers only
	newest   uint64 // epoch of a segment

	sessionKnown bool
	working      bool      // the root is the working root, and known to be the truth
	log          logState  // what the log holds behind the root
	over         *logState // log, where it goes over what is found; nil for not at all

	whole   map[uint64]bool // segments whose header was as it should be
	lenient map[uint64]bool // segments that were read although it was not
	lost    []hashRange     // what damage was responsible for
}

// hashRange is the range of hashes of a stripe, or of a part of its directory.
type hashRange struct {
	stripe int
	depth  uint // 0: the whole stripe
	prefix uint64
}

// Salvage calls emit with the records that count, reached ones first, and meta
// with the metadata if it was set and is found. emit returns false for a key that
// it was given before: then the earlier record stands. Nobody may be writing to the
// pool. The slices lie in the pool, and are valid until emit returns. The error is
// emit's, meta's or ctx's; damage is none. Time grows with the file, memory with the
// number of records that only the second pass finds, if reach asks for it.
func Salvage(ctx context.Context, p *pmem.Pool, d *pmem.Damage, reach Reach, emit func(r Record) (bool, error), meta func(b []byte) error) (SalvageReport, error) {
	s := newSalvager(ctx, p, emit)
	s.meta = meta
	s.work = workFactor*int64(p.SizeBytes()) + 1<<20
	for _, n := range d.Notes {
		s.problem("fixed parts", 0, "%s", n)
	}
	if d.HeaderGuessed {
		s.hash = nil
	}
	s.sessionKnown = !d.SessionUnknown
	var roots Roots
	var slot *pmem.Slot
	s.guard(0, func() { roots, slot = s.choose(d) })
	s.guard(p.Regions().Log, func() { s.readLog(slot, reach) })
	if !s.working {
		s.over = &s.log
		if s.LogFrames > 0 {
			s.Root += ", and the log behind it"
		}
	}
	for i := range roots.Stripes {
		s.guard(0, func() { s.stripe(i, roots.Stripes[i]) })
	}
	s.guard(roots.Metadata, func() { s.metadata(roots.Metadata) })
	s.Complete = len(s.Problems) == 0
	if reach == Everything {
		s.loseAll()
	}
	s.over = &s.log
	if reach != ReachableOnly && len(s.lost) > 0 && !p.Geometry().Inline {
		s.scan()
	} else {
		s.keepDeferred()
	}
	s.keepLogged()
	return s.SalvageReport, s.failed
}

func newSalvager(ctx context.Context, p *pmem.Pool, emit func(Record) (bool, error)) *salvager {
	return &salvager{ctx: ctx, pool: p, emit: emit, hash: KeyHash(p), visited: map[uint64][]uint64{}, runs: map[uint64]bool{},
		whole: map[uint64]bool{}, lenient: map[uint64]bool{}}
}

// guard runs one step. A page that cannot be read ends the step, and is damage of
// everything: it is not known what the step would have found.
func (s *salvager) guard(at uint64, step func()) {
	if s.failed == nil {
		s.failed = s.ctx.Err()
	}
	if s.failed != nil {
		return
	}
	if err := s.pool.Guard(func() error { step(); return nil }); err != nil {
		s.problem("page", at, "%v", err)
		s.loseAll()
	}
}

func (s *salvager) loseAll() {
	for i := range s.pool.Geometry().Stripes {
		s.lose(hashRange{stripe: i})
	}
}

func (s *salvager) problem(where string, at uint64, format string, args ...any) {
	if len(s.Problems) >= MaxProblems {
		s.Dropped++
		return
	}
	s.Problems = append(s.Problems, Problem{where, at, fmt.Sprintf(format, args...)})
}

// lose notes that damage was responsible for a range of hashes.
func (s *salvager) lose(r hashRange) {
	if n := len(s.lost); n == 0 || s.lost[n-1] != r {
		s.lost = append(s.lost, r)
	}
}

// choose picks the root to walk: the one that an open would take. Where what it
// would go by is damaged, the one of the roots that are left that has the newest
// segment below it. The slot is the one from which the log goes on, nil if none is left.
func (s *salvager) choose(d *pmem.Damage) (Roots, *pmem.Slot) {
	p, r := s.pool, s.pool.Regions()
	if p.SizeBytes() < r.Arena {
		return Roots{}, nil
	}
	if !d.SessionUnknown {
		decision, err := chooseRoot(p)
		if err == nil {
			if slot := damagedSlot(p, decision.Slot); slot != nil && !decision.Working && !decision.Poisoned {
				s.problem("superblock", r.Superblock[slot.Index], "what commit %d stored is damaged, and the log goes on from it", slot.Sequence)
				decision.Slot = slot
			}
			var roots Roots
			if roots, s.overlay, err = decided(p, decision); err == nil {
				s.Root, s.working = decision.Why, decision.Working
				if !decision.Working {
					s.expect(decision.Slot)
				}
				return roots, decision.Slot
			}
		}
		s.problem("root", 0, "%v", err)
	}
	var candidates []Roots
	area, err := WorkingRoot(p)
	if err == nil {
		candidates = append(candidates, readRoots(p, area))
	}
	newestSlot := len(candidates)
	slots := p.Slots()
	if slot := damagedSlot(p, nil); slot != nil {
		slots = slices.Insert(slots, 0, *slot)
	}
	for i := range slots {
		candidates = append(candidates, slotRoots(&slots[i]))
	}
	vouched := len(candidates)
	s.guessed = true
	for _, at := range r.Root {
		candidates = append(candidates, readRoots(p, at))
	}
	best, newest, broken := 0, uint64(0), -1
	for i, c := range candidates {
		birth, whole := s.newestBelow(c)
		if birth > newest {
			best, newest = i, birth
		}
		if !whole && i <= newestSlot && i < vouched {
			broken = i
		}
	}
	s.Root = fmt.Sprintf("the root with the newest segment (epoch %d): what tells the true one is damaged", newest)
	if newest == 0 && vouched == 0 {
		s.problem("root", r.Control, "none is left")
		s.loseAll()
	}
	if broken >= 0 && broken != best {
		s.problem("root", 0, "one that may be newer is damaged below")
		s.loseAll()
	}
	if len(slots) == 0 {
		return candidates[best], nil
	}
	return candidates[best], &slots[0]
}

// newestBelow is the highest epoch in which a segment below roots was born, and tells
// whether all directories and segments there are whole.
func (s *salvager) newestBelow(roots Roots) (epoch uint64, whole bool) {
	try := newSalvager(s.ctx, s.pool, nil)
	try.shallow, try.hash = true, nil
	for i, root := range roots.Stripes {
		try.guard(0, func() { try.stripe(i, root) })
	}
	return try.newest, len(try.Problems) == 0
}

// visit tells whether an object at off is met for the first time.
func (s *salvager) visit(off uint64) bool {
	page := off / layout.PageBytes
	bits := s.visited[page]
	if bits == nil {
		bits = make([]uint64, layout.PageBytes/layout.UnitBytes/64)
		s.visited[page] = bits
	}
	unit := off % layout.PageBytes / layout.UnitBytes
	fresh := bits[unit/64]>>(unit%64)&1 == 0
	bits[unit/64] |= 1 << (unit % 64)
	return fresh
}

func (s *salvager) wasVisited(off uint64) bool {
	unit := off % layout.PageBytes / layout.UnitBytes
	bits := s.visited[off/layout.PageBytes]
	return bits != nil && bits[unit/64]>>(unit%64)&1 != 0
}

// charge takes the cost of a checksum; false when the bound is reached.
func (s *salvager) charge(n int) bool {
	if s.work < int64(n) {
		if s.work >= 0 {
			s.problem("file", 0, "its objects overlap so much that reading them all would take out of proportion long: some were left")
		}
		s.work = -1
		return false
	}
	s.work -= int64(n)
	return true
}

// record reads the record at off if it is intact and has at most limit bytes.
func (s *salvager) record(off uint64, limit int) (Record, bool) {
	p := s.pool
	head := p.Bytes(off, layout.MaxRecordHeaderBytes)
	if head == nil || off < p.Regions().Arena {
		return Record{}, false
	}
	shape := layout.DecodeRecord(head)
	if shape.ValueSize > layout.MaxValueBytes || shape.Size() > limit || p.Bytes(off, shape.Size()) == nil || !s.charge(shape.Size()) {
		return Record{}, false
	}
	rec, err := ReadRecord(p, off)
	return rec, err == nil
}

// keep passes a record on unless the log says something newer of its key, and returns
// whether the key is a new one.
func (s *salvager) keep(off uint64, rec Record) (fresh bool) {
	if chunk := s.pool.Geometry().ChunkBytes; rec.Size() > chunk {
		first := off - (off-s.pool.Regions().Arena)%uint64(chunk)
		for at := first; at < off+uint64(rec.Size()); at += uint64(chunk) {
			s.runs[at] = true
		}
	}
	if s.failed == nil && !s.shadowed(rec) {
		fresh, s.failed = s.emit(rec)
	}
	return fresh
}

// keepDeferred passes on what a guessed root reaches: there is nothing else.
func (s *salvager) keepDeferred() {
	for _, x := range s.deferred {
		s.guard(x.off, func() {
			if rec, err := ReadRecord(s.pool, x.off); err == nil {
				s.Reached++
				s.keep(x.off, rec)
			}
		})
	}
}

// metadata passes the metadata record on.
func (s *salvager) metadata(off uint64) {
	var rec Record
	intact := false
	if off != 0 {
		rec, intact = s.record(off, layout.MaxValueBytes+layout.MaxRecordHeaderBytes)
		if intact = intact && len(rec.Key) == 0; intact {
			s.visit(off)
		} else {
			s.problem("metadata", off, "it is no intact record")
		}
	}
	if m := s.newestMetadata(rec, intact, off != 0 && !intact); m != nil {
		rec, intact = m.Record, true
	}
	if intact {
		s.Metadata = true
		s.failed = s.meta(rec.Value)
	}
}
