package layout

import (
	"encoding/binary"
	"hash/crc32"
)

// The log holds what changed since the committed root, as a ring of frames: a
// commit of few changes appends one and syncs its pages alone. A position in the
// log counts bytes since the session's first frame and only grows; the byte at
// position p lies in the ring at p modulo its size.
//
//	frame:  crc u32 | payload bytes u32 | position u64 | payload | zeros to a multiple of 8
//	change: kind u8 | 3 zeros | body bytes u32 | body
//
// A frame takes effect whole or not at all. Its CRC32C covers a salt, which is the
// hash seed and the session's generation, and all after itself: so neither what an
// earlier lap or session left in the ring nor what a user's value imitates passes
// for the next frame.
//
// Bit 31 of the payload's size says that the frame is the first of a flush. A flush
// begins when the one before it is durable, so such a frame proves that all before it
// were whole: if one of them is not, that is damage, and not where the log ends.
const (
	LogFrameBytes  = 16
	LogChangeBytes = 8
	LogAlign       = 8

	MinLogBytes = 1 << 12
	MaxLogBytes = 1 << 30

	frameFirst = 1 << 31
)

// LogKind is what a change of the log does.
type LogKind uint8

// The kinds. Their numbers are part of the format.
const (
	LogPut      LogKind = 1 // body: a record
	LogDelete   LogKind = 2 // body: a key
	LogMetadata LogKind = 3 // body: a record without a key
)

// LogSpan names a piece of the log: which session wrote it, where it begins, and
// how large the ring is. The zero value is none.
type LogSpan struct {
	Generation uint64
	Start      uint64 // position
	RingBytes  uint64
}

// BeginFrame appends the room for a frame's header to b.
func BeginFrame(b []byte) []byte { return append(b, make([]byte, LogFrameBytes)...) }

// AppendChange appends a change to the payload of the frame at the end of b.
func AppendChange(b []byte, kind LogKind, body []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(kind)|uint64(len(body))<<32)
	return append(b, body...)
}

// EndFrame completes the frame that begins at b[at:], at a position of the log, but
// for its checksum, and fills it up to a multiple of LogAlign.
func EndFrame(b []byte, at int, position uint64) []byte {
	le := binary.LittleEndian
	le.PutUint32(b[at+4:], uint32(len(b)-at-LogFrameBytes))
	le.PutUint64(b[at+8:], position)
	for len(b)%LogAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// SealFrames stores the checksums of the frames that b consists of, which are those
// of a flush.
func SealFrames(b []byte, seed, generation uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[4:], le.Uint32(b[4:])|frameFirst)
	for len(b) > 0 {
		size := frameBytes(le.Uint32(b[4:]))
		le.PutUint32(b, frameChecksum(b[:size], seed, generation))
		b = b[size:]
	}
}

// frameBytes is the size of a frame by the word that holds that of its payload.
func frameBytes(word uint32) int {
	return int(roundUp(LogFrameBytes+uint64(word&^frameFirst), LogAlign))
}

func frameChecksum(frame []byte, seed, generation uint64) uint32 {
	return crc32.Update(wordsCRC(seed, generation), Castagnoli, frame[4:])
}

// Frame is a whole frame of the log.
type Frame struct {
	Position, Next uint64 // Next is the position behind it
	Payload        []byte // a copy
	First          bool   // of a flush: all before it was durable when it was written
}

// ReadFrame returns the frame at a position of the log of a generation; false if no
// whole one begins there.
func ReadFrame(ring []byte, seed, generation, position uint64) (f Frame, ok bool) {
	size := uint64(len(ring))
	if size < MinLogBytes || position%LogAlign != 0 {
		return f, false
	}
	head := CopyRing(ring, position, LogFrameBytes)
	word := binary.LittleEndian.Uint32(head[4:])
	n := uint64(frameBytes(word))
	if binary.LittleEndian.Uint64(head[8:]) != position || n > size {
		return f, false
	}
	frame := CopyRing(ring, position, int(n))
	if frameChecksum(frame, seed, generation) != binary.LittleEndian.Uint32(frame) {
		return f, false
	}
	// By the copy's own word, which is under the checksum: the ring may be changing.
	word = binary.LittleEndian.Uint32(frame[4:])
	if uint64(frameBytes(word)) != n {
		return f, false
	}
	end := LogFrameBytes + int(word&^frameFirst)
	return Frame{position, position + n, frame[LogFrameBytes:end], word&frameFirst != 0}, true
}

// searchFactor bounds the bytes that FindFrames computes checksums over, as a multiple
// of the ring.
const searchFactor = 64

// FindFrames calls fn with the whole frames of a generation at the position from or
// behind it, wherever they lie in the ring, until fn returns false. They come in the
// order of the ring. The time grows with the ring, whatever it holds.
func FindFrames(ring []byte, seed, generation, from uint64, fn func(f Frame) bool) {
	le := binary.LittleEndian
	size := uint64(len(ring))
	if size < MinLogBytes {
		return
	}
	work := searchFactor * len(ring)
	for at := uint64(0); at < size; at += LogAlign {
		position := le.Uint64(ring[(at+8)%size:])
		if position < from || position%size != at {
			continue
		}
		if work -= frameBytes(le.Uint32(ring[at+4:])); work < 0 {
			return
		}
		f, ok := ReadFrame(ring, seed, generation, position)
		if !ok {
			continue
		}
		if !fn(f) {
			return
		}
		at += f.Next - f.Position - LogAlign
	}
}

// CopyRing copies n bytes of a ring from a position on.
func CopyRing(ring []byte, position uint64, n int) []byte {
	at := int(position % uint64(len(ring)))
	out := append(make([]byte, 0, n), ring[at:min(at+n, len(ring))]...)
	return append(out, ring[:n-len(out)]...)
}

// NextChange splits the first change off a frame's payload; false for a payload
// that is none, which no frame of this code has.
func NextChange(payload []byte) (kind LogKind, body, rest []byte, ok bool) {
	if len(payload) < LogChangeBytes {
		return 0, nil, nil, false
	}
	head := binary.LittleEndian.Uint64(payload)
	n := head >> 32
	payload = payload[LogChangeBytes:]
	if n > uint64(len(payload)) {
		return 0, nil, nil, false
	}
	return LogKind(head), payload[:n:n], payload[n:], true
}
