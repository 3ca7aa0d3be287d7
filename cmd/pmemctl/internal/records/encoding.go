package records

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Encoding is how bytes are written as text.
type Encoding int

const (
	UTF8   Encoding = iota // the bytes themselves
	Hex                    // two digits a byte
	Base64                 // RFC 4648, padded
)

var encodingNames = [...]string{UTF8: "utf8", Hex: "hex", Base64: "base64"}

func (e Encoding) String() string { return encodingNames[e] }

// ParseEncoding reads a name as String writes it.
func ParseEncoding(name string) (Encoding, error) {
	for e, known := range encodingNames {
		if name == known {
			return Encoding(e), nil
		}
	}
	return UTF8, fmt.Errorf("unknown format %q: utf8, hex or base64", name)
}

// Append appends the text that stands for some bytes.
func (e Encoding) Append(dst, bytes []byte) []byte {
	switch e {
	case Hex:
		return hex.AppendEncode(dst, bytes)
	case Base64:
		return base64.StdEncoding.AppendEncode(dst, bytes)
	}
	return append(dst, bytes...)
}

// AppendDecoded appends the bytes that a text stands for. Base64 is taken
// strictly, as Append writes it: a decoder that ignores line breaks or spare
// bits would take several texts for the same bytes.
func (e Encoding) AppendDecoded(dst, text []byte) ([]byte, error) {
	switch e {
	case Hex:
		out, err := hex.AppendDecode(dst, text)
		if err != nil {
			return dst, errors.New("not hexadecimal: two digits 0-9 a-f for each byte")
		}
		return out, nil
	case Base64:
		for _, c := range text {
			if c == '\n' || c == '\r' {
				return dst, errors.New("not base64: a line break in it")
			}
		}
		out, err := base64.StdEncoding.Strict().AppendDecode(dst, text)
		if err != nil {
			return dst, errors.New("not base64 (standard alphabet, padded)")
		}
		return out, nil
	}
	return append(dst, text...), nil
}

// column is the name of a CSV or TSV column, or JSONL field, in an encoding.
func (e Encoding) column(name string) string {
	if e == UTF8 {
		return name
	}
	return name + "_" + e.String()
}
