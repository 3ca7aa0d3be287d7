package table

import (
	"errors"

	"pmemtable/pmem"
)

// Errors of opening. Errors of the operating system (no such file, no permission)
// come wrapped, with the path.
var (
	// ErrLocked: another process, or another Table of this one, has the file open
	// for writing. The text names its pid where it is known.
	ErrLocked = pmem.ErrLocked
	// ErrNotPool: the file is not a pmemtable file.
	ErrNotPool = pmem.ErrNotPool
	// ErrVersion: the file has another format version, features that this program
	// does not know, or another byte order.
	ErrVersion = pmem.ErrVersion
	// ErrMedium: the medium cannot keep the promise that it would have to: a
	// network file system, or persistent memory without an instruction for it.
	ErrMedium = pmem.ErrMedium
)

// Errors of reading and writing. After any of them the table is as before the
// call, unless the text of ErrPoisoned says otherwise.
var (
	// ErrNotFound: the key is not in the table.
	ErrNotFound = errors.New("not found")
	// ErrTooLarge: a key of more than 65,535 bytes or a value of more than 1 GiB.
	ErrTooLarge = errors.New("too large")
	// ErrEntrySize: the table's entries are inline (Options.Inline), and the key or
	// the value does not have eight bytes.
	ErrEntrySize = errors.New("not the size of the table's entries")
	// ErrFull: the medium, Options.MaxSize or live readers leave no room. Reads
	// and deletes go on, and writes succeed again when there is room.
	ErrFull = pmem.ErrFull
	// ErrCorrupt: the file holds what this program cannot have written. The error
	// is, or wraps, a *CorruptError, which says where.
	ErrCorrupt = pmem.ErrCorrupt
)

// Errors of the table's state.
var (
	// ErrClosed: Close was called.
	ErrClosed = pmem.ErrClosed
	// ErrReadOnly: the table was opened with Options.ReadOnly.
	ErrReadOnly = pmem.ErrReadOnly
	// ErrPoisoned: a sync of the file failed. The outcome of the call is unknown,
	// as is that of every write since the last successful commit; reads are
	// answered from that commit. Close, and open again.
	ErrPoisoned = errors.New("poisoned by a failed sync")
)

// CorruptError says where a file is damaged and how that showed.
type CorruptError = pmem.CorruptError
