package demo

import (
	"bytes"
	"errors"
	"fmt"

	"pmemtable/table"
)

// finding is what a look at a reopened table found.
type finding struct {
	acknowledged int // writes that had been acknowledged
	there        int // of those, how many are there byte for byte
	early        int // there though no acknowledgement had been read: in flight
	total        int
	report       table.Report
	problems     []string
}

func (f *finding) problemf(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// verify holds a table against the data. Both directions count: every
// acknowledged write must be there, by a lookup, and nothing may be there, by a
// walk over everything, that was not written, or not so.
func verify(t *table.Table, entries []entry, acknowledged []bool) (f finding, err error) {
	number := make(map[string]int, len(entries))
	var value []byte
	for i, e := range entries {
		number[string(e.key)] = i
		if !acknowledged[i] {
			continue
		}
		f.acknowledged++
		value, err = t.AppendGet(value[:0], e.key)
		switch {
		case errors.Is(err, table.ErrNotFound):
			f.problemf("lost: %.40q was acknowledged and is not there", e.key)
		case err != nil:
			f.problemf("unreadable: %.40q: %v", e.key, err)
		case !bytes.Equal(value, e.value):
			f.problemf("changed: %.40q does not have the value that was acknowledged", e.key)
		default:
			f.there++
		}
	}
	if err := f.walk(t, entries, acknowledged, number); err != nil {
		return f, err
	}
	if n := t.Len(); n != f.total {
		f.problemf("miscounted: Len is %d, and the walk found %d entries", n, f.total)
	}
	f.report, err = t.Check()
	if err != nil && !errors.Is(err, table.ErrCorrupt) {
		return f, err
	}
	if err != nil && len(f.report.Problems) == 0 {
		f.problemf("check: %v", err)
	}
	for _, p := range f.report.Problems {
		f.problemf("check: %v", p)
	}
	return f, nil
}

func (f *finding) walk(t *table.Table, entries []entry, acknowledged []bool, number map[string]int) error {
	seen := make([]bool, len(entries))
	for cursor, done := uint64(0), false; !done; done = cursor == 0 {
		next, err := t.Scan(cursor, func(key, value []byte) error {
			f.total++
			i, ours := number[string(key)]
			switch {
			case !ours:
				f.problemf("foreign: %.40q was never written", key)
				return nil
			case seen[i]:
				f.problemf("twice: the walk met %.40q again", key)
			case !bytes.Equal(value, entries[i].value):
				f.problemf("mixed: %.40q has a value that was never written", key)
			case !acknowledged[i]:
				f.early++
			}
			seen[i] = true
			return nil
		})
		if err != nil {
			return err
		}
		cursor = next
	}
	if f.early > window(entries) {
		f.problemf("too many: %d writes are there that nobody can have begun", f.early)
	}
	return nil
}
