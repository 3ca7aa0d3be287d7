package table

import (
	"bytes"
	"cmp"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"pmemtable/flush"
	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// Iteration walks in the order of the keys' hashes, which no split changes: a
// cursor is the first hash that has not been visited. It never stops between
// equal hashes. So a key that is present throughout is seen exactly once, and one
// that comes or goes meanwhile at most once.

// scanBytes is about how much one step of Scan copies.
const scanBytes = 256 << 10

// All iterates over copies of all entries, in the order of their hashes, which is
// no order of keys. It is weakly consistent: see Scan. The slices belong to the
// caller. It ends at the first error, which Err then returns.
func (t *Table) All() iter.Seq2[[]byte, []byte] {
	return iterate(t.step, &t.iterErr)
}

// iterate turns steps into an iterator; failed gets the error that ends it.
func iterate(step func(cursor uint64) ([]scanned, uint64, error), failed *atomic.Pointer[error]) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		failed.Store(nil)
		for cursor := uint64(0); ; {
			entries, next, err := step(cursor)
			if err != nil {
				failed.Store(&err)
				return
			}
			for _, e := range entries {
				if !yield(e.key, e.value) {
					return
				}
			}
			if next == 0 {
				return
			}
			cursor = next
		}
	}
}

// Err returns the error that ended the last All that began, nil if none did.
func (t *Table) Err() error {
	if err := t.iterErr.Load(); err != nil {
		return *err
	}
	return nil
}

// Scan calls fn with the entries of one step of an iteration, from cursor on,
// and returns the cursor of the next step; 0 begins and ends. A key that is in
// the table throughout the iteration is seen exactly once, whatever else is
// written; a value is one that the key had at some time during its step. An error
// of fn ends the step and is returned. The slices are copies, and fn may keep
// them; it may call the table.
func (t *Table) Scan(cursor uint64, fn func(key, value []byte) error) (next uint64, err error) {
	return scan(t.step, cursor, fn)
}

func scan(step func(cursor uint64) ([]scanned, uint64, error), cursor uint64, fn func(key, value []byte) error) (uint64, error) {
	entries, next, err := step(cursor)
	if err != nil {
		return cursor, err
	}
	for _, e := range entries {
		if err := fn(e.key, e.value); err != nil {
			return cursor, err
		}
	}
	return next, nil
}

// scanned is an entry of a step.
type scanned struct {
	hash       uint64
	block      uint64
	key, value []byte
}

// step copies the entries of the next segment, from cursor on, that has any, or
// so many of them as fit a step.
func (t *Table) step(cursor uint64) (entries []scanned, next uint64, err error) {
	defer runtime.KeepAlive(t)
	defer t.caught(debug.SetPanicOnFault(true), &err)
	if t.closing.Load() {
		return nil, 0, ErrClosed
	}
	for {
		entries, next, err := t.segmentFrom(cursor)
		if err != nil || len(entries) > 0 || next == 0 {
			return entries, next, err
		}
		cursor = next
	}
}

