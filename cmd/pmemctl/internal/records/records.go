// Package records reads and writes the entries of a table: as lines of text (JSONL,
// CSV, TSV), and raw, as bytes with their lengths before them.
//
// What is read is exactly what was written, byte for byte, for any key and
// value. Where a format cannot say a byte by itself it says so in the open (a
// key_base64 field or column, a \xHH escape); input that could be understood
// only by changing it is refused with its line number.
package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// Format is one of the forms.
type Format int

const (
	Auto  Format = iota // by the name of the file, or by its first bytes
	JSONL               // {"key": "...", "value": "..."} on each line
	CSV                 // RFC 4180, as spreadsheets write it
	TSV                 // a tab between the fields, backslash escapes in them
	Raw                 // +3,5:one->Hello, as cdbmake takes it
)

var formatNames = [...]string{Auto: "auto", JSONL: "jsonl", CSV: "csv", TSV: "tsv", Raw: "raw"}

func (f Format) String() string { return formatNames[f] }

// ParseFormat reads a name as String writes it.
func ParseFormat(name string) (Format, error) {
	for f, known := range formatNames {
		if name == known {
			return Format(f), nil
		}
	}
	return Auto, fmt.Errorf("unknown format %q: jsonl, csv, tsv or raw", name)
}

// Record is one entry of the input. Key and Value are valid until the next
// call of Read only.
type Record struct {
	Key, Value []byte
	Line       int // where it begins, counted from 1
}

// Reader yields the records of an input; io.EOF ends them, and a LineError is
// about the input's text.
type Reader interface {
	Read() (Record, error)
}

// Writer writes entries. Flush must follow the last one.
type Writer interface {
	Write(key, value []byte) error
	Flush() error
}

// LineError says which line of an input could not be understood, and why.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

func lineErrorf(line int, format string, args ...any) error {
	return &LineError{Line: line, Err: fmt.Errorf(format, args...)}
}

// ErrLineTooLong is the reason when one record is longer than MaxLineBytes.
var ErrLineTooLong = errors.New("the line is longer than the limit")

// HeaderMode says what the first line of a CSV or TSV input is.
type HeaderMode int

const (
	HeaderAuto HeaderMode = iota // a header if it holds column names that we write ourselves
	HeaderYes                    // a header whatever it holds
	HeaderNo                     // data whatever it holds
)

var headerNames = [...]string{HeaderAuto: "auto", HeaderYes: "yes", HeaderNo: "no"}

func (m HeaderMode) String() string { return headerNames[m] }

// ParseHeaderMode reads a name as String writes it.
func ParseHeaderMode(name string) (HeaderMode, error) {
	for m, known := range headerNames {
		if name == known {
			return HeaderMode(m), nil
		}
	}
	return HeaderAuto, fmt.Errorf("unknown header mode %q: auto, yes or no", name)
}

// DefaultMaxLineBytes bounds the memory that one line of input may take.
const DefaultMaxLineBytes = 64 << 20

// ReadOptions are for NewReader; the zero value is right for most inputs.
type ReadOptions struct {
	Format       Format
	Name         string // of the file, for its extension; may be empty
	Header       HeaderMode
	MaxLineBytes int64 // 0: DefaultMaxLineBytes; of Raw it bounds a key and its value
	// KeyEncoding and ValueEncoding are those of columns whose header names none.
	KeyEncoding, ValueEncoding Encoding
	CSVSafe                    bool // of CSV and TSV: written so, see WriteOptions
}

// ErrColumnsOnly is the reason when encodings are given for a form that has no columns.
var ErrColumnsOnly = errors.New("--key-format, --value-format and --csv-safe are for the columns of csv and tsv, and this is")

// NewReader finds out what an input is, compressed or not, and reads it.
func NewReader(input io.Reader, o ReadOptions) (Reader, error) {
	if o.MaxLineBytes <= 0 {
		o.MaxLineBytes = DefaultMaxLineBytes
	}
	text, format, err := detect(input, o)
	if err != nil {
		return nil, err
	}
	if format != CSV && format != TSV && (o.KeyEncoding != UTF8 || o.ValueEncoding != UTF8 || o.CSVSafe) {
		return nil, fmt.Errorf("%w %v", ErrColumnsOnly, format)
	}
	switch format {
	case Raw:
		return &rawReader{text: text, maxBytes: o.MaxLineBytes, line: 1}, nil
	case CSV:
		return newCSVReader(text, o), nil
	case TSV:
		return &tsvReader{lines: newLineReader(text, o.MaxLineBytes), o: o}, nil
	default:
		return &jsonlReader{lines: newLineReader(text, o.MaxLineBytes)}, nil
	}
}

// WriteOptions are for NewWriter.
type WriteOptions struct {
	Format        Format
	NoHeader      bool // CSV and TSV: no line of column names
	CSVSafe       bool // CSV and TSV: nothing is a formula to a spreadsheet
	Terminal      bool // for eyes: nothing in the output may drive a terminal
	KeyEncoding   Encoding
	ValueEncoding Encoding
}

// NewWriter writes in a format; Auto is JSONL. The encodings apply to CSV and
// TSV only: JSONL chooses line by line.
func NewWriter(output io.Writer, o WriteOptions) Writer {
	switch o.Format {
	case Raw:
		return &rawWriter{bufio.NewWriterSize(output, 64<<10), o.Terminal}
	case CSV:
		return newCSVWriter(output, o)
	case TSV:
		return newTSVWriter(output, o)
	default:
		return newJSONLWriter(output, o)
	}
}
