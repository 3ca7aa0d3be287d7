package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"pmemtable/table"
)

// Store is a raft log and raft's stable keys. Its methods may be called from many
// goroutines at the same time.
type Store struct {
	table    *table.Table
	readOnly bool // perhaps beside a writer: every read looks at the metadata again

	// changing is held by the one change of the log under way; reads of the log
	// take no lock, they begin at state.
	changing sync.Mutex
	state    atomic.Pointer[state]

	// maxChanges bounds the changes of one Batch: as many as raft appends at a time.
	// (The table takes 4,092, but the time of a large Batch grows faster than its size.)
	maxChanges int
}

var (
	_ raft.LogStore          = (*Store)(nil)
	_ raft.StableStore       = (*Store)(nil)
	_ raft.MonotonicLogStore = (*Store)(nil)
)

// What Open takes for options that are left at zero: one change of the log at a
// time needs one stripe, and small segments make commits small, whose entries
// hash all over the table. Measured in the module's README.
const (
	defaultStripes     = 1
	defaultSegmentSize = 4096
)

// Open opens the store in the file at path, or creates it. nil options are the
// defaults: every call is durable when it returns. Stripes and SegmentSize have
// defaults that suit a log; all else is as table.Open says, and so are the errors.
// It does not look at the entries: O(1).
func Open(path string, opts *table.Options) (*Store, error) {
	var o table.Options
	if opts != nil {
		o = *opts
	}
	if o.Stripes == 0 {
		o.Stripes = defaultStripes
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	t, err := table.Open(path, &o)
	if err != nil {
		return nil, err
	}
	s, err := New(t)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raft log %s: %w", path, err), t.Close())
	}
	return s, nil
}

// New returns the store in a table that is open: one that a Store has written, or
// an empty one. Nobody else may write to it. A store in a table that is open
// read-only follows what a Store in another process does to the log. Close closes
// the table.
func New(t *table.Table) (*Store, error) {
	s := &Store{table: t, readOnly: t.Stats().ReadOnly, maxChanges: 1024}
	meta, err := t.Metadata()
	if err != nil {
		return nil, err
	}
	if len(meta) > 0 {
		st, err := decodeState(meta)
		s.state.Store(st)
		return s, err
	}
	if n := t.Len(); n > 0 {
		return nil, fmt.Errorf("it holds %d entries of something else", n)
	}
	if s.readOnly {
		s.state.Store(new(state))
		return s, nil
	}
	return s, s.commit(table.NewBatch(), state{})
}

// Table returns the table, for its Stats and Backup. Only the Store may write to it.
func (s *Store) Table() *table.Table { return s.table }

// Close closes the table. It is idempotent.
func (s *Store) Close() error { return s.table.Close() }

// Sync makes everything durable that calls returned before: for a store whose
// durability is not Always.
func (s *Store) Sync() error { return s.table.Sync() }

// IsMonotonic tells raft to leave no gaps when it restores a snapshot, but to
// delete the whole log. The store takes gaps, but to find the end of one it looks
// at the whole table.
func (s *Store) IsMonotonic() bool { return true }

// FirstIndex returns the lowest index of the log, 0 if it is empty. O(1).
func (s *Store) FirstIndex() (uint64, error) {
	st, err := s.current()
	return st.first, err
}

// LastIndex returns the highest index of the log, 0 if it is empty. O(1).
func (s *Store) LastIndex() (uint64, error) {
	st, err := s.current()
	return max(st.end, 1) - 1, err
}

// current is the state of the log; with an error, the last one that is known.
func (s *Store) current() (*state, error) {
	known := s.state.Load()
	if !s.readOnly {
		return known, nil
	}
	meta, err := s.table.Metadata()
	if err != nil || len(meta) == 0 {
		return known, err
	}
	st, err := decodeState(meta)
	if err != nil || *st == *known {
		return known, err
	}
	s.state.Store(st)
	return st, nil
}

// unsettledTries is how often a read-only store looks for an entry that the state has, half
// a second in all.
const unsettledTries = 300

// GetLog sets l to the entry at index; its slices are copies, nil if they are empty.
// raft.ErrLogNotFound if there is none. O(1).
func (s *Store) GetLog(index uint64, l *raft.Log) error {
	for try := 0; ; try++ {
		st, err := s.current()
		if err != nil {
			return err
		}
		if !st.covers(index) {
			return raft.ErrLogNotFound
		}
		found, err := s.read(index, l)
		switch {
		case err != nil:
			return fmt.Errorf("raft log entry %d: %w", index, err)
		case found:
			return nil
		case !st.dense():
			return raft.ErrLogNotFound
		}
		if s.readOnly && try < unsettledTries {
			// A batch shows its changes one after the other: the entry may be gone a
			// moment before the state says so, for as long as its writer is kept waiting.
			time.Sleep(time.Duration(try) * 10 * time.Microsecond)
			continue
		}
		if now, err := s.current(); err == nil && *now == *st { // else it was deleted meanwhile
			return fmt.Errorf("raft log entry %d: %w: it is missing", index, table.ErrCorrupt)
		}
	}
}

