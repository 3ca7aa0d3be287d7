package store

import (
	"encoding/binary"
	"fmt"

	"pmemtable/table"
)

// state says which entries the log has; it is the table's metadata record. All
// ranges are half open.
//
//   - the log's indices are in [first, end); it is empty if these are equal, and
//     both are 0 then.
//   - there are count of them: less than end - first if there are gaps, which raft
//     does not leave (see Store.IsMonotonic).
//   - indices in [trash, trashEnd) are not in the log, but the table may have
//     entries there: of a deletion or an append larger than a Batch that is under
//     way, or that a crash or an error cut off. The next change clears them away.
//   - changes counts the batches that set the state: so no two are equal.
type state struct {
	first, end, count uint64
	trash, trashEnd   uint64
	changes           uint64
}

// stateMagic tells a log's metadata record from anything else's, and its version.
const stateMagic = "pmtraft1"

const stateBytes = len(stateMagic) + 6*8

func (s *state) encode() []byte {
	b := append(make([]byte, 0, stateBytes), stateMagic...)
	for _, n := range []uint64{s.first, s.end, s.count, s.trash, s.trashEnd, s.changes} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func decodeState(b []byte) (*state, error) {
	if len(b) != stateBytes || string(b[:len(stateMagic)]) != stateMagic {
		return nil, fmt.Errorf("its metadata record (%d bytes) is not that of a raft log", len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[len(stateMagic)+8*i:]) }
	s := &state{n(0), n(1), n(2), n(3), n(4), n(5)}
	if s.first > s.end || s.count > s.end-s.first || (s.count == 0) != (s.end == 0) || s.trash > s.trashEnd {
		return nil, fmt.Errorf("%w: the metadata record says entries [%d, %d), %d of them, clearing [%d, %d)",
			table.ErrCorrupt, s.first, s.end, s.count, s.trash, s.trashEnd)
	}
	return s, nil
}

// dense tells whether the log has no gaps.
func (s *state) dense() bool { return s.count == s.end-s.first }

// covers tells whether index may be in the log: certainly if that is dense.
func (s *state) covers(index uint64) bool {
	return s.first <= index && index < s.end && !s.trashed(index)
}

func (s *state) trashed(index uint64) bool { return s.trash <= index && index < s.trashEnd }

// with is the state after one more entry was stored.
func (s state) with(index uint64) state {
	if s.count == 0 {
		s.first, s.end = index, index
	}
	s.first, s.end = min(s.first, index), max(s.end, index+1)
	s.count++
	return s
}
