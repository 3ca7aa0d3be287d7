package records

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// csvReader reads RFC 4180 rows of two fields.
type csvReader struct {
	rows    *csv.Reader
	budget  *budgetReader
	o       ReadOptions
	columns columns
	first   bool
	next    int // the line after the last record that was read
	record  Record
	text    [2][]byte
}

func newCSVReader(text *bufio.Reader, o ReadOptions) *csvReader {
	budget := &budgetReader{input: text}
	// encoding/csv keeps a buffer that it is handed, so what is read ahead
	// beyond a record is known to be less than csvBufferBytes.
	rows := csv.NewReader(bufio.NewReaderSize(budget, csvBufferBytes))
	rows.FieldsPerRecord = 2
	rows.ReuseRecord = true
	return &csvReader{rows: rows, budget: budget, o: o, first: true, next: 1}
}

const csvBufferBytes = 16 << 10

func (r *csvReader) Read() (Record, error) {
	for {
		// A quote that is never closed makes the rest of the file one record.
		// The budget ends that before memory does.
		r.budget.left = r.o.MaxLineBytes + csvBufferBytes
		row, err := r.rows.Read()
		if err != nil {
			return Record{}, r.explain(err)
		}
		line, _ := r.rows.FieldPos(0)
		last, _ := r.rows.FieldPos(1)
		r.next = last + strings.Count(row[1], "\n") + 1
		if int64(len(row[0])+len(row[1])) > r.o.MaxLineBytes {
			return Record{}, tooLong(line, r.o.MaxLineBytes)
		}
		if r.first {
			r.first = false
			var skip bool
			if r.columns, skip, err = r.o.isHeader([2]string(row)); err != nil {
				return Record{}, &LineError{Line: line, Err: err}
			}
			if skip {
				continue
			}
		}
		r.record.Line = line
		for i := range r.text {
			r.text[i] = append(r.text[i][:0], row[i]...)
			if r.o.CSVSafe {
				r.text[i] = rearmed(r.text[i])
			}
		}
		if err := r.columns.decode(&r.record, r.text[r.columns.key], r.text[r.columns.value]); err != nil {
			return Record{}, &LineError{Line: line, Err: err}
		}
		return r.record, nil
	}
}

func (r *csvReader) explain(err error) error {
	if err == io.EOF {
		return err
	}
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse) && errors.Is(err, csv.ErrFieldCount):
		return lineErrorf(parse.Line, "not two fields: a row is key,value")
	case errors.As(err, &parse):
		return &LineError{Line: parse.Line, Err: parse.Err}
	case errors.Is(err, ErrLineTooLong):
		return tooLong(r.next, r.o.MaxLineBytes)
	}
	return inputError(r.next, err)
}

// budgetReader ends the input with ErrLineTooLong when a record has taken
// more than its share of it.
type budgetReader struct {
	input io.Reader
	left  int64
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, ErrLineTooLong
	}
	n, err := b.input.Read(p)
	b.left -= int64(n)
	return n, err
}

// CSVCanSay reports whether a text comes back from a CSV file as it went in.
// RFC 4180 has no escape for bytes that are not text, and readers,
// encoding/csv among them, take the \r out of a \r\n inside a field.
func CSVCanSay(text []byte) bool {
	return utf8.Valid(text) && !bytes.Contains(text, []byte("\r\n")) && !bytes.HasPrefix(text, byteOrderMark)
}