// segmentFrom copies entries of the one segment that holds cursor, under a pin or
// else until the stripe's version stays the same meanwhile.
func (t *Table) segmentFrom(cursor uint64) (entries []scanned, next uint64, err error) {
	stripe := layout.StripeOf(cursor, t.stripeBits)
	var tail *logTail
	err = t.validated(stripe, func(root uint64) (err error) {
		entries, next, err = t.gather(root, stripe, cursor)
		tail = t.tailNow()
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return tail.over(entries, cursor, next), next, nil
}

// validated calls read with a stripe's root until what it read can be trusted, and
// returns its last error. read may find anything: blocks that are reused meanwhile.
func (t *Table) validated(stripe int, read func(root uint64) error) error {
	for n := 0; ; n++ {
		version := t.version(stripe)
		var pin *pin
		if !t.pool.ReadOnly() {
			pin = t.pins.acquire(stripe, version)
		}
		roots := t.roots.Load()
		err := read(t.pool.Load(t.rootAt(stripe)))
		flush.LoadFence()
		trusted := t.roots.Load() == roots && (pin != nil || t.unchanged(stripe, version))
		if pin != nil {
			pin.release()
		}
		switch {
		case trusted && t.closing.Load():
			return ErrClosed
		case trusted:
			return err
		case t.pool.ReadOnly() && n > maxForeignTries:
			return errBusy
		}
		runtime.Gosched()
	}
}

// gather reads the slots of the segment that holds cursor, and copies the entries
// in the order of their hashes until a step is full.
func (t *Table) gather(root uint64, stripe int, cursor uint64) ([]scanned, uint64, error) {
	segment, want, end, err := t.segmentAt(root, stripe, cursor)
	if err != nil || segment == 0 {
		return nil, end, err
	}
	if t.inline {
		found, err := t.inlineFrom(segment, want, cursor)
		return found, end, err
	}
	found, err := t.slotsFrom(segment, want, cursor)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(found, func(a, b scanned) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), bytes.Compare(a.key, b.key))
	})
	// A key that went and came again meanwhile may have been found in two slots.
	found = slices.CompactFunc(found, func(a, b scanned) bool {
		return a.hash == b.hash && bytes.Equal(a.key, b.key)
	})
	return t.copyEntries(found, end)
}

// segmentAt finds the segment that holds cursor below a stripe root, 0 if the
// stripe is empty, with what its header must say, and the cursor behind it.
func (t *Table) segmentAt(root uint64, stripe int, cursor uint64) (segment uint64, want layout.SegmentHeader, end uint64, err error) {
	p := t.pool
	if root == 0 {
		if t.stripeBits > 0 {
			end = uint64(stripe+1) << (64 - t.stripeBits) // 0 behind the last one
		}
		return 0, want, end, nil
	}
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok {
		return 0, want, 0, p.Corrupt("stripe root", t.rootAt(stripe), "%#x is no stripe root", root)
	}
	at := dir + layout.DirectoryHeaderBytes + layout.DirectoryIndex(cursor, t.stripeBits, depth)*layout.WordBytes
	segment, local, shift, ok := layout.DecodeDirectoryWord(p.Load(at))
	if !ok || local > depth || segment == 0 {
		return 0, want, 0, p.Corrupt("directory word", at, "it is none")
	}
	want = layout.SegmentHeader{Stripe: stripe, Depth: local, TagShift: shift,
		Prefix: layout.DirectoryIndex(cursor, t.stripeBits, local)}
	if bits := t.stripeBits + local; bits > 0 {
		end = (cursor>>(64-bits) + 1) << (64 - bits)
	}
	return segment, want, end, nil
}

// slotsFrom lists what the slots of a segment and its chain hold from cursor on.
func (t *Table) slotsFrom(segment uint64, want layout.SegmentHeader, cursor uint64) ([]scanned, error) {
	var found []scanned
	err := t.eachSlot(segment, want, func(_ uint64, _ int, _ bool, word uint64) error {
		block := layout.SlotRecord(word)
		key, hash, err := t.keyOf(block, word, want)
		if err == nil && hash >= cursor {
			found = append(found, scanned{hash: hash, block: block, key: key})
		}
		return err
	})
	return found, err
}

// eachSlot calls fn with every slot that holds an entry, of a segment and its
// chain: the segment, which of its lines, whether it is one of the chain, the word.
func (t *Table) eachSlot(segment uint64, want layout.SegmentHeader, fn func(segment uint64, line int, chained bool, word uint64) error) error {
	p := t.pool
	for n := 0; ; n++ {
		if _, err := recovery.ReadSegment(p, segment, want); err != nil {
			return err
		}
		for l := range t.lines {
			lineAt := segment + layout.LineBytes*uint64(l+1)
			line := p.Line(lineAt)
			for i := range layout.SlotsPerLine {
				word := t.overlaid(lineAt+uint64(i)*layout.WordBytes, line.Load(i))
				if word&layout.SlotLinkMask == 0 {
					continue
				}
				if err := fn(segment, l, n > 0, word); err != nil {
					return err
				}
			}
		}
		t.drainInFlight(want.Stripe, segment, segment+uint64(t.geometry.SegmentBytes))
		next, ok := layout.DecodeSegmentLink(p.Load(segment + layout.SegmentNext))
		if !ok || n > recovery.MaxChain {
			return p.Corrupt("segment", segment, "its link to an overflow segment is damaged")
		}
		if next == 0 {
			return nil
		}
		segment, want.Overflow = next, true
	}
}

