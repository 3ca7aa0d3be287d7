package stores

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

func init() { register("raw page", "", true, openRaw) }

// rawPage is no store: each Put dirties a page of a mapped file of 64 MiB, anywhere
// in it, and syncs the file. It is the least that any store with pages pays, with
// one writer, on the disk as it is at that moment.
type rawPage struct {
	mu   sync.Mutex
	file *os.File
	mem  []byte
	sync bool
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
	// The large writes left large folios in the page cache, and of such a one every
	// sync writes all: out with them.
	if err := unix.Fadvise(int(f.Fd()), 0, rawBytes, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, rawBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &rawPage{file: f, mem: mem, sync: c.Sync == Always}, unix.Madvise(mem, unix.MADV_RANDOM)
}

func (s *rawPage) Put(_, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.mem[rand.IntN(rawBytes/rawPageBytes)*rawPageBytes:], value)
	if !s.sync {
		return nil
	}
	return unix.Fdatasync(int(s.file.Fd()))
}

func (s *rawPage) Get(dst, _ []byte) ([]byte, error) { return dst, ErrNotFound }
func (s *rawPage) Delete([]byte) error               { return nil }

func (s *rawPage) Close() error {
	if err := unix.Munmap(s.mem); err != nil {
		return err
	}
	return s.file.Close()
}
