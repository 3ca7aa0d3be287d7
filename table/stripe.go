package table

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// stripe is the volatile side of one stripe: what writers need beside the media.
// Its neighbours' state never shares a cache line with it.
type stripe struct {
	// inflight counts writers between enter and leave, so that Close can wait for
	// them; it is the one field that they touch without the lock.
	inflight atomic.Int32
	index    int

	mu sync.Mutex // guards everything below, and every store to the stripe's tree

	count      int64  // entries since base, or in all when based
	based      bool   // count includes what the table held at open
	lastChange uint64 // epoch of the last store to the stripe's tree
	lastLogged uint64 // position behind the last change of an entry in the log, 0: not there

	born     []layout.Extent // blocks linked since the last commit; see born.go
	bornOver bool            // there are more

	retired      []retired
	retiredBytes int
	collectAt    int          // length of retired at which it is collected
	freeable     []pmem.Range // scratch of collect

	heads  heads
	drains uint32 // that made a slot durable
	flying int    // slots in flight: see flight.go

	_ [2 * layout.LineBytes]byte
}

// init makes a stripe of one that is all zeros.
func (s *stripe) init(index int) {
	s.index, s.collectAt, s.heads.most = index, retireCount, headsMost
}

// enter registers a writer of the stripe, unless the table cannot be written.
func (t *Table) enter(s *stripe) error {
	s.inflight.Add(1)
	err := t.writable()
	if err != nil {
		s.inflight.Add(-1)
	}
	return err
}

// last is when everything that the stripe shows is durable. The stripe is locked.
func (s *stripe) last() point { return point{s.lastChange, s.lastLogged} }

func (s *stripe) leave() { s.inflight.Add(-1) }

// writable tells why the table takes no writes, nil if it does.
func (t *Table) writable() error {
	switch {
	case t.closing.Load():
		return ErrClosed
	case t.pool.ReadOnly():
		return ErrReadOnly
	}
	return t.poison()
}

// drainWriters waits for every writer that entered before closing was set. A
// writer holds its place through system calls and waits for room, so this polls.
func (t *Table) drainWriters() {
	for i := range t.stripes {
		for n := 0; t.stripes[i].inflight.Load() != 0; n++ {
			if n < 100 {
				runtime.Gosched()
			} else {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
}

// lockAll locks every stripe in ascending order, the only order in which anybody
// holds more than one.
func (t *Table) lockAll() {
	for i := range t.stripes {
		t.stripes[i].mu.Lock()
	}
}

func (t *Table) unlockAll() {
	for i := range t.stripes {
		t.stripes[i].mu.Unlock()
	}
}

// versionAt is the offset of a stripe's version. It lies in the mapping, for
// readers in other processes. It is never persisted: it only grows, and every
// open advances it before any reuse.
func (t *Table) versionAt(stripe int) uint64 {
	return t.versions + uint64(stripe)*layout.LineBytes
}

// version is what a read compares before and after.
func (t *Table) version(stripe int) uint64 {
	if t.pool.ReadOnly() {
		return t.foreignVersion(stripe)
	}
	return t.pool.Load(t.versionAt(stripe))
}

// rootAt is the offset of a stripe's root word in the working root.
func (t *Table) rootAt(stripe int) uint64 {
	return t.roots.Load() + uint64(stripe)*layout.WordBytes
}
