package command

import (
	"unicode/utf8"

	"pmemtable/cmd/pmemctl/internal/records"
)

// keyDocument is a key in a document, in one of three fields: as text; in base64 if
// it is not UTF-8, which JSON cannot say; or as --key-format says.
type keyDocument struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 *string `json:"key_base64,omitempty"`
	KeyHex    *string `json:"key_hex,omitempty"`
}

// valueDocument is the same for a value.
type valueDocument struct {
	Value       *string `json:"value,omitempty"`
	ValueBase64 *string `json:"value_base64,omitempty"`
	ValueHex    *string `json:"value_hex,omitempty"`
}

func newKeyDocument(key []byte, e records.Encoding) (d keyDocument) {
	d.Key, d.KeyBase64, d.KeyHex = encoded(key, e)
	return d
}

func newValueDocument(value []byte, e records.Encoding) (d valueDocument) {
	d.Value, d.ValueBase64, d.ValueHex = encoded(value, e)
	return d
}

func encoded(b []byte, e records.Encoding) (plain, base64, hex *string) {
	if e == records.UTF8 && !utf8.Valid(b) {
		e = records.Base64
	}
	text := string(e.Append(nil, b))
	switch e {
	case records.Hex:
		return nil, nil, &text
	case records.Base64:
		return nil, &text, nil
	}
	return &text, nil, nil
}
