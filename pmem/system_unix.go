//go:build unix && !linux

package pmem

import (
	"crypto/sha256"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const isWindows = false

// LockWriter implements System.
func (realSystem) LockWriter(f *os.File) error { return flock(f, unix.LOCK_EX) }

// LockReader implements System.
func (realSystem) LockReader(f *os.File) error { return flock(f, unix.LOCK_SH) }

// Unlock implements System.
func (realSystem) Unlock(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return errHeld
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

// identify takes the time of boot for a boot id where sysctl gives one; without
// it no open is ever "in the same boot", which costs a check and loses nothing.
func identify(f *os.File) identity {
	var id identity
	if st, err := f.Stat(); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			id.inode, id.dev = uint64(sys.Ino), uint64(sys.Dev)
		}
	}
	if boot, err := unix.SysctlRaw("kern.boottime"); err == nil && len(boot) > 0 {
		sum := sha256.Sum256(boot)
		copy(id.bootID[:], sum[:])
	}
	return id
}

func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