// read looks an entry up in the table.
func (s *Store) read(index uint64, l *raft.Log) (found bool, err error) {
	number := index / pageEntries
	inline, key := false, pageKey(number)
	err = s.table.View(key[:], func(b []byte) error {
		for len(b) > 0 {
			var e pageEntry
			var err error
			if e, b, err = nextEntry(b, number); err != nil {
				return err
			}
			if e.index == index {
				found, inline = true, e.body != nil
				if inline {
					return decodeEntry(e.body, index, l)
				}
				return nil
			}
		}
		return nil
	})
	if err == nil && found && !inline {
		key = entryKey(index)
		err = s.table.View(key[:], func(b []byte) error { return decodeEntry(b, index, l) })
	}
	switch {
	case errors.Is(err, table.ErrNotFound):
		return false, nil
	case errors.Is(err, errEntry), errors.Is(err, errPage):
		return false, fmt.Errorf("%w: %w", table.ErrCorrupt, err)
	}
	return found, err
}

// StoreLog stores an entry; it is durable when the call returns.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries, all of them or none, and durably when it returns. An
// entry replaces the one at its index. table.ErrTooLarge for an entry that is too
// large for the table (1 GiB), and for more than 1,024 at a time that do not all
// lie behind the end of the log: these go in several commits, which show at once.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.clearTrash(); err != nil {
		return err
	}
	after, err := s.after(logs)
	if err != nil {
		return err
	}
	if len(logs) > s.maxChanges {
		if err := s.storeHidden(logs, after); err != nil {
			return err
		}
		logs = logs[len(logs)-1:]
	}
	b, err := s.addition(logs)
	if err != nil {
		return err
	}
	return s.commit(b, after)
}

// after is the state once logs are stored.
func (s *Store) after(logs []*raft.Log) (state, error) {
	st := *s.state.Load()
	end := st.end
	var seen map[uint64]struct{} // where indices do not simply go up
	for i, l := range logs {
		if l.Index == math.MaxUint64 {
			return st, fmt.Errorf("raft log entry %d: an index must be less than %[1]d", l.Index)
		}
		if l.Index < st.end {
			if seen == nil {
				seen = make(map[uint64]struct{}, len(logs))
				for _, before := range logs[:i] {
					seen[before.Index] = struct{}{}
				}
			}
			had, err := s.has(l.Index)
			if err != nil {
				return st, err
			}
			if _, twice := seen[l.Index]; twice || had {
				continue
			}
		}
		if seen != nil {
			seen[l.Index] = struct{}{}
		}
		st = st.with(l.Index)
	}
	if len(logs) > s.maxChanges {
		if lowest := slices.MinFunc(logs, byIndex).Index; lowest < end {
			return st, fmt.Errorf("%w: %d raft log entries from %d on, in a log that ends at %d; the limit there is %d",
				table.ErrTooLarge, len(logs), lowest, end, s.maxChanges)
		}
	}
	return st, nil
}

func byIndex(a, b *raft.Log) int {
	switch {
	case a.Index < b.Index:
		return -1
	case a.Index > b.Index:
		return 1
	}
	return 0
}

// has tells whether the log has an entry; the log is not being changed.
func (s *Store) has(index uint64) (bool, error) {
	st := s.state.Load()
	if !st.covers(index) || st.dense() {
		return st.covers(index), nil
	}
	p, err := s.page(index / pageEntries)
	return slices.ContainsFunc(p, func(e pageEntry) bool { return e.index == index }), err
}

// storeHidden stores entries behind the end of the log, in as many batches as they
// need; the state does not cover them before the caller commits it. A crash leaves
// them as trash.
func (s *Store) storeHidden(logs []*raft.Log, after state) error {
	hidden := *s.state.Load()
	hidden.trash, hidden.trashEnd = slices.MinFunc(logs, byIndex).Index, after.end
	if err := s.commit(table.NewBatch(), hidden); err != nil {
		return err
	}
	for group := range slices.Chunk(logs, s.maxChanges) {
		b, err := s.addition(group)
		if err != nil {
			return err
		}
		if err := s.table.Apply(b); err != nil {
			return fmt.Errorf("raft log: %w", err)
		}
	}
	return nil
}

// addition is the batch that puts entries into their pages. What a page holds
// beside them is in the log, or hidden by the call that is under way.
func (s *Store) addition(logs []*raft.Log) (*table.Batch, error) {
	b := table.NewBatch()
	pages := make(map[uint64]page)
	for _, l := range logs {
		number := l.Index / pageEntries
		p, known := pages[number]
		if !known {
			var err error
			if p, err = s.page(number); err != nil {
				return nil, err
			}
		}
		body, err := encodeEntry(nil, l)
		if err != nil {
			return nil, err
		}
		e, key := pageEntry{l.Index, body}, entryKey(l.Index)
		if len(body) > inlineBytes {
			b.Put(key[:], body)
			e.body = nil
		}
		if old, existed := p.set(e); existed && old.body == nil && e.body != nil {
			b.Delete(key[:])
		}
		pages[number] = p
	}
	for number, p := range pages {
		p.put(b, number)
	}
	return b, nil
}

// commit applies a batch together with the state after it, and lets reads see that.
func (s *Store) commit(b *table.Batch, after state) error {
	if before := s.state.Load(); before != nil {
		after.changes = before.changes + 1
	}
	b.SetMetadata(after.encode())
	if err := s.table.Apply(b); err != nil {
		return fmt.Errorf("raft log: %w", err)
	}
	s.state.Store(&after)
	return nil
}
