package records

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
)

// rawStart is what a raw file begins with, and, seldom, a line of CSV.
var rawStart = regexp.MustCompile(`^\+[0-9]+,[0-9]+:`)

const peekBytes = 64 << 10

var (
	gzipMagic     = []byte{0x1f, 0x8b}
	byteOrderMark = []byte("\xef\xbb\xbf")
)

// detect unpacks gzip and names the format. Gzip is known by its first bytes,
// whatever the file is called: no text in any of the formats begins so.
func detect(input io.Reader, o ReadOptions) (*bufio.Reader, Format, error) {
	text := bufio.NewReaderSize(input, peekBytes)
	if head, _ := text.Peek(len(gzipMagic)); bytes.Equal(head, gzipMagic) {
		unpacked, err := gzip.NewReader(text)
		if err != nil {
			return nil, Auto, &LineError{Line: 1, Err: fmt.Errorf("gzip: %w", err)}
		}
		text = bufio.NewReaderSize(gzipReader{unpacked}, peekBytes)
	}
	if head, _ := text.Peek(len(byteOrderMark)); bytes.Equal(head, byteOrderMark) {
		_, _ = text.Discard(len(byteOrderMark))
	}
	if o.Format != Auto {
		return text, o.Format, nil
	}
	if format := formatOfName(o.Name); format != Auto {
		return text, format, nil
	}
	format, err := formatOfContent(text)
	return text, format, err
}

func formatOfName(name string) Format {
	name = strings.ToLower(name)
	name = strings.TrimSuffix(name, ".gz")
	switch filepath.Ext(name) {
	case ".jsonl", ".ndjson", ".json":
		return JSONL
	case ".csv":
		return CSV
	case ".tsv", ".tab":
		return TSV
	case ".raw":
		return Raw
	}
	return Auto
}

// formatOfContent decides by the first line, without waiting for more than the
// input gives at once. A line that could be CSV and TSV is left to the user: a
// wrong guess would cut keys and values at the wrong place and say nothing.
func formatOfContent(text *bufio.Reader) (Format, error) {
	_, _ = text.Peek(1)
	head, err := text.Peek(text.Buffered())
	if len(head) == 0 {
		if err == nil || err == io.EOF {
			return JSONL, nil // an input of no records, in any format
		}
		return Auto, inputError(1, err)
	}
	if trimmed := bytes.TrimLeft(head, " \t\r\n"); len(trimmed) == 0 || trimmed[0] == '{' {
		return JSONL, nil
	}
	line, _, _ := bytes.Cut(head, []byte("\n"))
	if rawStart.Match(line) {
		return Auto, &LineError{Line: 1, Err: errors.New("this may be raw or csv: say --format raw or --format csv")}
	}
	tab, comma := bytes.IndexByte(line, '\t'), bytes.IndexByte(line, ',')
	switch {
	case tab >= 0 && comma < 0, tab >= 0 && tab < comma && line[0] != '"':
		return TSV, nil
	case comma >= 0 && tab < 0:
		return CSV, nil
	}
	return Auto, &LineError{Line: 1, Err: errors.New("cannot tell which format this is: say --format jsonl, csv, tsv or raw")}
}

// gzipReader names the layer an error comes from, and keeps apart the end of
// the data and a file that was cut off.
type gzipReader struct{ unpacked *gzip.Reader }

func (g gzipReader) Read(b []byte) (int, error) {
	n, err := g.unpacked.Read(b)
	switch err {
	case nil, io.EOF:
		return n, err
	case io.ErrUnexpectedEOF:
		return n, errGzip{errors.New("gzip: the compressed data ends too early")}
	case gzip.ErrChecksum, gzip.ErrHeader:
		return n, errGzip{fmt.Errorf("gzip: %w", err)}
	}
	return n, errGzipOrInput(err)
}

// errGzip marks damage of the compressed data: malformed input, as against an
// input that could not be read.
type errGzip struct{ error }

func (e errGzip) Unwrap() error { return e.error }

func errGzipOrInput(err error) error {
	if strings.HasPrefix(err.Error(), "flate:") {
		return errGzip{fmt.Errorf("gzip: %w", err)}
	}
	return err
}
