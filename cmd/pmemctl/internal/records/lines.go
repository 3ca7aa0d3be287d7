package records

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
)

// lineReader yields lines without their end, numbered from 1, none longer
// than the limit. The slice it returns is valid until the next call.
type lineReader struct {
	text     *bufio.Reader
	maxBytes int64
	number   int
	long     []byte // for lines that do not fit text's buffer
}

func newLineReader(text *bufio.Reader, maxBytes int64) *lineReader {
	return &lineReader{text: text, maxBytes: maxBytes}
}

// next returns io.EOF after the last line; a last line without an end counts.
func (l *lineReader) next() ([]byte, error) {
	l.number++
	part, err := l.text.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return l.end(part, err)
	}
	l.long = l.long[:0]
	for err == bufio.ErrBufferFull {
		l.long = append(l.long, part...)
		if int64(len(l.long)) > l.maxBytes {
			break
		}
		part, err = l.text.ReadSlice('\n')
	}
	if err != bufio.ErrBufferFull {
		l.long = append(l.long, part...)
	}
	return l.end(l.long, err)
}

func (l *lineReader) end(line []byte, err error) ([]byte, error) {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	switch {
	case int64(len(line)) > l.maxBytes:
		return nil, tooLong(l.number, l.maxBytes)
	case err == nil, err == io.EOF && len(line) > 0:
		return line, nil
	case err == io.EOF:
		return nil, io.EOF
	}
	return nil, inputError(l.number, err)
}

func tooLong(line int, maxBytes int64) error {
	return lineErrorf(line, "%w of %s (--max-line)", ErrLineTooLong, humanize.IBytes(uint64(maxBytes)))
}

// inputError tells damaged text, which has a line, from an input that failed.
func inputError(line int, err error) error {
	var damaged errGzip
	if errors.As(err, &damaged) {
		return &LineError{Line: line, Err: damaged.error}
	}
	return fmt.Errorf("reading the input at line %d: %w", line, err)
}
