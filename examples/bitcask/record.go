package bitcask

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// A record, little-endian:
//
//	0  crc32c of all that follows
//	4  sequence
//	12 key size (2 bytes)
//	14 kind (2 bytes)
//	16 value size
//	20 key, value
const headerBytes = 20

// Limits of keys and values.
const (
	MaxKeyBytes   = 65535
	MaxValueBytes = 1 << 30
)

const (
	kindPut = iota + 1
	kindDelete
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one change. Its slices belong to whoever read it.
type record struct {
	sequence   uint64
	key, value []byte
	deleted    bool
}

func appendRecord(dst []byte, r record) []byte {
	begin := len(dst)
	kind := uint16(kindPut)
	if r.deleted {
		kind = kindDelete
	}
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, r.sequence)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.key)))
	dst = binary.LittleEndian.AppendUint16(dst, kind)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.value)))
	dst = append(append(dst, r.key...), r.value...)
	binary.LittleEndian.PutUint32(dst[begin:], crc32.Checksum(dst[begin+4:], castagnoli))
	return dst
}

// recordBytes returns the size of the record that begins with header.
func recordBytes(header []byte) int64 {
	return headerBytes + int64(binary.LittleEndian.Uint16(header[12:])) + int64(binary.LittleEndian.Uint32(header[16:]))
}

// parseRecord returns the record that is all of b, and whether it is intact.
func parseRecord(b []byte) (r record, intact bool) {
	if len(b) < headerBytes || recordBytes(b) != int64(len(b)) ||
		binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return r, false
	}
	keyEnd := headerBytes + int(binary.LittleEndian.Uint16(b[12:]))
	kind := binary.LittleEndian.Uint16(b[14:])
	return record{
		sequence: binary.LittleEndian.Uint64(b[4:]),
		key:      b[headerBytes:keyEnd],
		value:    b[keyEnd:],
		deleted:  kind == kindDelete,
	}, kind == kindPut || kind == kindDelete
}

// scan calls fn with the records of f from offset from to end, and their offsets, until
// one is not intact. It returns where that one begins, or end. The record is valid until
// fn returns.
func scan(f io.ReaderAt, from, end int64, fn func(r record, offset int64) error) (int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, from, end-from), 1<<18)
	var buf []byte
	for offset := from; ; {
		header, err := in.Peek(headerBytes)
		if errors.Is(err, io.EOF) {
			return offset, nil // or a part of a header
		}
		if err != nil {
			return offset, err
		}
		size := recordBytes(header)
		if size > end-offset { // what is allocated is bounded by the file
			return offset, nil
		}
		if int64(cap(buf)) < size {
			buf = make([]byte, size)
		}
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return offset, err
		}
		r, intact := parseRecord(buf[:size])
		if !intact {
			return offset, nil
		}
		if err := fn(r, offset); err != nil {
			return offset, err
		}
		offset += size
	}
}
