package table

import (
	"encoding/binary"
	"iter"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"pmemtable/internal/layout"
)

// Snapshot is the table as it stood at one instant, while others go on writing.
// It costs a moment under all stripe locks; afterwards a writer copies each 16 KiB
// segment once before it first stores into it, and what the snapshot reaches is
// not reused until Close. All its methods may be called from many goroutines.
type Snapshot struct {
	table  *Table
	frozen frozen
	made   time.Time

	// readers counts calls under way, spread so that they seldom meet; gone says
	// that no more may begin. Both sides store their own, then look at the other's.
	readers [snapshotShards]paddedCount
	gone    atomic.Bool
	iterErr atomic.Pointer[error]
}

const snapshotShards = 16

type paddedCount struct {
	n atomic.Int64
	_ [layout.LineBytes - 8]byte
}

// snapshots are the open ones of a table.
type snapshots struct {
	mu   sync.Mutex
	open map[*Snapshot]struct{}
}

// Snapshot freezes the table at this instant. The caller must Close it: an open
// one holds back the reuse of space, which Stats reports.
func (t *Table) Snapshot() (snap *Snapshot, err error) {
	defer runtime.KeepAlive(t)
	defer t.caughtWriting(debug.SetPanicOnFault(true), &err)
	s := &t.stripes[0] // any: so that Close waits for this call
	if err := t.enter(s); err != nil {
		return nil, err
	}
	defer s.leave()
	<-t.counted // so that Len is exact
	snap = &Snapshot{table: t, frozen: t.cut(false), made: time.Now()}
	t.snapshots.mu.Lock()
	defer t.snapshots.mu.Unlock()
	if t.snapshots.open == nil {
		t.snapshots.open = make(map[*Snapshot]struct{})
	}
	t.snapshots.open[snap] = struct{}{}
	return snap, nil
}

// drain waits until no call of any snapshot is under way; none begins any more,
// since the table is closing.
func (s *snapshots) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for snap := range s.open {
		snap.drain()
	}
}

// describe counts the open snapshots and says since when the oldest is.
func (s *snapshots) describe() (count int, oldest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for snap := range s.open {
		oldest = max(oldest, time.Since(snap.made))
	}
	return len(s.open), oldest
}

// Close gives back the space that only the snapshot holds, after the calls that
// are under way. It is idempotent.
func (s *Snapshot) Close() error {
	if !s.gone.CompareAndSwap(false, true) {
		return nil
	}
	s.drain()
	t := s.table
	t.snapshots.mu.Lock()
	delete(t.snapshots.open, s)
	t.snapshots.mu.Unlock()
	t.epochs.release(s.frozen.guard)
	return nil
}

func (s *Snapshot) drain() {
	for i := range s.readers {
		for s.readers[i].n.Load() != 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// enter registers a reader; leave must follow if it returns no error.
func (s *Snapshot) enter(near uint64) (*paddedCount, error) {
	c := &s.readers[near%snapshotShards]
	c.n.Add(1)
	err := s.readable()
	if err != nil {
		c.n.Add(-1)
	}
	return c, err
}

func (s *Snapshot) readable() error {
	if s.gone.Load() || s.table.closing.Load() {
		return ErrClosed
	}
	// After a failed sync only what was committed can be trusted.
	return s.table.poison()
}

// Get returns a copy of the value that key had, or ErrNotFound.
func (s *Snapshot) Get(key []byte) ([]byte, error) {
	value, err := s.AppendGet(nil, key)
	if err == nil && value == nil {
		value = []byte{}
	}
	return value, err
}

// AppendGet appends the value that key had to dst; it allocates only when dst
// lacks room.
func (s *Snapshot) AppendGet(dst, key []byte) (value []byte, err error) {
	defer s.table.caught(debug.SetPanicOnFault(true), &err)
	value = dst
	f, c, err := s.find(key)
	if err != nil {
		return dst, err
	}
	defer c.n.Add(-1)
	switch {
	case f.outcome == absent:
		return dst, ErrNotFound
	case f.outcome == present && s.table.inline:
		return binary.LittleEndian.AppendUint64(dst, f.word), nil
	case f.outcome == present && (s.table.trust || layout.RecordIntact(f.record)):
		return append(dst, f.value...), nil
	case f.outcome == present:
		f.damage("record", f.block)
	}
	return dst, s.table.damageError(&f)
}

// Has tells whether key was in the table.
func (s *Snapshot) Has(key []byte) (has bool, err error) {
	defer s.table.caught(debug.SetPanicOnFault(true), &err)
	f, c, err := s.find(key)
	if err != nil {
		return false, err
	}
	defer c.n.Add(-1)
	if f.outcome == damaged {
		return false, s.table.damageError(&f)
	}
	return f.outcome == present, nil
}

// find looks a key up in the frozen tree, which nobody changes: nothing has to be
// checked afterwards. On no error the caller must count c down.
func (s *Snapshot) find(key []byte) (f found, c *paddedCount, err error) {
	t := s.table
	if err := t.checkKeySize(len(key)); err != nil {
		return f, nil, err
	}
	hash := t.hash(key)
	if c, err = s.enter(hash); err != nil {
		return f, nil, err
	}
	read := false
	defer func() { // a page that is gone: the caller makes an error of it
		if !read {
			c.n.Add(-1)
		}
	}()
	if t.inline {
		_, f.want = t.inlineOf(key)
	}
	t.findIn(&f, s.frozen.roots.Stripes[layout.StripeOf(hash, t.stripeBits)], key, hash)
	read = true
	return f, c, nil
}

// Len is the number of entries that there were.
func (s *Snapshot) Len() int {
	n := 0
	for _, count := range s.frozen.counts {
		n += int(count)
	}
	return n
}

// Metadata returns a copy of the table's metadata record of that instant; empty if
// none was set.
func (s *Snapshot) Metadata() (meta []byte, err error) {
	defer s.table.caught(debug.SetPanicOnFault(true), &err)
	c, err := s.enter(0)
	if err != nil {
		return nil, err
	}
	defer c.n.Add(-1)
	return s.table.readMetadata(s.frozen.roots.Metadata)
}

// All iterates over copies of all entries, in the order of their hashes. It ends
// at the first error, which Err then returns.
func (s *Snapshot) All() iter.Seq2[[]byte, []byte] { return iterate(s.step, &s.iterErr) }

// Err returns the error that ended the last All that began, nil if none did.
func (s *Snapshot) Err() error {
	if err := s.iterErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Scan calls fn with the entries of one step of an iteration, from cursor on, and
// returns the cursor of the next step; 0 begins and ends. The slices are copies.
func (s *Snapshot) Scan(cursor uint64, fn func(key, value []byte) error) (next uint64, err error) {
	return scan(s.step, cursor, fn)
}

func (s *Snapshot) step(cursor uint64) (entries []scanned, next uint64, err error) {
	t := s.table
	defer t.caught(debug.SetPanicOnFault(true), &err)
	for {
		entries, next, err := s.gather(cursor)
		if err != nil || len(entries) > 0 || next == 0 {
			return entries, next, err
		}
		cursor = next
	}
}

// gather copies the entries of the segment that holds cursor.
func (s *Snapshot) gather(cursor uint64) ([]scanned, uint64, error) {
	c, err := s.enter(cursor >> 32)
	if err != nil {
		return nil, 0, err
	}
	defer c.n.Add(-1)
	stripe := layout.StripeOf(cursor, s.table.stripeBits)
	return s.table.gather(s.frozen.roots.Stripes[stripe], stripe, cursor)
}
