package table

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// logTail is what a log holds behind a committed root that cannot be changed: after a
// failed sync, and in a read-only open of a table whose log nobody has taken up yet.
// Lookups see it laid over the root. It never changes once it is published.
type logTail struct {
	entries map[string]tailEntry
	ordered []scanned // the same, in the order of their hashes; nil values are removed keys
	meta    []byte
	hasMeta bool
}

// tailEntry is a key's record, nil where the key was removed.
type tailEntry struct{ record, value []byte }

// readTail reads what a log holds up to a position; nil if that is nothing. What could
// be read before an error is in it.
func (t *Table) readTail(span layout.LogSpan, end uint64) (tail *logTail, err error) {
	if span.Generation == 0 {
		return nil, nil
	}
	tail = &logTail{entries: make(map[string]tailEntry)}
	err = recovery.ReadLog(t.pool, span, end, func(_ uint64, changes []recovery.LogChange) error {
		for _, c := range changes {
			switch c.Kind {
			case layout.LogPut:
				tail.entries[string(c.Key)] = tailEntry{c.Bytes, c.Record.Value}
			case layout.LogDelete:
				tail.entries[string(c.Key)] = tailEntry{}
			case layout.LogMetadata:
				tail.meta, tail.hasMeta = c.Record.Value, true
			}
		}
		return nil
	})
	if len(tail.entries) == 0 && !tail.hasMeta {
		return nil, err
	}
	for key, e := range tail.entries {
		hash := t.hash([]byte(key))
		tail.ordered = append(tail.ordered, scanned{hash: hash, key: []byte(key), value: e.value})
	}
	slices.SortFunc(tail.ordered, func(a, b scanned) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.key, b.key))
	})
	return tail, err
}

// pendingLog is what the tail of a read-only table consists of.
func (t *Table) pendingLog() PendingLog {
	if !t.pool.ReadOnly() || t.tailNow() == nil {
		return PendingLog{}
	}
	return t.opened.decision.Pending()
}

// tailNow is the tail that lookups must see, nil for none. A read-only table drops the
// one that it has when another process has taken the log up: until then the tail goes
// over whatever root that process is working on, since it names every key that the log
// does.
func (t *Table) tailNow() *logTail {
	tail := t.tail.Load()
	if tail == nil || !t.pool.ReadOnly() {
		return tail
	}
	control := t.pool.Regions().Control
	if t.writerBegan() && t.pool.Load(control+layout.ControlReplaying) == 0 {
		t.tail.Store(nil)
		return nil
	}
	return tail
}

// findInTail is the tail's find. An inline entry's key is not at hand.
func (t *Table) findInTail(f *found, tail *logTail, key []byte, hash uint64) (says bool) {
	if !t.inline {
		return tail.find(f, key)
	}
	if says = tail.find(f, t.inlineKey(nil, hash, f.want)); says && f.outcome == present {
		f.word = binary.LittleEndian.Uint64(f.value)
	}
	return says
}

// find fills f from the tail, and tells whether the tail says anything of the key.
func (l *logTail) find(f *found, key []byte) bool {
	e, ok := l.entries[string(key)]
	switch {
	case !ok:
		return false
	case e.record == nil:
		f.outcome = absent
	default:
		f.outcome, f.block, f.record, f.value = present, 0, e.record, e.value
	}
	return true
}

// over lays the tail over entries, which are those of the root from cursor to before
// next (0: to the end), in the order of their hashes.
func (l *logTail) over(entries []scanned, cursor, next uint64) []scanned {
	if l == nil {
		return entries
	}
	merged := slices.DeleteFunc(entries, func(e scanned) bool {
		_, ok := l.entries[string(e.key)]
		return ok
	})
	first, _ := slices.BinarySearchFunc(l.ordered, cursor, func(e scanned, hash uint64) int { return cmp.Compare(e.hash, hash) })
	for _, e := range l.ordered[first:] {
		if next != 0 && e.hash >= next {
			break
		}
		if l.entries[string(e.key)].record != nil {
			merged = append(merged, scanned{hash: e.hash, key: slices.Clone(e.key), value: slices.Clone(e.value)})
		}
	}
	slices.SortFunc(merged, func(a, b scanned) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.key, b.key))
	})
	return merged
}

// beyond is by how many entries the table has more than the root that the tail goes
// over, in time that grows with the tail.
func (t *Table) beyond(tail *logTail) (more int) {
	if tail == nil {
		return 0
	}
	var f found
	for i := range tail.ordered {
		e := &tail.ordered[i]
		if t.inline {
			_, f.want = t.inlineOf(e.key)
		}
		t.findIn(&f, t.pool.Load(t.rootAt(layout.StripeOf(e.hash, t.stripeBits))), e.key, e.hash)
		if tail.entries[string(e.key)].record != nil {
			more++
		}
		if f.outcome == present {
			more--
		}
	}
	return more
}
