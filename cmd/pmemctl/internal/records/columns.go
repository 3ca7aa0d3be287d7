package records

import (
	"fmt"
	"strings"
)

// cutEncoding splits a column's name: key_base64 is key in base64.
func cutEncoding(column string) (what string, e Encoding, ok bool) {
	what, suffix, encoded := strings.Cut(column, "_")
	if what != "key" && what != "value" {
		return "", UTF8, false
	}
	if !encoded {
		return what, UTF8, true
	}
	e, err := ParseEncoding(suffix)
	return what, e, err == nil && e != UTF8
}

// columns says which of a row's two fields is which.
type columns struct {
	key, value           int
	keyEncoding, valueIn Encoding
}

var plainColumns = columns{key: 0, value: 1}

// header reads a first row as column names. known is false where it holds
// anything but the names that we write ourselves: then it is somebody else's
// header, or data.
func header(row [2]string) (c columns, known bool) {
	a, aEncoding, aOK := cutEncoding(row[0])
	b, bEncoding, bOK := cutEncoding(row[1])
	switch {
	case !aOK || !bOK || a == b:
		return plainColumns, false
	case a == "key":
		return columns{key: 0, value: 1, keyEncoding: aEncoding, valueIn: bEncoding}, true
	default:
		return columns{key: 1, value: 0, keyEncoding: bEncoding, valueIn: aEncoding}, true
	}
}

// decode turns the row's texts into the record's bytes.
func (c columns) decode(r *Record, key, value []byte) (err error) {
	if r.Key, err = c.keyEncoding.AppendDecoded(r.Key[:0], key); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if r.Value, err = c.valueIn.AppendDecoded(r.Value[:0], value); err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}

// isHeader settles what a first row is, and how to read the rows after it.
func (o ReadOptions) isHeader(row [2]string) (c columns, skip bool, err error) {
	c = plainColumns
	if o.Header != HeaderNo {
		c, skip = header(row)
		skip = skip || o.Header == HeaderYes
	}
	if c.keyEncoding, err = columnEncoding("key", c.keyEncoding, o.KeyEncoding); err != nil {
		return c, skip, err
	}
	c.valueIn, err = columnEncoding("value", c.valueIn, o.ValueEncoding)
	return c, skip, err
}

// columnEncoding is what a header and an option say together.
func columnEncoding(what string, header, option Encoding) (Encoding, error) {
	switch {
	case option == UTF8 || option == header:
		return header, nil
	case header == UTF8:
		return option, nil
	}
	return header, fmt.Errorf("the column is called %s, against --%s-format %v", header.column(what), what, option)
}
