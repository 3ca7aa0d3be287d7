package pmem

import (
	"errors"
	"fmt"

	"pmemtable/internal/layout"
)

// Errors of opening.
var (
	// ErrLocked: another process, or another Pool of this one, has the file open
	// for writing. The text names its pid.
	ErrLocked = errors.New("pool is locked")
	// ErrNotPool: the file is not a pool at all.
	ErrNotPool = layout.ErrNotPool
	// ErrVersion: a pool of another format version, feature set or byte order.
	ErrVersion = layout.ErrVersion
	// ErrMedium: the medium asked for, or the one the file lies on, cannot keep
	// the promise that it would have to.
	ErrMedium = errors.New("unsuitable medium")
)

// Errors of use.
var (
	// ErrClosed: the pool was closed.
	ErrClosed = errors.New("closed")
	// ErrReadOnly: the pool was opened read-only.
	ErrReadOnly = errors.New("read-only")
	// ErrFull: the medium or MaxSizeBytes has no room for what was asked.
	// Nothing was changed.
	ErrFull = errors.New("no room")
	// ErrCorrupt: the file holds what this program cannot have written.
	// Every such error is, or wraps, a *CorruptError.
	ErrCorrupt = errors.New("corrupt")
)

// CorruptError says where a file is damaged and how that showed.
type CorruptError struct {
	Path   string
	Offset uint64 // of the damaged object in the file
	Object string // what should lie there: "header", "segment", "record", ...
	Reason string
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: corrupt %s at offset %#x: %s", e.Path, e.Object, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Corrupt returns a CorruptError for this pool.
func (p *Pool) Corrupt(object string, off uint64, format string, args ...any) error {
	return &CorruptError{Path: p.path, Offset: off, Object: object, Reason: fmt.Sprintf(format, args...)}
}

// FullError says which bound was met.
type FullError struct {
	Path      string
	SizeBytes int // of the block that found no room
	Reason    error
}

// Error implements error.
func (e *FullError) Error() string {
	return fmt.Sprintf("%s: no room for a block of %d bytes: %v", e.Path, e.SizeBytes, e.Reason)
}

// Is makes errors.Is(err, ErrFull) true.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Unwrap returns the reason: the operating system's error, or that MaxSizeBytes
// is reached.
func (e *FullError) Unwrap() error { return e.Reason }
