package pmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"pmemtable/internal/layout"
)

// checkByteOrder refuses hosts that would read the words of a file reversed.
func checkByteOrder() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return fmt.Errorf("%w: pools are little-endian and used in place; this machine is big-endian", ErrVersion)
	}
	return nil
}

func (p *Pool) headerError(err error) error { return headerError(p.path, err) }

// headerError gives the layout's reason its place.
func headerError(path string, err error) error {
	if errors.Is(err, layout.ErrDamaged) {
		return &CorruptError{Path: path, Object: "header", Reason: err.Error()}
	}
	return &os.PathError{Op: "open", Path: path, Err: err}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
