package records

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// tsvReader reads lines of two fields with a tab between them. There are no
// quotes; inside a field \t \n \r \\ and \xHH stand for what they name, and
// any other backslash is refused rather than guessed at.
type tsvReader struct {
	lines   *lineReader
	o       ReadOptions
	columns columns
	started bool
	record  Record
	text    [2][]byte
}

func (r *tsvReader) Read() (Record, error) {
	for {
		line, err := r.lines.next()
		if err != nil {
			return Record{}, err
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			continue
		}
		left, right, ok := bytes.Cut(line, []byte("\t"))
		if !ok || bytes.IndexByte(right, '\t') >= 0 {
			return Record{}, lineErrorf(r.lines.number, "not two fields: a line is the key, a tab and the value (a tab inside them is written \\t)")
		}
		if !r.started {
			r.started = true
			var skip bool
			if r.columns, skip, err = r.o.isHeader([2]string{string(left), string(right)}); err != nil {
				return Record{}, &LineError{Line: r.lines.number, Err: err}
			}
			if skip {
				continue
			}
		}
		if err := r.decode(left, right); err != nil {
			return Record{}, &LineError{Line: r.lines.number, Err: err}
		}
		return r.record, nil
	}
}

func (r *tsvReader) decode(left, right []byte) (err error) {
	for i, field := range [2][]byte{left, right} {
		if r.o.CSVSafe {
			field = rearmed(field)
		}
		if r.text[i], err = appendTSVBytes(r.text[i][:0], field); err != nil {
			return err
		}
	}
	r.record.Line = r.lines.number
	return r.columns.decode(&r.record, r.text[r.columns.key], r.text[r.columns.value])
}

func appendTSVBytes(dst, field []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(field, '\\')
		if i < 0 {
			return append(dst, field...), nil
		}
		dst = append(dst, field[:i]...)
		field = field[i+1:]
		switch {
		case len(field) == 0:
			return dst, fmt.Errorf("a backslash at the end of a field: a backslash itself is written \\\\")
		case field[0] == 'x' && len(field) >= 3:
			c, err := strconv.ParseUint(string(field[1:3]), 16, 8)
			if err != nil {
				return dst, fmt.Errorf("\\x without two hexadecimal digits")
			}
			dst, field = append(dst, byte(c)), field[3:]
			continue
		case field[0] == 't':
			dst = append(dst, '\t')
		case field[0] == 'n':
			dst = append(dst, '\n')
		case field[0] == 'r':
			dst = append(dst, '\r')
		case field[0] == '\\':
			dst = append(dst, '\\')
		default:
			r, _ := utf8.DecodeRune(field)
			return dst, fmt.Errorf("unknown escape, a backslash before %q: a backslash itself is written \\\\", r)
		}
		field = field[1:]
	}
}

// appendTSVText is the inverse of appendTSVBytes. For a terminal whatever
// draws no mark is escaped, byte by byte, which means the same when read. A
// byte order mark always is: at the start of a file it would be taken for one.
func appendTSVText(dst, content []byte, terminal bool) []byte {
	for len(content) > 0 {
		r, size := utf8.DecodeRune(content)
		switch {
		case r == '\t':
			dst = append(dst, `\t`...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\\':
			dst = append(dst, `\\`...)
		case r == utf8.RuneError && size == 1, r < ' ', r == 0x7f, r == 0xFEFF, terminal && !strconv.IsGraphic(r):
			for _, c := range content[:size] {
				dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		default:
			dst = append(dst, content[:size]...)
		}
		content = content[size:]
	}
	return dst
}
