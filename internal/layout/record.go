package layout

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A record holds one entry and never changes once it is linked. It comes in two
// shapes, told apart by a bit, because a 16-byte key with a 100-byte value then
// fills exactly two lines:
//
//	compact: crc u32 | meta u64 | key | value           key and value below 256 bytes
//	         meta: bits 0-46 birth epoch | 47 zero | 48-55 key size | 56-63 value size
//	wide:    crc u32 | meta u64 | value size u32 | key | value
//	         meta: bits 0-46 birth epoch | 47 one | 48-63 key size
//
// The CRC32C covers all after itself.
const (
	compactHeaderBytes = 12
	wideHeaderBytes    = 16
	recordWide         = 1 << 47

	MaxKeyBytes   = 1<<16 - 1
	MaxValueBytes = 1 << 30
	// MaxRecordHeaderBytes sizes a buffer that holds either header.
	MaxRecordHeaderBytes = wideHeaderBytes
)

// RecordBytes is the size of the record of a key and a value of the given sizes.
func RecordBytes(keyBytes, valueBytes int) int {
	if keyBytes < 256 && valueBytes < 256 {
		return compactHeaderBytes + keyBytes + valueBytes
	}
	return wideHeaderBytes + keyBytes + valueBytes
}

// RecordHeader encodes the header of a record into buf, but for the checksum, and
// returns its size. RecordChecksum of the record's bytes goes to its first four.
func RecordHeader(buf *[MaxRecordHeaderBytes]byte, birth uint64, keyBytes, valueBytes int) int {
	le := binary.LittleEndian
	if keyBytes < 256 && valueBytes < 256 {
		le.PutUint64(buf[4:], birth|uint64(keyBytes)<<48|uint64(valueBytes)<<56)
		return compactHeaderBytes
	}
	le.PutUint64(buf[4:], birth|recordWide|uint64(keyBytes)<<48)
	le.PutUint32(buf[12:], uint32(valueBytes))
	return wideHeaderBytes
}

// RecordChecksum is the checksum that belongs into the first four bytes of record.
func RecordChecksum(record []byte) uint32 {
	return crc32.Update(0, Castagnoli, record[4:])
}

// RecordShape is what the header of a record says of its size.
type RecordShape struct {
	Birth      uint64
	HeaderSize int
	KeySize    int
	ValueSize  int
}

// Size is the size of the whole record.
func (s RecordShape) Size() int { return s.HeaderSize + s.KeySize + s.ValueSize }

// Names tells whether a whole record of the shape has a key.
func (s RecordShape) Names(record, key []byte) bool {
	return bytes.Equal(record[s.HeaderSize:s.HeaderSize+s.KeySize], key)
}

// DecodeRecord reads the shape of the record that begins with head, which holds
// MaxRecordHeaderBytes bytes. It trusts nothing: the caller must compare the size
// with the room there is, and check the record's checksum.
func DecodeRecord(head []byte) RecordShape {
	_ = head[MaxRecordHeaderBytes-1]
	meta := binary.LittleEndian.Uint64(head[4:])
	if meta&recordWide == 0 {
		return RecordShape{meta & MaxEpoch, compactHeaderBytes, int(meta >> 48 & 255), int(meta >> 56)}
	}
	return RecordShape{meta & MaxEpoch, wideHeaderBytes, int(meta >> 48), int(binary.LittleEndian.Uint32(head[12:]))}
}

// RecordIntact tells whether the checksum of record, a whole one, is right.
func RecordIntact(record []byte) bool {
	return RecordChecksum(record) == binary.LittleEndian.Uint32(record)
}
