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
const (
	LogFrameBytes  = 16
	LogChangeBytes = 8
	LogAlign       = 8

	MinLogBytes = 1 << 12
	MaxLogBytes = 1 << 30
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

// SealFrames stores the checksums of the frames that b consists of.
func SealFrames(b []byte, seed, generation uint64) {
	le := binary.LittleEndian
	for len(b) > 0 {
		size := FrameBytes(le.Uint32(b[4:]))
		le.PutUint32(b, frameChecksum(b[:size], seed, generation))
		b = b[size:]
	}
}

// FrameBytes is the size of a frame by that of its payload.
func FrameBytes(payloadBytes uint32) int {
	return int(roundUp(LogFrameBytes+uint64(payloadBytes), LogAlign))
}

func frameChecksum(frame []byte, seed, generation uint64) uint32 {
	var salt [16]byte
	binary.LittleEndian.PutUint64(salt[:], seed)
	binary.LittleEndian.PutUint64(salt[8:], generation)
	return crc32.Update(crc32.Checksum(salt[:], Castagnoli), Castagnoli, frame[4:])
}

// ReadFrame returns the payload of the frame at a position of the log, a copy, and
// the position behind it; false if no whole frame begins there.
func ReadFrame(ring []byte, span LogSpan, seed, position uint64) (payload []byte, next uint64, ok bool) {
	size := uint64(len(ring))
	if size < MinLogBytes || position%LogAlign != 0 {
		return nil, 0, false
	}
	head := ringBytes(ring, position, LogFrameBytes)
	n := uint64(FrameBytes(binary.LittleEndian.Uint32(head[4:])))
	if binary.LittleEndian.Uint64(head[8:]) != position || n > size {
		return nil, 0, false
	}
	frame := ringBytes(ring, position, int(n))
	if frameChecksum(frame, seed, span.Generation) != binary.LittleEndian.Uint32(frame) {
		return nil, 0, false
	}
	end := LogFrameBytes + uint64(binary.LittleEndian.Uint32(frame[4:]))
	return frame[LogFrameBytes:end], position + n, true
}

// ringBytes copies n bytes of a ring from a position on.
func ringBytes(ring []byte, position uint64, n int) []byte {
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
