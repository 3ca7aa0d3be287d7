package blocklog_test

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"pmemtable/internal/guest/blocklog"
)

func TestMountable(t *testing.T) {
	whole := func() []byte {
		image := make([]byte, 4096)
		sb, le := image[1024:2048], binary.LittleEndian
		for i := range sb {
			sb[i] = byte(i)
		}
		le.PutUint16(sb[0x38:], 0xef53)
		le.PutUint32(sb[0x64:], 0x400)
		le.PutUint32(sb[0x3fc:], ^crc32.Checksum(sb[:0x3fc], crc32.MakeTable(crc32.Castagnoli)))
		return image
	}
	for name, c := range map[string]struct {
		change func(image []byte) []byte
		want   bool
	}{
		"whole":          {func(b []byte) []byte { return b }, true},
		"other content":  {func(b []byte) []byte { b[0], b[3000] = 1, 1; return b }, true},
		"first sector":   {func(b []byte) []byte { b[1024]++; return b }, false},
		"second sector":  {func(b []byte) []byte { b[1024+512]++; return b }, false},
		"no file system": {func(b []byte) []byte { return make([]byte, 4096) }, false},
		"cut off":        {func(b []byte) []byte { return b[:1500] }, false},
	} {
		if got := blocklog.Mountable(c.change(whole())); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
