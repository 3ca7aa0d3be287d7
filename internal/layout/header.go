package layout

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"
)

// Magic opens every pool. The bytes after the name catch text-mode transfers,
// as PNG's signature does.
var Magic = [8]byte{'P', 'M', 'T', 'B', 0x1a, '\r', '\n', 0x96}

// endianMark is written in the order of the file; a reader that sees it reversed
// holds a file of another byte order.
const endianMark = 0x01020304

// Header is the first page, written once at creation.
type Header struct {
	Magic        [8]byte
	Endian       uint32
	Version      uint32
	Features     uint64 // a set bit that the reader does not know refuses the file
	UUID         [16]byte
	HashSeed     uint64
	Stripes      uint32
	ChunkBytes   uint32
	SegmentBytes uint32
	IntentBytes  uint32
	CreatedUnix  int64
	LogBytes     uint32
	_            [4]byte
}

// FeatureInline: the entries are inline, see Geometry.
const FeatureInline = 1 << 0

// The header is pinned: a change of its size or of these offsets is another format.
const (
	_ = uint(unsafe.Sizeof(Header{}) - 80)
	_ = uint(80 - unsafe.Sizeof(Header{}))
	_ = uint(unsafe.Offsetof(Header{}.HashSeed) - 40)
	_ = uint(40 - unsafe.Offsetof(Header{}.HashSeed))
)

// Castagnoli is the polynomial of every checksum in the file.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Reasons for which a header page is refused.
var (
	ErrNotPool = errors.New("not a pmemtable file")
	ErrVersion = errors.New("unsupported format")
	ErrDamaged = errors.New("damaged")
)

// crcAt is where a page of the fixed parts keeps the CRC32C of all before it. It
// is the same in every format version, so damage and a newer version differ.
const crcAt = PageBytes - 4

// Geometry returns the sizes that the header records.
func (h *Header) Geometry() Geometry {
	return Geometry{int(h.Stripes), int(h.ChunkBytes), int(h.SegmentBytes), int(h.IntentBytes), int(h.LogBytes), h.Features&FeatureInline != 0}
}

// Encode writes the header into page, a zeroed page.
func (h *Header) Encode(page []byte) {
	h.Magic, h.Endian, h.Version = Magic, endianMark, FormatVersion
	copy(page, inMemory(h))
	binary.LittleEndian.PutUint32(page[crcAt:], crc32.Checksum(page[:crcAt], Castagnoli))
}

// DecodeHeader tells a foreign file, a damaged one and one of another version apart.
func DecodeHeader(page []byte) (*Header, error) {
	if len(page) < PageBytes {
		if len(page) >= 8 && bytes.Equal(page[:8], Magic[:]) {
			return nil, fmt.Errorf("%w: the header page is cut off at %d bytes", ErrDamaged, len(page))
		}
		return nil, fmt.Errorf("%w: %d bytes are fewer than a header", ErrNotPool, len(page))
	}
	var h Header
	copy(inMemory(&h), page)
	if h.Magic != Magic {
		return nil, fmt.Errorf("%w: it begins with % x", ErrNotPool, page[:8])
	}
	if got, want := crc32.Checksum(page[:crcAt], Castagnoli), binary.LittleEndian.Uint32(page[crcAt:]); got != want {
		if h.Endian == reversedMark && crc32.Checksum(page[:crcAt], Castagnoli) == binary.BigEndian.Uint32(page[crcAt:]) {
			return nil, fmt.Errorf("%w: written by a machine of the other byte order", ErrVersion)
		}
		return nil, fmt.Errorf("%w header: checksum %08x, computed %08x", ErrDamaged, want, got)
	}
	switch {
	case h.Endian != endianMark:
		return nil, fmt.Errorf("%w: byte order mark %08x", ErrVersion, h.Endian)
	case h.Version != FormatVersion:
		return nil, fmt.Errorf("%w: format version %d, this program reads %d", ErrVersion, h.Version, FormatVersion)
	case h.Features&^FeatureInline != 0:
		return nil, fmt.Errorf("%w: features %x are not known to this program", ErrVersion, h.Features&^FeatureInline)
	}
	if err := h.Geometry().Validate(); err != nil {
		return nil, fmt.Errorf("%w header: %w", ErrDamaged, err)
	}
	return &h, nil
}

const reversedMark = 0x04030201

// inMemory is a fixed part as it lies in memory, which is as it lies in the file: its
// fields are in order and of their own alignment, and a host of another byte order opens
// no pool.
func inMemory[T Header | Session](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
