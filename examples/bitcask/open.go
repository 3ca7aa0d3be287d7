package bitcask

import (
	"fmt"
	"os"
)

// Open opens the store in a directory, or creates it. With the key directory in a table
// it takes milliseconds whatever the number of keys; table.ErrLocked if another process
// has it open.
func Open(dir string, options *Options) (*Store, error) {
	s := &Store{dir: dir, pending: map[string]change{}, files: map[uint32]*dataFile{}, nextID: 1}
	if options != nil {
		s.options = *options
	}
	if s.options.MaxFileBytes == 0 {
		s.options.MaxFileBytes = 64 << 20
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if s.options.GoMap {
		s.keys = openMapKeydir(dir)
	} else {
		k, err := openTableKeydir(dir) // which locks the directory
		if err != nil {
			return nil, err
		}
		s.keys = k
	}
	if err := s.recover(); err != nil {
		for _, f := range s.files {
			_ = f.Close()
		}
		if !s.options.GoMap { // whose Close would write the hints of a whole store
			_ = s.keys.close()
		}
		return nil, err
	}
	return s, nil
}

// recover brings the files in order, and the key directory up to the end of the log.
func (s *Store) recover() error {
	if err := removeLeftovers(s.dir); err != nil {
		return err
	}
	files, err := openFiles(s.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		s.files[f.id] = f
		s.nextID = max(s.nextID, f.id+1)
	}
	if s.flushed, err = s.keys.load(); err != nil {
		return err
	}
	s.sequence = s.flushed.sequence
	s.opening.Rebuilt = s.flushed == (position{}) && len(files) > 0
	if err := s.checkPosition(); err != nil {
		return err
	}
	for i, f := range files {
		if err := s.replay(f, i == len(files)-1); err != nil {
			return err
		}
	}
	if s.active == nil || s.active.merged {
		if err := s.nextLog(); err != nil {
			return err
		}
	}
	if s.flushed == (position{}) { // so that the next Open need not read everything
		return s.flush()
	}
	return nil // what was learned stays pending, as it was before the crash
}

// checkPosition refuses a key directory that is ahead of the log.
func (s *Store) checkPosition() error {
	if s.flushed == (position{}) {
		return nil
	}
	var size int64
	f := s.files[s.flushed.file]
	if f != nil {
		var err error
		if size, err = f.size(); err != nil {
			return err
		}
	}
	if f == nil || f.merged || size < s.flushed.offset {
		return fmt.Errorf("%w: the key directory knows %s up to byte %d, which has %d: is it of an older copy? "+
			"Without the file of the key directory it is made anew",
			ErrCorrupt, fileName(s.flushed.file, logSuffix), s.flushed.offset, size)
	}
	return nil
}

// replay brings what f holds behind the position, or all of it, into the key directory.
// Only the last log may be torn: the others were synced before the next one began.
func (s *Store) replay(f *dataFile, last bool) error {
	from := int64(0)
	if !s.opening.Rebuilt {
		if f.merged || f.id < s.flushed.file {
			return nil
		}
		if f.id == s.flushed.file {
			from = s.flushed.offset
		}
	}
	end, err := f.size()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // before the key directory points to it
		return err
	}
	intact, err := scan(f, from, end, func(r record, offset int64) error { return s.learn(f, r, offset) })
	if err != nil {
		return err
	}
	if intact < end {
		if !last || f.merged {
			return fmt.Errorf("%w: %s at %d", ErrCorrupt, f.Name(), intact)
		}
		s.opening.TornBytes = end - intact
		if err := f.Truncate(intact); err != nil {
			return err
		}
	}
	s.active, s.tail = f, intact
	return nil
}

// learn brings one record into the key directory. Where all records are read, those of
// one key may come twice or out of order from a Merge that was killed; the sequence
// number decides. A deletion comes behind all that it deletes.
func (s *Store) learn(f *dataFile, r record, offset int64) error {
	s.opening.Replayed++
	s.sequence = max(s.sequence, r.sequence)
	if s.opening.Rebuilt {
		if e, ok, err := s.current(r.key); err != nil || ok && e.sequence >= r.sequence {
			return err
		}
	}
	size := headerBytes + len(r.key) + len(r.value)
	s.pending[string(r.key)] = change{deleted: r.deleted,
		entry: entry{file: f.id, size: uint32(size), offset: offset, sequence: r.sequence}}
	if len(s.pending) < maxPending {
		return nil
	}
	var at position // none until all is known
	if !s.opening.Rebuilt {
		at = position{file: f.id, offset: offset + int64(size), sequence: s.sequence}
	}
	if err := s.keys.apply(s.pending, at); err != nil {
		return err
	}
	clear(s.pending)
	return nil
}
