package stores

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

func init() { register("raw page", "", true, openRaw) }

// rawPage is no store: each Put writes a page of a file of 64 MiB, anywhere in it, and
// makes it durable, by one call. It is the least that any store with pages pays, with
// one writer, on the disk as it is at that moment.
type rawPage struct {
	mu   sync.Mutex
	file *os.File
	page [rawPageBytes]byte
	flag int
}

const rawBytes, rawPageBytes = 64 << 20, 4096

func openRaw(c Config) (Store, error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, "raw"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(make([]byte, rawBytes), 0); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	// The large writes left large folios in the page cache: out with them.
	s := &rawPage{file: f}
	if c.Sync == Always {
		s.flag = unix.RWF_DSYNC
	}
	return s, unix.Fadvise(int(f.Fd()), 0, rawBytes, unix.FADV_DONTNEED)
}

func (s *rawPage) Put(_, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.page[:], value)
	at := int64(rand.IntN(rawBytes/rawPageBytes)) * rawPageBytes
	_, err := unix.Pwritev2(int(s.file.Fd()), [][]byte{s.page[:]}, at, s.flag)
	return err
}

func (s *rawPage) Get(dst, _ []byte) ([]byte, error) { return dst, ErrNotFound }
func (s *rawPage) Delete([]byte) error               { return nil }

func (s *rawPage) Close() error { return s.file.Close() }
