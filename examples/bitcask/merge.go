package bitcask

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Merge gives back the space of what was overwritten and deleted, while others read and
// write: it copies what is live of all files but the log that is written to. Its time
// grows with them; it needs room for the copy. doc.go has its steps.
func (s *Store) Merge() error {
	s.merging.Lock()
	defer s.merging.Unlock()
	inputs, err := s.seal()
	if err != nil {
		return err
	}
	for i := 0; i < len(inputs); {
		output, next, err := s.copyLive(inputs, i)
		if err != nil {
			return err
		}
		if err := s.relocate(output); err != nil {
			return err
		}
		i = next
	}
	return s.dropInputs(inputs)
}

// seal rolls the log and returns all files before the new one. From here on the position
// of the key directory is in it, so that no input is needed to replay.
func (s *Store) seal() (inputs []*dataFile, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.writable(); err != nil {
		return nil, err
	}
	if err := s.roll(); err != nil {
		return nil, err
	}
	s.flushed = position{file: s.active.id, sequence: s.sequence}
	for _, f := range s.files {
		if f != s.active {
			inputs = append(inputs, f)
		}
	}
	slices.SortFunc(inputs, func(a, b *dataFile) int { return int(a.id) - int(b.id) })
	return inputs, nil
}

// copyLive copies the live records of as many inputs, from the first one on, as fill a
// file, and returns it and the next input; it is a whole file and durable.
func (s *Store) copyLive(inputs []*dataFile, first int) (output *dataFile, next int, err error) {
	s.writing.Lock()
	id := s.nextID
	s.nextID++
	s.writing.Unlock()
	path := s.path(fileName(id, mergedSuffix))
	written := int64(0)
	err = writeFile(path, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<18)
		for next = first; next < len(inputs) && written < s.options.MaxFileBytes; next++ {
			n, err := s.copyFile(out, inputs[next])
			if err != nil {
				return err
			}
			written += n
		}
		return out.Flush()
	})
	if err != nil {
		return nil, 0, err
	}
	output, err = openFile(path, id, true)
	return output, next, err
}

func (s *Store) copyFile(out *bufio.Writer, in *dataFile) (written int64, err error) {
	end, err := in.size()
	if err != nil {
		return 0, err
	}
	var buf []byte
	intact, err := scan(in, 0, end, func(r record, offset int64) error {
		e, ok, err := s.keys.get(r.key)
		if err != nil || !ok || e.file != in.id || e.offset != offset {
			return err
		}
		buf = appendRecord(buf[:0], r)
		written += int64(len(buf))
		_, err = out.Write(buf)
		return err
	})
	if err == nil && intact < end {
		err = fmt.Errorf("%w: %s at %d", ErrCorrupt, in.Name(), intact)
	}
	return written, err
}

// relocate points the key directory to the records of a merged file.
func (s *Store) relocate(output *dataFile) error {
	s.mu.Lock()
	s.files[output.id] = output
	s.mu.Unlock()
	end, err := output.size()
	if err != nil {
		return err
	}
	copies := map[string]change{}
	_, err = scan(output, 0, end, func(r record, offset int64) error {
		size := headerBytes + len(r.key) + len(r.value)
		copies[string(r.key)] = change{entry: entry{file: output.id, size: uint32(size), offset: offset, sequence: r.sequence}}
		if len(copies) < maxPending {
			return nil
		}
		defer clear(copies)
		return s.applyCopies(copies)
	})
	if err != nil {
		return err
	}
	return s.applyCopies(copies)
}

// applyCopies leaves out what has another record by now: nobody else changes the key
// directory meanwhile.
func (s *Store) applyCopies(copies map[string]change) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for key, c := range copies {
		e, ok, err := s.keys.get([]byte(key))
		if err != nil {
			return err
		}
		if !ok || e.sequence != c.sequence {
			delete(copies, key)
		}
	}
	return s.keys.apply(copies, s.flushed)
}

// dropInputs removes files that the key directory does not point to any more: durably
// so, before they go.
func (s *Store) dropInputs(inputs []*dataFile) error {
	if err := s.keys.sync(); err != nil {
		return err
	}
	var names []string
	for _, f := range inputs {
		names = append(names, filepath.Base(f.Name()))
	}
	err := writeFile(s.path(mergeName), func(w io.Writer) error {
		for _, name := range names {
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	for _, f := range inputs {
		delete(s.files, f.id)
	}
	s.mu.Unlock()
	closeFiles(inputs) // a Get that reads there looks the key up again
	if err := removeMerged(s.dir, names); err != nil {
		s.writing.Lock()
		defer s.writing.Unlock()
		return s.fail(err) // the next Open removes them; another Merge would forget them
	}
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }
