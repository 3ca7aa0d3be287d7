package bitcask

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// mapKeydir is a key directory in a Go map, as the first Bitcask has it, to compare with:
// Close writes it to a file of hints, which Open reads, and removes, since it would be
// wrong after a crash. After a crash all records are read.
type mapKeydir struct {
	path string
	at   position

	mu      sync.RWMutex
	entries map[string]entry
}

func openMapKeydir(dir string) *mapKeydir {
	return &mapKeydir{path: filepath.Join(dir, "keydir.hint"), entries: map[string]entry{}}
}

// The file of hints is a sequence of records, whose values are entries; the last one has
// no key and the position.
func (k *mapKeydir) load() (position, error) {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, nil
	}
	if err != nil {
		return position{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return position{}, err
	}
	end, err := scan(f, 0, info.Size(), func(r record, _ int64) error {
		e, err := decodeEntry(r.value)
		if r.deleted {
			k.at = position(e)
		} else {
			k.entries[string(r.key)] = e
		}
		return err
	})
	if err == nil && (end != info.Size() || k.at == (position{})) {
		err = fmt.Errorf("%w: %s at %d (without this file the key directory is made anew)", ErrCorrupt, k.path, end)
	}
	if err != nil {
		return position{}, err
	}
	return k.at, os.Remove(k.path)
}

func (k *mapKeydir) get(key []byte) (entry, bool, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	e, ok := k.entries[string(key)]
	return e, ok, nil
}

func (k *mapKeydir) apply(changes map[string]change, at position) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, c := range changes {
		if c.deleted {
			delete(k.entries, key)
		} else {
			k.entries[key] = c.entry
		}
	}
	if at != (position{}) {
		k.at = at
	}
	return nil
}

func (k *mapKeydir) sync() error { return nil }

func (k *mapKeydir) close() error {
	return writeFile(k.path, func(w io.Writer) error {
		out := bufio.NewWriter(w)
		var buf []byte
		for key, e := range k.entries {
			buf = appendRecord(buf[:0], record{key: []byte(key), value: e.encode()})
			if _, err := out.Write(buf); err != nil {
				return err
			}
		}
		buf = appendRecord(buf[:0], record{value: entry(k.at).encode(), deleted: true})
		if _, err := out.Write(buf); err != nil {
			return err
		}
		return out.Flush()
	})
}
