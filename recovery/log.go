package recovery

import (
	"errors"
	"fmt"

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

// LogFigures say how much a log holds.
type LogFigures struct {
	Frames  int
	Changes int
	Bytes   int64 // of the frames
}

func (f *LogFigures) add(frame layout.Frame, changes []LogChange) {
	f.Frames++
	f.Changes += len(changes)
	f.Bytes += int64(frame.Next - frame.Position)
}

// PendingLog is what the log holds behind a committed root until an open for writing
// takes it up.
type PendingLog struct {
	Generation uint64 // of the session that wrote it; 0: there is none
	RingBytes  int64
	LogFigures
}

// Pending is the log that the truth consists of beside the committed root.
func (d *Decision) Pending() PendingLog {
	return PendingLog{d.Log.Generation, int64(d.Log.RingBytes), d.Logged}
}

// CheckLog adds to a report of the committed root what the log holds, and reports a
// frame that is damaged.
func CheckLog(p *pmem.Pool, d *Decision, r *Report) {
	figures, err := MeasureLog(p, d.Log, d.LogEnd)
	r.Log = d.Pending()
	r.Log.LogFigures = figures
	var damage *pmem.CorruptError
	if errors.As(err, &damage) {
		r.Problems = append(r.Problems, Problem{damage.Object, damage.Offset, damage.Reason})
	}
}

// noLogEnd is the end of a log of which no session record tells it.
const noLogEnd = ^uint64(0)

// ReadLog calls fn with the changes of every whole frame of a log, in their order,
// and the position of the frame, up to the first that is not whole or lies at end or
// behind it: that one was never acknowledged, nor was any after it. An error is fn's,
// or ErrCorrupt for a frame that is whole and holds what no table writes, or that is
// not whole and must have been: end says so, or a frame behind it.
func ReadLog(p *pmem.Pool, span layout.LogSpan, end uint64, fn func(position uint64, changes []LogChange) error) error {
	if span.Generation > p.Generation() {
		return nil
	}
	_, err := readLog(p, span, end, fn)
	return err
}

// MeasureLog is ReadLog for who wants to know how much there is, and that it is whole.
func MeasureLog(p *pmem.Pool, span layout.LogSpan, end uint64) (LogFigures, error) {
	if span.Generation > p.Generation() {
		return LogFigures{}, nil
	}
	return readLog(p, span, end, func(uint64, []LogChange) error { return nil })
}

func readLog(p *pmem.Pool, span layout.LogSpan, end uint64, fn func(position uint64, changes []LogChange) error) (read LogFigures, err error) {
	ring := p.LogRing(span.RingBytes)
	if ring == nil || span.Generation == 0 {
		return read, nil
	}
	seed := p.Header().HashSeed
	at := span.Start
	for at < end && at-span.Start < span.RingBytes {
		frame, ok := layout.ReadFrame(ring, seed, span.Generation, at)
		if !ok {
			return read, missingFrame(p, ring, span, at, end)
		}
		changes, ok := LogChanges(frame.Payload)
		if !ok {
			return read, p.Corrupt("log", p.Regions().Log+at%span.RingBytes, "a frame that is whole holds no changes of a table")
		}
		if err := fn(at, changes); err != nil {
			return read, err
		}
		read.add(frame, changes)
		at = frame.Next
	}
	return read, nil
}

// missingFrame is the error of a log whose frame at a position is not whole, nil if
// that is where it ends: nothing proves that it ever was.
func missingFrame(p *pmem.Pool, ring []byte, span layout.LogSpan, at, end uint64) error {
	proof := ""
	if end != noLogEnd {
		proof = fmt.Sprintf("the session record says that the log was durable up to position %d", end)
	}
	layout.FindFrames(ring, p.Header().HashSeed, span.Generation, at, func(f layout.Frame) bool {
		if f.First && f.Position-span.Start < span.RingBytes {
			proof = fmt.Sprintf("the frame at position %d was written when all before it were durable", f.Position)
		}
		return proof == ""
	})
	if proof == "" {
		return nil
	}
	return p.Corrupt("log", p.Regions().Log+at%span.RingBytes, "the frame at position %d is damaged, and changes in it were acknowledged: %s", at, proof)
}

// damagedSlot is the newest superblock slot if it counts as a commit that was cut off,
// and the log proves that it was whole: what goes on from it was written when it was
// durable. nil if not. (A log that goes on across a commit proves nothing, and loses
// nothing: all of it lies behind the older root, chosen.)
func damagedSlot(p *pmem.Pool, chosen *pmem.Slot) *pmem.Slot {
	torn := p.Torn()
	if torn == nil || torn.Log.Generation == 0 {
		return nil
	}
	ring := p.LogRing(torn.Log.RingBytes)
	if _, ok := layout.ReadFrame(ring, p.Header().HashSeed, torn.Log.Generation, torn.Log.Start); !ok {
		return nil
	}
	if chosen == nil || chosen.Log.Generation != torn.Log.Generation {
		return torn
	}
	reached := false
	_, _ = readLog(p, chosen.Log, noLogEnd, func(position uint64, _ []LogChange) error {
		reached = reached || position == torn.Log.Start
		return nil
	})
	if reached {
		return nil
	}
	return torn
}

// lostSlot tells which superblock slot was that of a commit of the last session, and is
// damaged: only behind one does a session write frames, and the chosen one is of another
// session. Its time grows with the log's region, but only where a slot is no slot.
func lostSlot(p *pmem.Pool, chosen *pmem.Slot) (index int, lost bool) {
	prev := p.Previous()
	index, damaged := p.DamagedSlot()
	if !damaged || prev.Medium != uint8(layout.MediumPageCache) || prev.Replaying != 0 || chosen.Log.Generation == prev.Generation {
		return index, false
	}
	for size := uint64(layout.MinLogBytes); size <= uint64(p.Geometry().LogBytes) && !lost; size *= 2 {
		layout.FindFrames(p.LogRing(size), p.Header().HashSeed, prev.Generation, 0, func(layout.Frame) bool {
			lost = true
			return false
		})
	}
	return index, lost
}

// LogChanges are the changes that a frame's payload consists of; false for one that no
// table writes.
func LogChanges(payload []byte) (changes []LogChange, ok bool) {
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
