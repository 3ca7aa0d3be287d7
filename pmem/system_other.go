//go:build !linux

package pmem

import (
	"errors"
	"io/fs"
	"os"

	mmap "github.com/edsrzf/mmap-go"
)

// Allocate implements System: without fallocate only written zeros reserve space.
func (realSystem) Allocate(f *os.File, oldBytes, newBytes int64) error {
	return writeZeros(f, oldBytes, newBytes)
}

// Reserve implements System.
func (realSystem) Reserve(f *os.File, off, n int64) error { return fillZeros(f, off, n) }

// Release implements System: it keeps the space.
func (realSystem) Release(*os.File, int64, int64) error { return nil }

// Map implements System. There is no MAP_SYNC outside Linux.
func (realSystem) Map(f *os.File, lengthBytes int64, readOnly, daxOnly bool) ([]byte, error) {
	if daxOnly {
		return nil, errNotDAX
	}
	prot := mmap.RDWR
	if readOnly {
		prot = mmap.RDONLY
	}
	mem, err := mmap.MapRegion(f, int(lengthBytes), prot, 0, 0)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return mem, nil
}

// prefault is for Linux.
func prefault([]byte) {}

// SyncData implements System: msync (FlushViewOfFile) hands the dirty pages to
// the file, and File.Sync brings them to the medium (F_FULLFSYNC on macOS).
func (realSystem) SyncData(f *os.File, mem []byte) error {
	if len(mem) > 0 {
		if err := mmap.MMap(mem).Flush(); err != nil {
			return os.NewSyscallError("msync", err)
		}
	}
	return f.Sync()
}

// SyncDir implements System. Windows cannot open a directory for this.
func (realSystem) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) && !isWindows {
		return err
	}
	return nil
}

// Publish implements System.
func (realSystem) Publish(temp, path string) error { return linkPublish(temp, path) }

// KeepReadersOut implements System: where a file cannot shrink while it is open,
// there is no need.
func (realSystem) KeepReadersOut(*os.File) (func(), error) { return nil, errors.ErrUnsupported }

// SyncRange implements System.
func (s realSystem) SyncRange(f *os.File, mem []byte, _, _ int) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return s.SyncData(f, mem[:min(int64(len(mem)), st.Size())])
}

// WriteRange implements System.
func (s realSystem) WriteRange(f *os.File, mem []byte, off int, src []byte) error {
	return storeAndSync(s, f, mem, off, src)
}

// readsBesideWriter: without open-file-description locks it is refused.
const readsBesideWriter = false

func writerLive(*os.File) bool { return false }

func fileMedium(*os.File) (Media, error) { return PageCache, nil }