// keyOf reads a record's key in place and checks that it belongs to its slot.
func (t *Table) keyOf(block, word uint64, seg layout.SegmentHeader) ([]byte, uint64, error) {
	head := t.pool.Speculative(block, layout.MaxRecordHeaderBytes)
	if head == nil {
		return nil, 0, t.pool.Corrupt("record", block, "it lies outside the file")
	}
	shape := layout.DecodeRecord(head)
	record := t.pool.Speculative(block, shape.HeaderSize+shape.KeySize)
	if record == nil {
		return nil, 0, t.pool.Corrupt("record", block, "its key runs over the end of the file")
	}
	key := record[shape.HeaderSize:]
	hash := t.hash(key)
	if layout.StripeOf(hash, t.stripeBits) != seg.Stripe ||
		layout.DirectoryIndex(hash, t.stripeBits, seg.Depth) != seg.Prefix ||
		layout.Tag(hash, t.stripeBits, seg.TagShift) != word&layout.SlotTagMask {
		return nil, 0, t.pool.Corrupt("record", block, "its key does not belong to the slot that links to it")
	}
	return key, hash, nil
}

// copyEntries copies entries up to a step's size, and never ends between equal
// hashes. end is the cursor behind the last of found.
func (t *Table) copyEntries(found []scanned, end uint64) ([]scanned, uint64, error) {
	size := 0
	for i := range found {
		e := &found[i]
		if size > scanBytes && e.hash != found[i-1].hash {
			return found[:i], e.hash, nil
		}
		shape := layout.DecodeRecord(t.pool.Speculative(e.block, layout.MaxRecordHeaderBytes))
		record := t.pool.Speculative(e.block, shape.Size())
		if record == nil || shape.ValueSize > layout.MaxValueBytes {
			return nil, 0, t.pool.Corrupt("record", e.block, "it runs over the end of the file")
		}
		copied := bytes.Clone(record) // and checked then: a failed write-back may change the page in between
		if !t.trust && !layout.RecordIntact(copied) {
			return nil, 0, t.pool.Corrupt("record", e.block, "its checksum is wrong")
		}
		copied = copied[shape.HeaderSize:]
		e.key, e.value = copied[:shape.KeySize:shape.KeySize], copied[shape.KeySize:]
		size += len(record)
	}
	return found, end, nil
}

// countSlots counts the entries where no count is kept. It reads slots and no
// records, so that a busy writer in another process seldom makes it begin again.
func (t *Table) countSlots() (n int) {
	var err error // of a page that is gone: what was counted before is the answer
	defer t.caught(debug.SetPanicOnFault(true), &err)
	for cursor := uint64(0); ; {
		there, next, err := t.countSegment(cursor)
		if err == errBusy {
			continue // Len cannot say so, and a count that leaves some out is wrong
		}
		n += there
		if err != nil || next == 0 {
			return n + t.beyond(t.tailNow())
		}
		cursor = next
	}
}

// countSegment counts the entries of the one segment that holds cursor.
func (t *Table) countSegment(cursor uint64) (n int, next uint64, err error) {
	stripe := layout.StripeOf(cursor, t.stripeBits)
	err = t.validated(stripe, func(root uint64) error {
		n = 0
		segment, want, end, err := t.segmentAt(root, stripe, cursor)
		next = end
		if err != nil || segment == 0 {
			return err
		}
		if t.inline {
			return t.eachInline(segment, want, func(inlineEntry, uint64, int, bool) error { n++; return nil })
		}
		return t.eachSlot(segment, want, func(_ uint64, _ int, _ bool, _ uint64) error { n++; return nil })
	})
	return n, next, err
}
