package pmem

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	mmap "github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

const isWindows = false

// Allocate implements System.
func (realSystem) Allocate(f *os.File, oldBytes, newBytes int64) error {
	err := fallocate(f, oldBytes, newBytes-oldBytes)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		return writeZeros(f, oldBytes, newBytes)
	}
	// ext4 keeps what it had reserved before it ran out.
	return errors.Join(err, f.Truncate(oldBytes))
}

// Reserve implements System. Where fallocate is not supported, zeros that are
// stored later do as much.
func (realSystem) Reserve(f *os.File, off, n int64) error {
	if err := fallocate(f, off, n); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return fillZeros(f, off, n)
}

// Release implements System.
func (realSystem) Release(f *os.File, off, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	return os.NewSyscallError("fallocate", err)
}

// fallocate reserves the space of n bytes from off; errors.ErrUnsupported where the
// file system cannot.
func fallocate(f *os.File, off, n int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, off, n); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fallocate", err)
		}
	}
}

// Map implements System. mmap-go has no MAP_SHARED_VALIDATE, without which the
// kernel ignores MAP_SYNC, so that one mapping is made here.
func (realSystem) Map(f *os.File, lengthBytes int64, readOnly, daxOnly bool) ([]byte, error) {
	if daxOnly {
		prot := unix.PROT_READ
		if !readOnly {
			prot |= unix.PROT_WRITE
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, int(lengthBytes), prot, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			return nil, errNotDAX
		}
		return mem, os.NewSyscallError("mmap", err)
	}
	prot := mmap.RDWR
	if readOnly {
		prot = mmap.RDONLY
	}
	mem, err := mmap.MapRegion(f, int(lengthBytes), prot, 0, 0)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// A large folio makes the write-back of one dirty page write up to 1 MiB, and
	// a hash table's accesses are random anyway. Advice: failure is no error.
	_ = unix.Madvise(mem, unix.MADV_RANDOM)
	return mem, nil
}

// prefault has the pages of mem mapped for writing. Kernels before 5.14 do not know how;
// then they are mapped one by one, by who stores to them.
func prefault(mem []byte) { _ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE) }

// SyncData implements System: on Linux, fdatasync writes the pages that were
// dirtied through a shared mapping too, and a changed size.
func (realSystem) SyncData(f *os.File, _ []byte) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// SyncRange implements System.
func (realSystem) SyncRange(_ *os.File, mem []byte, off, n int) error {
	for {
		if err := unix.Msync(mem[off:off+n], unix.MS_SYNC); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("msync", err)
		}
	}
}

// WriteRange implements System by a synchronous write: the page cache is the one that
// the mapping shows, and where the pages were durable before, the store costs no fault
// and their sync no second call. Kernels and file systems without it get the two steps.
func (s realSystem) WriteRange(f *os.File, mem []byte, off int, src []byte) error {
	rest, at := src, int64(off)
	for len(rest) > 0 {
		n, err := unix.Pwritev2(int(f.Fd()), [][]byte{rest}, at, unix.RWF_DSYNC)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			return storeAndSync(s, f, mem, off, src)
		case err != nil:
			return os.NewSyscallError("pwritev2", err)
		case n == 0:
			return os.NewSyscallError("pwritev2", unix.EIO)
		}
		rest, at = rest[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

// SyncDir implements System.
func (realSystem) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Publish implements System.
func (realSystem) Publish(temp, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return errors.Join(&os.LinkError{Op: "rename", Old: temp, New: path, Err: err}, os.Remove(temp))
	}
	return linkPublish(temp, path)
}

// The two locks are open-file-description locks on bytes far behind any data.
// Locks of a process (fcntl's old kind) are lost when any descriptor of the file
// is closed anywhere in the process.
const (
	writerLockByte = 1 << 62
	readerLockByte = writerLockByte + 1
)

// LockWriter implements System.
func (realSystem) LockWriter(f *os.File) error { return ofdLock(f, unix.F_WRLCK, writerLockByte) }

// LockReader implements System.
func (realSystem) LockReader(f *os.File) error { return ofdLock(f, unix.F_RDLCK, readerLockByte) }

// KeepReadersOut implements System.
func (realSystem) KeepReadersOut(f *os.File) (func(), error) {
	if err := ofdLock(f, unix.F_WRLCK, readerLockByte); err != nil {
		return nil, err
	}
	return func() { _ = ofdLock(f, unix.F_UNLCK, readerLockByte) }, nil
}

// Unlock implements System.
func (realSystem) Unlock(f *os.File) error {
	return errors.Join(ofdLock(f, unix.F_UNLCK, writerLockByte), ofdLock(f, unix.F_UNLCK, readerLockByte))
}

func ofdLock(f *os.File, kind int16, at int64) error {
	l := unix.Flock_t{Type: kind, Start: at, Len: 1}
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
			return errHeld
		default:
			return os.NewSyscallError("fcntl", err)
		}
	}
}

// writerLive tells whether some descriptor holds the writer's lock.
func writerLive(f *os.File) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: writerLockByte, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l)
	return err == nil && l.Type != unix.F_UNLCK
}

// readsBesideWriter: a read-only open may share the file with a writer.
const readsBesideWriter = true

// File systems on which the promises do not hold: other machines change the file
// behind the mapping, or write-back errors and order are a server's affair.
var remoteFileSystems = map[int64]string{
	0x6969: "NFS", 0x517b: "SMB", 0xfe534d42: "SMB2", 0xff534d42: "CIFS", 0x65735546: "FUSE",
	0x01021997: "9P", 0x5346414f: "AFS", 0x00c36400: "Ceph", 0x0bd00bd0: "Lustre", 0x01161970: "GFS2", 0x7461636f: "OCFS2",
}

// fileMedium tells tmpfs from a file system with a page cache, and refuses those
// that can keep no promise.
func fileMedium(f *os.File) (Media, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return Auto, os.NewSyscallError("fstatfs", err)
	}
	kind := int64(uint32(st.Type))
	if name, ok := remoteFileSystems[kind]; ok {
		return Auto, fmt.Errorf("%w: the file lies on %s, whose mappings keep no promise (Options.Media forces it)", ErrMedium, name)
	}
	if kind == unix.TMPFS_MAGIC || kind == unix.HUGETLBFS_MAGIC || kind == unix.RAMFS_MAGIC {
		return Tmpfs, nil
	}
	return PageCache, nil
}

// identify reads the identity of an open file and of this boot.
func identify(f *os.File) identity {
	var id identity
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err == nil {
		id.inode = st.Ino
		if st.Mask&unix.STATX_BTIME != 0 {
			id.birthSec, id.birthNsec = st.Btime.Sec, st.Btime.Nsec
		}
		// Major 0 numbers are handed out anew at every mount.
		if st.Dev_major != 0 {
			id.dev = uint64(st.Dev_major)<<32 | uint64(st.Dev_minor)
		}
	}
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
		if err == nil && len(raw) == len(id.bootID) {
			copy(id.bootID[:], raw)
		}
	}
	return id
}

// isNoSpace tells a full medium, quota or limit from other failures of Allocate.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
