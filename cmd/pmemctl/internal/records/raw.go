package records

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"pmemtable/cmd/pmemctl/internal/screen"
)

// Raw is the form in which D. J. Bernstein's cdbmake takes records and cdbdump
// gives them: any bytes, with their lengths before them,
//
//	+3,5:one->Hello
//
// and an empty line behind the last record, without which a file was cut off.

// rawReader reads it.
type rawReader struct {
	text       *bufio.Reader
	maxBytes   int64
	line       int // where the next record begins
	key, value bytes.Buffer
}

var errCutOff = errors.New("the input ends in the middle: an empty line should come last")

func (r *rawReader) Read() (Record, error) {
	record, err := r.record()
	if err == nil || err == io.EOF {
		return record, err
	}
	if err == io.ErrUnexpectedEOF {
		err = errCutOff
	}
	var read *readError
	if errors.As(err, &read) {
		return Record{}, inputError(r.line, read.error)
	}
	return Record{}, &LineError{Line: r.line, Err: err}
}

// readError is of the input, as against what it says.
type readError struct{ error }

// end makes an early end of an error of reading, and marks any other one.
func end(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return io.ErrUnexpectedEOF
	}
	return &readError{err}
}

func (r *rawReader) record() (Record, error) {
	first, err := r.text.ReadByte()
	switch {
	case err != nil:
		return Record{}, end(err)
	case first == '\n':
		return Record{}, r.last()
	case first != '+':
		return Record{}, fmt.Errorf("%q where a record +KEYLENGTH,VALUELENGTH:KEY->VALUE should begin", rune(first))
	}
	keyBytes, err := r.length(',')
	if err != nil {
		return Record{}, err
	}
	valueBytes, err := r.length(':')
	if err != nil {
		return Record{}, err
	}
	if keyBytes+valueBytes > r.maxBytes {
		return Record{}, tooLong(r.line, r.maxBytes).(*LineError).Err
	}
	if err := r.bytes(&r.key, keyBytes, "->"); err != nil {
		return Record{}, err
	}
	if err := r.bytes(&r.value, valueBytes, "\n"); err != nil {
		return Record{}, err
	}
	record := Record{Key: r.key.Bytes(), Value: r.value.Bytes(), Line: r.line}
	r.line += 1 + bytes.Count(record.Key, []byte("\n")) + bytes.Count(record.Value, []byte("\n"))
	return record, nil
}

// last sees to it that nothing is behind the empty line.
func (r *rawReader) last() error {
	_, err := r.text.ReadByte()
	switch err {
	case io.EOF:
		return io.EOF
	case nil:
		return errors.New("there is more behind the empty line that ends the records")
	}
	return end(err)
}

const maxDigits = 10

func (r *rawReader) length(delimiter byte) (int64, error) {
	var digits []byte
	for {
		c, err := r.text.ReadByte()
		if err != nil {
			return 0, end(err)
		}
		if c == delimiter && len(digits) > 0 {
			return strconv.ParseInt(string(digits), 10, 64)
		}
		if c < '0' || c > '9' || len(digits) == maxDigits {
			return 0, fmt.Errorf("%q in a length, which is at most %d digits and then %q", rune(c), maxDigits, rune(delimiter))
		}
		digits = append(digits, c)
	}
}

// bytes reads so many, and what must follow. The buffer grows with what there is, not
// with what a length claims.
func (r *rawReader) bytes(into *bytes.Buffer, n int64, follows string) error {
	into.Reset()
	if _, err := io.CopyN(into, r.text, n); err != nil {
		return end(err)
	}
	for _, want := range []byte(follows) {
		c, err := r.text.ReadByte()
		if err != nil {
			return end(err)
		}
		if c != want {
			return fmt.Errorf("%q where %q should follow %d bytes: the length is wrong", rune(c), follows, n)
		}
	}
	return nil
}

// rawWriter writes it.
type rawWriter struct {
	out      *bufio.Writer
	terminal bool
}

func (w *rawWriter) Write(key, value []byte) error {
	fmt.Fprintf(w.out, "+%d,%d:", len(key), len(value))
	if w.terminal {
		key, value = screen.AppendEscaped(nil, key), screen.AppendEscaped(nil, value)
	}
	_, _ = w.out.Write(key)
	_, _ = w.out.WriteString("->")
	_, _ = w.out.Write(value)
	return w.out.WriteByte('\n')
}

func (w *rawWriter) Flush() error {
	_ = w.out.WriteByte('\n')
	return w.out.Flush()
}
