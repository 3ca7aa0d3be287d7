package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// An entry's value:
//
//	version 1 byte | type 1 byte | term uvarint
//	size of the time 1 byte | AppendedAt, as time.Time's MarshalBinary; 0 bytes for none
//	size of the data uvarint | data | extensions, to the end
//
// The index is the key. The table has checksums of its own.
const entryVersion = 1

var errEntry = errors.New("it is not an entry of a raft log")

func encodeEntry(b []byte, l *raft.Log) ([]byte, error) {
	b = slices.Grow(b, 48+len(l.Data)+len(l.Extensions))
	b = append(b, entryVersion, byte(l.Type))
	b = binary.AppendUvarint(b, l.Term)
	b = append(b, 0)
	if at := len(b); !l.AppendedAt.IsZero() {
		var err error
		if b, err = l.AppendedAt.AppendBinary(b); err != nil {
			return nil, fmt.Errorf("entry %d: %w", l.Index, err)
		}
		b[at-1] = byte(len(b) - at)
	}
	b = binary.AppendUvarint(b, uint64(len(l.Data)))
	return append(append(b, l.Data...), l.Extensions...), nil
}

// decodeEntry keeps nothing of b.
func decodeEntry(b []byte, index uint64, l *raft.Log) error {
	if len(b) < 2 || b[0] != entryVersion {
		return errEntry
	}
	e := raft.Log{Index: index, Type: raft.LogType(b[1])}
	b = b[2:]
	var n int
	if e.Term, n = binary.Uvarint(b); n <= 0 || len(b) == n || len(b)-n-1 < int(b[n]) {
		return errEntry
	}
	at, b := b[n+1:n+1+int(b[n])], b[n+1+int(b[n]):]
	if len(at) > 0 {
		var t time.Time
		if err := t.UnmarshalBinary(at); err != nil {
			return fmt.Errorf("%w: %w", errEntry, err)
		}
		e.AppendedAt = t
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return errEntry
	}
	// One copy for both; neither can grow into the other. Empty is nil.
	b = slices.Clone(b[n:])
	if size > 0 {
		e.Data = b[:size:size]
	}
	if uint64(len(b)) > size {
		e.Extensions = b[size:]
	}
	*l = e
	return nil
}
