package pmem

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const isWindows = true

// LockWriter implements System.
func (realSystem) LockWriter(f *os.File) error {
	return lockFile(f, windows.LOCKFILE_EXCLUSIVE_LOCK)
}

// LockReader implements System.
func (realSystem) LockReader(f *os.File) error { return lockFile(f, 0) }

// Unlock implements System.
func (realSystem) Unlock(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	return os.NewSyscallError("UnlockFileEx", windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &at))
}

func lockFile(f *os.File, flags uint32) error {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errHeld
	}
	return os.NewSyscallError("LockFileEx", err)
}

// identify gives no boot id: every unclean open checks the whole file first.
func identify(f *os.File) identity {
	var info windows.ByHandleFileInformation
	if windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info) != nil {
		return identity{}
	}
	return identity{
		inode: uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
		dev:   uint64(info.VolumeSerialNumber),
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
