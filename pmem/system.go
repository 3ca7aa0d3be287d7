package pmem

import (
	"errors"
	"os"

	"pmemtable/internal/layout"
)

// System is the part of the operating system that a pool stands on. Tests pass
// one of their own to make a call fail.
type System interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm os.FileMode) (*os.File, error)
	// Allocate extends the file from oldBytes to newBytes and reserves the space,
	// so that no later store to it can find the medium full. On an error the
	// file's size is as before.
	Allocate(f *os.File, oldBytes, newBytes int64) error
	// Truncate makes the file as long as that: what is new is a hole.
	Truncate(f *os.File, newBytes int64) error
	// Reserve reserves the space of n bytes from off, a hole within the file, so that
	// no later store to it can find the medium full.
	Reserve(f *os.File, off, n int64) error
	// Release makes a hole of n bytes from off within the file, where the system can.
	Release(f *os.File, off, n int64) error
	// Map maps lengthBytes of the file from its start, shared; the file may be
	// shorter. With daxOnly the mapping must be one whose metadata the kernel
	// keeps durable (MAP_SYNC), or the call fails with errNotDAX.
	Map(f *os.File, lengthBytes int64, readOnly, daxOnly bool) ([]byte, error)
	// MapZeros lays private pages of zeros over mem, which is a piece of a mapping.
	MapZeros(mem []byte) error
	// MapAgain lays the file over mem, which is the piece of its mapping from off on.
	MapAgain(f *os.File, mem []byte, off int64, dax bool) error
	// SyncData makes what was stored through mem and the file's size durable.
	SyncData(f *os.File, mem []byte) error
	// SyncRange makes n bytes from off of mem durable, and as little else as
	// possible; off and n are multiples of the page size.
	SyncRange(f *os.File, mem []byte, off, n int) error
	// WriteRange stores src to off of mem and makes it durable, and as little else as
	// possible. On an error any part of it may have been stored.
	WriteRange(f *os.File, mem []byte, off int, src []byte) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Publish gives the file at temp the name path, unless path exists: then the
	// error is fs.ErrExist. temp is gone afterwards in either case.
	Publish(temp, path string) error
	// LockWriter takes the writer's lock of the file, without waiting.
	LockWriter(f *os.File) error
	// LockReader takes a reader's lock of the file, without waiting.
	LockReader(f *os.File) error
	// KeepReadersOut fails if another process has the readers' lock, else keeps
	// it from being taken until unlock.
	KeepReadersOut(f *os.File) (unlock func(), err error)
	// Unlock gives the lock back. Closing the file is not enough: a mapping keeps
	// the open file, and with it the lock, as long as it lasts.
	Unlock(f *os.File) error
}

// RealSystem is the operating system itself, for a System that replaces some of
// its calls.
func RealSystem() System { return realSystem{} }

type realSystem struct{}

var (
	errHeld   = errors.New("lock is held")
	errNotDAX = errors.New("no direct mapping of persistent memory")
)

// OpenFile implements System.
func (realSystem) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// Truncate implements System.
func (realSystem) Truncate(f *os.File, newBytes int64) error { return f.Truncate(newBytes) }

// MapZeros implements System.
func (realSystem) MapZeros(mem []byte) error { return mapZeros(mem, false) }

// MapAgain implements System.
func (realSystem) MapAgain(f *os.File, mem []byte, off int64, dax bool) error {
	return mapAgain(f, mem, off, dax)
}

// identity is what tells a file from its copies, and this boot from another.
type identity struct {
	bootID    [16]byte // zero where there is none: then never "the same boot"
	inode     uint64
	dev       uint64 // 0 where the number is anonymous
	birthSec  int64
	birthNsec uint32
}

// writeZeros extends a file where the file system cannot reserve space.
func writeZeros(f *os.File, oldBytes, newBytes int64) error {
	if err := fillZeros(f, oldBytes, newBytes-oldBytes); err != nil {
		return errors.Join(err, f.Truncate(oldBytes))
	}
	return nil
}

// fillZeros writes n zeros from off on.
func fillZeros(f *os.File, off, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for end := off + n; off < end; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), end-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// storeAndSync is WriteRange through the mapping.
func storeAndSync(s System, f *os.File, mem []byte, off int, src []byte) error {
	copy(mem[off:], src)
	page := off &^ (layout.PageBytes - 1)
	return s.SyncRange(f, mem, page, int(roundUp(int64(off-page+len(src)), layout.PageBytes)))
}

// linkPublish is Publish by link(2), which never replaces a file.
func linkPublish(temp, path string) error {
	err := os.Link(temp, path)
	return errors.Join(err, os.Remove(temp))
}
