package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"pmemtable/table"
)

// Neighbouring entries share a page: one value of the table. Since keys are hashed,
// entries of their own would lie all over the table, and a commit of 32 of them
// would write 32 segments; so it writes two or three. Large entries have a value of
// their own, so that the next entry's commit does not write them again.
const (
	pageEntries = 16   // indices of a page
	inlineBytes = 1024 // the largest entry that lies in its page
)

// pageEntry is an entry in a page; body is nil if it has a value of its own.
type pageEntry struct {
	index uint64
	body  []byte
}

// page is the entries of a page, by index. On the media it is, for each:
//
//	index modulo pageEntries 1 byte | size of the body uvarint, 0 for none | body
type page []pageEntry

const (
	pagePrefix   = 'p'
	entryPrefix  = 'e'
	stablePrefix = 's'
	logKeyBytes  = 9
)

func logKey(prefix byte, n uint64) (key [logKeyBytes]byte) {
	key[0] = prefix
	binary.BigEndian.PutUint64(key[1:], n)
	return key
}

func pageKey(number uint64) [logKeyBytes]byte { return logKey(pagePrefix, number) }
func entryKey(index uint64) [logKeyBytes]byte { return logKey(entryPrefix, index) }

func (p page) encode() []byte {
	size := 0
	for _, e := range p {
		size += 4 + len(e.body)
	}
	b := make([]byte, 0, size)
	for _, e := range p {
		b = append(b, byte(e.index%pageEntries))
		b = append(binary.AppendUvarint(b, uint64(len(e.body))), e.body...)
	}
	return b
}

var errPage = errors.New("it is not a page of a raft log")

// nextEntry reads the first entry of what is left of a page, and returns the rest.
func nextEntry(b []byte, number uint64) (e pageEntry, rest []byte, err error) {
	size, n := binary.Uvarint(b[1:])
	if b[0] >= pageEntries || n <= 0 || size > uint64(len(b)-1-n) {
		return e, nil, errPage
	}
	e.index = number*pageEntries + uint64(b[0])
	b = b[1+n:]
	if size > 0 {
		e.body = b[:size]
	}
	return e, b[size:], nil
}

// decodePage returns the entries of a page, which refer to b.
func decodePage(b []byte, number uint64) (p page, err error) {
	for len(b) > 0 {
		var e pageEntry
		if e, b, err = nextEntry(b, number); err != nil {
			return nil, err
		}
		if len(p) > 0 && p[len(p)-1].index >= e.index {
			return nil, errPage
		}
		p = append(p, e)
	}
	return p, nil
}

// page reads a page; it is empty if there is none.
func (s *Store) page(number uint64) (page, error) {
	key := pageKey(number)
	value, err := s.table.Get(key[:])
	if errors.Is(err, table.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("raft log: %w", err)
	}
	p, err := decodePage(value, number)
	if err != nil {
		return nil, fmt.Errorf("raft log page %d: %w: %w", number, table.ErrCorrupt, err)
	}
	return p, nil
}

// set adds an entry or replaces it, and returns what was there.
func (p *page) set(e pageEntry) (old pageEntry, existed bool) {
	i, existed := slices.BinarySearchFunc(*p, e.index, func(e pageEntry, index uint64) int {
		return int(e.index%pageEntries) - int(index%pageEntries)
	})
	if existed {
		old, (*p)[i] = (*p)[i], e
		return old, true
	}
	*p = slices.Insert(*p, i, e)
	return old, false
}

// put adds to a batch what makes the page that of the table.
func (p page) put(b *table.Batch, number uint64) {
	key := pageKey(number)
	if len(p) == 0 {
		b.Delete(key[:])
		return
	}
	b.Put(key[:], p.encode())
}

// scan calls fn with every page of the table, whether its entries are in the log or
// not. O(entries of the table).
func (s *Store) scan(fn func(number uint64, p page)) error {
	for cursor := uint64(0); ; {
		next, err := s.table.Scan(cursor, func(key, value []byte) error {
			if len(key) != logKeyBytes || key[0] != pagePrefix {
				return nil
			}
			number := binary.BigEndian.Uint64(key[1:])
			p, err := decodePage(value, number)
			if err != nil {
				return fmt.Errorf("page %d: %w: %w", number, table.ErrCorrupt, err)
			}
			fn(number, p)
			return nil
		})
		if err != nil {
			return fmt.Errorf("raft log: %w", err)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
