package records

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"pmemtable/cmd/pmemctl/internal/screen"
)

const hexDigits = "0123456789abcdef"

// jsonlWriter writes one object a line, in the spacing that most tools use.
type jsonlWriter struct {
	out      *bufio.Writer
	terminal bool
	line     []byte
}

func newJSONLWriter(w io.Writer, o WriteOptions) *jsonlWriter {
	return &jsonlWriter{out: bufio.NewWriterSize(w, 64<<10), terminal: o.Terminal}
}

func (w *jsonlWriter) Write(key, value []byte) error {
	line := append(w.line[:0], '{')
	line = appendField(line, "key", key)
	line = append(line, ", "...)
	line = appendField(line, "value", value)
	line = append(line, "}\n"...)
	w.line = line
	if w.terminal {
		line = screen.AppendJSONEscaped(nil, line)
	}
	_, err := w.out.Write(line)
	return err
}

func (w *jsonlWriter) Flush() error { return w.out.Flush() }

func appendField(line []byte, name string, content []byte) []byte {
	if !utf8.Valid(content) {
		line = fmt.Appendf(line, `"%s_base64": "`, name)
		return append(Base64.Append(line, content), '"')
	}
	line = fmt.Appendf(line, `"%s": "`, name)
	return append(appendJSONText(line, content), '"')
}

// appendJSONText escapes what JSON says must be, and nothing else.
func appendJSONText(dst, text []byte) []byte {
	plain := 0
	for i, c := range text {
		if isPlain(c) {
			continue
		}
		dst = append(dst, text[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(dst, text[plain:]...)
}

// columnNames is the header of a CSV or TSV output. It is part of the data:
// it says which columns are encoded.
func (o WriteOptions) columnNames() (key, value string) {
	return o.KeyEncoding.column("key"), o.ValueEncoding.column("value")
}

// ErrCannotSay is the reason when a format has no way to write some bytes.
var ErrCannotSay = errors.New("CSV cannot carry these bytes as they are")

// csvWriter writes RFC 4180 rows.
type csvWriter struct {
	out    *csv.Writer
	safe   *bufio.Writer // what out writes to, for rows with quotes around every cell
	o      WriteOptions
	header bool // still to be written
	row    [2]string
	text   []byte
}

func newCSVWriter(w io.Writer, o WriteOptions) *csvWriter {
	buffer := bufio.NewWriterSize(w, 64<<10)
	return &csvWriter{out: csv.NewWriter(buffer), safe: buffer, o: o, header: !o.NoHeader}
}

func (w *csvWriter) Write(key, value []byte) error {
	if err := w.start(); err != nil {
		return err
	}
	var err error
	if w.row[0], err = w.field("key", w.o.KeyEncoding, key); err != nil {
		return err
	}
	if w.row[1], err = w.field("value", w.o.ValueEncoding, value); err != nil {
		return err
	}
	return w.write(w.row)
}

func (w *csvWriter) write(row [2]string) error {
	if !w.o.CSVSafe {
		return w.out.Write(row[:])
	}
	for i, cell := range row {
		if i > 0 {
			_ = w.safe.WriteByte(',')
		}
		_, _ = w.safe.WriteString(`"` + strings.ReplaceAll(cell, `"`, `""`) + `"`)
	}
	return w.safe.WriteByte('\n')
}

func (w *csvWriter) start() error {
	if !w.header {
		return nil
	}
	w.header = false
	key, value := w.o.columnNames()
	return w.write([2]string{key, value})
}

func (w *csvWriter) field(name string, e Encoding, content []byte) (string, error) {
	switch {
	case w.o.Terminal:
		w.text = screen.AppendEscaped(w.text[:0], e.Append(nil, content))
	case e == UTF8 && !CSVCanSay(content):
		return "", fmt.Errorf("%w: the %s %.40q (use --%s-format base64)", ErrCannotSay, name, content, name)
	default:
		w.text = e.Append(w.text[:0], content)
	}
	if w.o.CSVSafe {
		return string(appendDisarmed(nil, w.text)), nil
	}
	return string(w.text), nil
}

func (w *csvWriter) Flush() error {
	if err := w.start(); err != nil {
		return err
	}
	w.out.Flush()
	return errors.Join(w.out.Error(), w.safe.Flush())
}

// tsvWriter writes one entry a line, with a tab between key and value. Bytes
// that would end a field or a line, or are not text, are written as escapes.
type tsvWriter struct {
	out    *bufio.Writer
	o      WriteOptions
	header bool
	line   []byte
	text   []byte
}

func newTSVWriter(w io.Writer, o WriteOptions) *tsvWriter {
	return &tsvWriter{out: bufio.NewWriterSize(w, 64<<10), o: o, header: !o.NoHeader}
}

func (w *tsvWriter) Write(key, value []byte) error {
	if err := w.start(); err != nil {
		return err
	}
	line := w.field(w.line[:0], w.o.KeyEncoding, key)
	line = append(line, '\t')
	line = w.field(line, w.o.ValueEncoding, value)
	w.line = append(line, '\n')
	_, err := w.out.Write(w.line)
	return err
}

func (w *tsvWriter) start() error {
	if !w.header {
		return nil
	}
	w.header = false
	key, value := w.o.columnNames()
	_, err := w.out.WriteString(key + "\t" + value + "\n")
	return err
}

func (w *tsvWriter) field(line []byte, e Encoding, content []byte) []byte {
	if e != UTF8 {
		w.text = e.Append(w.text[:0], content)
	} else {
		w.text = appendTSVText(w.text[:0], content, w.o.Terminal)
	}
	if w.o.CSVSafe {
		return appendDisarmed(line, w.text)
	}
	return append(line, w.text...)
}

func (w *tsvWriter) Flush() error {
	if err := w.start(); err != nil {
		return err
	}
	return w.out.Flush()
}
