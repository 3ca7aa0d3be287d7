package bitcask

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// dataFile is a log or what a Merge made. Logs and merged files are numbered together.
type dataFile struct {
	*os.File
	id     uint32
	merged bool
}

const (
	logSuffix    = ".log"
	mergedSuffix = ".merged"
	tmpSuffix    = ".tmp"
	mergeName    = "MERGE"
)

func fileName(id uint32, suffix string) string { return fmt.Sprintf("%08d%s", id, suffix) }

// parseName is the inverse of fileName; ok is false for other files.
func parseName(name string) (id uint32, merged, ok bool) {
	stem, suffix := strings.TrimSuffix(name, filepath.Ext(name)), filepath.Ext(name)
	_, err := fmt.Sscanf(stem, "%d", &id)
	ok = err == nil && id > 0 && (suffix == logSuffix || suffix == mergedSuffix) && name == fileName(id, suffix)
	return id, suffix == mergedSuffix, ok
}

// openFiles opens all data files of a directory, in the order in which they may be read
// to make the key directory anew: the merged ones first, since logs may have deletions of
// what is in them.
func openFiles(dir string) (files []*dataFile, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		id, merged, ok := parseName(e.Name())
		if !ok {
			continue
		}
		f, err := openFile(filepath.Join(dir, e.Name()), id, merged)
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b *dataFile) int {
		if a.merged != b.merged {
			if a.merged {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.id, b.id)
	})
	return files, nil
}

func openFile(path string, id uint32, merged bool) (*dataFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &dataFile{File: f, id: id, merged: merged}, nil
}

// createLog makes a new log, whose name is durable.
func createLog(dir string, id uint32) (*dataFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, fileName(id, logSuffix)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return &dataFile{File: f, id: id}, nil
}

func closeFiles(files []*dataFile) {
	for _, f := range files {
		_ = f.Close() // what was to be kept has been synced
	}
}

func (f *dataFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writeFile makes a file of what fn writes, all or nothing, and durable.
func writeFile(path string, fn func(io.Writer) error) error {
	f, err := os.Create(path + tmpSuffix)
	if err != nil {
		return err
	}
	err = errors.Join(fn(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+tmpSuffix, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+tmpSuffix))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // cannot
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeLeftovers ends what a kill interrupted: files that were not whole go, and so do
// the inputs of a Merge that had come to its end.
func removeLeftovers(dir string) error {
	tmp, err := filepath.Glob(filepath.Join(dir, "*"+tmpSuffix))
	if err != nil {
		return err
	}
	for _, path := range tmp {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	list, err := os.ReadFile(filepath.Join(dir, mergeName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeMerged(dir, strings.Fields(string(list)))
}

// removeMerged removes the inputs of a Merge, and then the list of them.
func removeMerged(dir string, names []string) error {
	for _, name := range names {
		if _, _, ok := parseName(name); !ok {
			return fmt.Errorf("%w: %s lists %q", ErrCorrupt, mergeName, name)
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, mergeName)); err != nil {
		return err
	}
	return syncDir(dir)
}
