package store

import (
	"fmt"
	"slices"

	"pmemtable/table"
)

// DeleteRange deletes the entries at min to max, both included, durably when it
// returns and all of them or none; there need not be any. O(entries in the range);
// of a log with gaps O(entries of the table). An error after which the entries are
// gone, but not all of their space is free yet, is possible: the next change of the
// log goes on with that, or meets the same error.
func (s *Store) DeleteRange(min, max uint64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.clearTrash(); err != nil {
		return err
	}
	before := *s.state.Load()
	if before.count == 0 || min > max || max < before.first || min >= before.end {
		return nil
	}
	if min < before.first {
		min = before.first
	}
	if max >= before.end {
		max = before.end - 1
	}
	after, pages, err := s.without(before, min, max)
	if err != nil || after == before {
		return err
	}
	b, rest, err := s.removal(pages, min, max)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return s.commit(b, after)
	}
	after.trash, after.trashEnd = min, max+1
	if err := s.commit(table.NewBatch(), after); err != nil {
		return err
	}
	return s.clear(pages)
}

// without is the state once the entries at min to max are deleted, and the pages
// that these are in. Both ends lie in the log.
func (s *Store) without(before state, min, max uint64) (after state, pages []uint64, err error) {
	if !before.dense() {
		return s.withoutGaps(before, min, max)
	}
	for number := min / pageEntries; number <= max/pageEntries; number++ {
		pages = append(pages, number)
	}
	after = before
	after.count -= max - min + 1
	switch {
	case after.count == 0:
		after.first, after.end = 0, 0
	case min == before.first:
		after.first = max + 1
	case max == before.end-1:
		after.end = min
	}
	return after, pages, nil
}

// withoutGaps is without for a log with gaps: it looks at all entries.
func (s *Store) withoutGaps(before state, min, max uint64) (after state, pages []uint64, err error) {
	after.changes = before.changes
	err = s.scan(func(number uint64, p page) {
		hit := false
		for _, e := range p {
			if min <= e.index && e.index <= max {
				hit = true
			} else {
				after = after.with(e.index)
			}
		}
		if hit {
			pages = append(pages, number)
		}
	})
	return after, pages, err
}

// removal is a batch that takes the entries at min to max out of pages: of as many
// as fit, at least one. It returns the rest.
func (s *Store) removal(pages []uint64, min, max uint64) (b *table.Batch, rest []uint64, err error) {
	b = table.NewBatch()
	for i, number := range pages {
		if b.Len() > 0 && b.Len()+pageEntries+1 > s.maxChanges {
			return b, pages[i:], nil
		}
		p, err := s.page(number)
		if err != nil {
			return nil, nil, err
		}
		kept := slices.DeleteFunc(p, func(e pageEntry) bool {
			if e.index < min || max < e.index {
				return false
			}
			if e.body == nil {
				key := entryKey(e.index)
				b.Delete(key[:])
			}
			return true
		})
		kept.put(b, number)
	}
	return b, nil, nil
}

// clearTrash deletes what a change that was cut off left behind.
func (s *Store) clearTrash() error {
	st := s.state.Load()
	if st.trash == st.trashEnd {
		return nil
	}
	var pages []uint64
	if err := s.scan(func(number uint64, p page) {
		if slices.ContainsFunc(p, func(e pageEntry) bool { return st.trashed(e.index) }) {
			pages = append(pages, number)
		}
	}); err != nil {
		return err
	}
	return s.clear(pages)
}

// clear deletes the trash, which lies in these pages.
func (s *Store) clear(pages []uint64) error {
	after := *s.state.Load()
	first, last := after.trash, after.trashEnd-1
	after.trash, after.trashEnd = 0, 0
	for {
		b, rest, err := s.removal(pages, first, last)
		if err != nil {
			return err
		}
		if len(rest) == 0 {
			return s.commit(b, after)
		}
		if err := s.table.Apply(b); err != nil {
			return fmt.Errorf("raft log: %w", err)
		}
		pages = rest
	}
}
