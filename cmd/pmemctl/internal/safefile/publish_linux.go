package safefile

import (
	"os"

	"golang.org/x/sys/unix"
)

// publish renames without replacing; file systems that cannot do that in one
// step say so, with several error numbers.
func publish(aside, path string) error {
	switch err := unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE); err {
	case nil:
		return nil
	case unix.EEXIST:
		return existError(path)
	}
	return publishByLink(aside, path)
}

// syncDirectory makes the name survive power loss, too.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
