package blocklog

import (
	"encoding/binary"
	"hash/crc32"
)

// Mountable tells whether the superblock of an ext4 image is whole: it lies in two
// sectors, which a disk may write one without the other, and has a checksum. The
// kernel mounts nothing by a torn one, whatever stands in the files.
func Mountable(image []byte) bool {
	const (
		begin       = 1024
		size        = 1024
		magicAt     = 0x38
		magic       = 0xef53
		featuresAt  = 0x64 // those that a kernel must know to write
		metadataCRC = 0x400
		sumAt       = 0x3fc
	)
	if len(image) < begin+size {
		return false
	}
	sb, le := image[begin:begin+size], binary.LittleEndian
	if le.Uint16(sb[magicAt:]) != magic || le.Uint32(sb[featuresAt:])&metadataCRC == 0 {
		return false
	}
	return le.Uint32(sb[sumAt:]) == ^crc32.Checksum(sb[:sumAt], crc32.MakeTable(crc32.Castagnoli))
}
