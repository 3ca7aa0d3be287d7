package bitcask

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Errors. Those of the table behind the key directory and of the operating system come as
// they are, or wrapped.
var (
	// ErrNotFound: the key is not there.
	ErrNotFound = errors.New("bitcask: not found")
	// ErrTooLarge: a key or a value of more than MaxKeyBytes or MaxValueBytes.
	ErrTooLarge = errors.New("bitcask: too large")
	// ErrCorrupt: a file is damaged. The text says which, and where.
	ErrCorrupt = errors.New("bitcask: corrupt")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("bitcask: closed")
)

// maxPending is how many changes the key directory may be behind the log. They must fit
// one batch of the table.
const maxPending = 2000

// Options of a store; nil and the zero value are defaults.
type Options struct {
	// MaxFileBytes: a log that has reached it is followed by another. 0: 64 MiB.
	MaxFileBytes int64
	// GoMap keeps the key directory in a Go map, to compare with. A directory is for one
	// kind of key directory, and with this one it is not locked.
	GoMap bool
}

// Opening says what Open had to do.
type Opening struct {
	Replayed  int   // records that the key directory did not know
	TornBytes int64 // cut off from the end of the log
	Rebuilt   bool  // the key directory was made anew of all records
}

// Store is an open store. All its methods may be called from many goroutines.
type Store struct {
	dir     string
	options Options
	keys    keydir
	opening Opening

	merging sync.Mutex // held by Merge

	// writing is held by whoever appends, or changes the key directory. It comes before
	// mu, and covers the fields below up to it.
	writing  sync.Mutex
	active   *dataFile
	tail     int64  // of active
	sequence uint64 // of the last record
	nextID   uint32
	flushed  position // that the key directory has
	failed   error    // why nothing more may be written

	// mu is held for moments only. A key is in pending until the key directory has it.
	mu      sync.RWMutex
	pending map[string]change
	files   map[uint32]*dataFile
	closed  bool
}

// Opening returns what Open had to do.
func (s *Store) Opening() Opening { return s.opening }

// Get returns a copy of the value of key, or ErrNotFound. It reads the file once.
func (s *Store) Get(key []byte) ([]byte, error) {
	for {
		f, e, err := s.find(key)
		if err != nil {
			return nil, err
		}
		b := make([]byte, e.size)
		_, err = f.ReadAt(b, e.offset)
		if errors.Is(err, os.ErrClosed) {
			continue // a Merge has removed the file, or Close was called
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s at %d: %w", ErrCorrupt, f.Name(), e.offset, err)
		}
		r, intact := parseRecord(b)
		if !intact || r.sequence != e.sequence || !bytes.Equal(r.key, key) {
			return nil, fmt.Errorf("%w: %s at %d: not the record of the key", ErrCorrupt, f.Name(), e.offset)
		}
		return r.value, nil
	}
}

// find returns where the newest record of key is. While mu is held the files that the key
// directory points to exist.
func (s *Store) find(key []byte) (*dataFile, entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, entry{}, ErrClosed
	}
	e, ok, err := s.current(key)
	if err != nil {
		return nil, e, err
	}
	if !ok {
		return nil, e, ErrNotFound
	}
	f := s.files[e.file]
	if f == nil {
		return nil, e, fmt.Errorf("%w: file %d is missing", ErrCorrupt, e.file)
	}
	return f, e, nil
}

// current looks key up. mu is held.
func (s *Store) current(key []byte) (e entry, ok bool, err error) {
	if c, ok := s.pending[string(key)]; ok {
		return c.entry, !c.deleted, nil
	}
	return s.keys.get(key)
}

// Put stores value under key. It retains neither. When it returns, kill -9 does not lose
// it; power loss may, until Sync returns. After an error nothing was stored.
func (s *Store) Put(key, value []byte) error { return s.write(record{key: key, value: value}) }

// Delete removes key; it is no error if it is not there. It lasts as a Put does.
func (s *Store) Delete(key []byte) error { return s.write(record{key: key, deleted: true}) }

func (s *Store) write(r record) error {
	if len(r.key) > MaxKeyBytes || len(r.value) > MaxValueBytes {
		return fmt.Errorf("%w: a key of %d and a value of %d bytes", ErrTooLarge, len(r.key), len(r.value))
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.makeRoom(); err != nil {
		return err
	}
	r.sequence = s.sequence + 1
	b := appendRecord(nil, r)
	if _, err := s.active.WriteAt(b, s.tail); err != nil {
		if e := s.active.Truncate(s.tail); e != nil { // a torn record may only end the last log
			return s.fail(errors.Join(err, e))
		}
		return err
	}
	e := entry{file: s.active.id, size: uint32(len(b)), offset: s.tail, sequence: r.sequence}
	s.sequence, s.tail = r.sequence, s.tail+int64(len(b))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[string(r.key)] = change{entry: e, deleted: r.deleted}
	return nil
}

// makeRoom sees to it that a record can be appended.
func (s *Store) makeRoom() error {
	if err := s.writable(); err != nil {
		return err
	}
	if s.tail >= s.options.MaxFileBytes {
		return s.roll()
	}
	if len(s.pending) >= maxPending {
		return s.flush()
	}
	return nil
}

func (s *Store) writable() error {
	if s.closed {
		return ErrClosed
	}
	return s.failed
}

// flush brings the key directory up to the end of the log: the log first.
func (s *Store) flush() error {
	if err := s.active.Sync(); err != nil {
		return s.fail(err)
	}
	at := position{file: s.active.id, offset: s.tail, sequence: s.sequence}
	if err := s.keys.apply(s.pending, at); err != nil {
		return err
	}
	s.flushed = at
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = map[string]change{}
	return nil
}

// fail ends all writing. After a sync that failed the kernel may have dropped what it
// could not write, so a later one that succeeds would say nothing.
func (s *Store) fail(err error) error {
	s.failed = fmt.Errorf("bitcask: no more writes until it is opened anew: %w", err)
	return s.failed
}

// roll flushes, and goes on in a new log.
func (s *Store) roll() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.nextLog()
}

// nextLog makes a new log the active one.
func (s *Store) nextLog() error {
	f, err := createLog(s.dir, s.nextID)
	if err != nil {
		return err
	}
	s.active, s.tail = f, 0
	s.nextID++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[s.active.id] = s.active
	return nil
}

// Sync returns when all that was written before is durable.
func (s *Store) Sync() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.active.Sync(); err != nil {
		return s.fail(err)
	}
	return nil
}

// Close brings the key directory up to date and makes all durable. It is idempotent.
func (s *Store) Close() error {
	s.merging.Lock()
	defer s.merging.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return nil
	}
	err := s.failed
	if err == nil {
		err = s.flush()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, f := range s.files {
		_ = f.Close()
	}
	return errors.Join(err, s.keys.close())
}
