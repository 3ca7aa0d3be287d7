package recovery

import (
	"errors"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// LogChange is one change that the log holds. Record and Key lie in a copy.
type LogChange struct {
	Kind   layout.LogKind
	Record Record // of LogPut and LogMetadata
	Bytes  []byte // of the record
	Key    []byte // of LogPut and LogDelete
}

// errEnough ends a ReadLog whose caller has seen what it wanted.
var errEnough = errors.New("enough")

// ReadLog calls fn with the changes of every whole frame of a log, in their order,
// and the position of the frame, up to the first that is not whole or lies at end or
// behind it: that one was never acknowledged, nor was any after it. An error is fn's,
// or ErrCorrupt for a frame that is whole and holds what no table writes.
func ReadLog(p *pmem.Pool, span layout.LogSpan, end uint64, fn func(position uint64, changes []LogChange) error) error {
	ring := p.LogRing(span.RingBytes)
	if ring == nil || span.Generation > p.Generation() {
		return nil
	}
	seed := p.Header().HashSeed
	for at := span.Start; at < end && at-span.Start < span.RingBytes; {
		payload, next, ok := layout.ReadFrame(ring, span, seed, at)
		if !ok {
			return nil
		}
		changes, ok := changesOf(payload)
		if !ok {
			return p.Corrupt("log", p.Regions().Log+at%span.RingBytes, "a frame that is whole holds no changes of a table")
		}
		if err := fn(at, changes); err != nil {
			return err
		}
		at = next
	}
	return nil
}

func changesOf(payload []byte) (changes []LogChange, ok bool) {
	for len(payload) > 0 {
		kind, body, rest, ok := layout.NextChange(payload)
		if !ok {
			return nil, false
		}
		c := LogChange{Kind: kind, Bytes: body, Key: body}
		switch kind {
		case layout.LogPut, layout.LogMetadata:
			if c.Record, ok = recordIn(body); !ok || kind == layout.LogMetadata && len(c.Record.Key) > 0 {
				return nil, false
			}
			c.Key = c.Record.Key
		case layout.LogDelete:
			if len(body) > layout.MaxKeyBytes {
				return nil, false
			}
		default:
			return nil, false
		}
		changes = append(changes, c)
		payload = rest
	}
	return changes, true
}

// recordIn is the record that b is the whole of.
func recordIn(b []byte) (Record, bool) {
	var head [layout.MaxRecordHeaderBytes]byte
	copy(head[:], b)
	shape := layout.DecodeRecord(head[:])
	if shape.Size() != len(b) || shape.ValueSize > layout.MaxValueBytes || !layout.RecordIntact(b) {
		return Record{}, false
	}
	key, value := b[shape.HeaderSize:shape.HeaderSize+shape.KeySize], b[shape.HeaderSize+shape.KeySize:]
	return Record{shape, key[:len(key):len(key)], value}, true
}
