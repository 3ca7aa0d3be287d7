// Package safefile writes files that are there whole or not at all.
package safefile

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write makes a new file at path from what fill writes. The bytes go to a file
// aside, mode 0600 whatever the contents, for keys and values may be secrets.
// When they are all there and synced it gets its name. An existing file at
// path is refused with fs.ErrExist, at the start, so that no work is done in
// vain, and again at the end, in the one step that gives the name, so that a
// file that came in between is not lost. When fill fails nothing stays.
func Write(path string, fill func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return existError(path)
	}
	aside := filepath.Join(filepath.Dir(path), ".pmemctl-"+rand.Text()[:12]+".tmp")
	file, err := os.OpenFile(aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return asPath(err, path)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(aside)
		}
	}()
	buffer := bufio.NewWriterSize(file, 256<<10)
	if err := fill(buffer); err != nil {
		return err
	}
	if err := buffer.Flush(); err != nil {
		return asPath(err, path)
	}
	if err := file.Sync(); err != nil {
		return asPath(err, path)
	}
	if err := file.Close(); err != nil {
		return asPath(err, path)
	}
	if err := publish(aside, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func existError(path string) error {
	return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
}

// asPath speaks of the file that the user named instead of the one aside.
func asPath(err error, path string) error {
	if pathErr, ok := err.(*fs.PathError); ok {
		return &fs.PathError{Op: pathErr.Op, Path: path, Err: pathErr.Err}
	}
	return fmt.Errorf("%s: %w", path, err)
}

// publishByLink gives the file its name by link(2), which never replaces one.
// Some file systems have no links; there a check and a rename must do.
func publishByLink(aside, path string) error {
	err := os.Link(aside, path)
	if err == nil {
		return os.Remove(aside)
	}
	if _, statErr := os.Lstat(path); statErr == nil {
		return existError(path)
	}
	return os.Rename(aside, path)
}
