package pmem

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	mmap "github.com/edsrzf/mmap-go"

	"pmemtable/internal/layout"
)

// backend is the memory of a pool and what keeps it.
type backend interface {
	memory() []byte                             // as long as the pool may grow
	sizeBytes() int64                           // of the file now
	grow(newBytes int64) error                  // reserves what it adds
	extend(newBytes int64) error                // by a hole, which nobody stores to before it is reserved
	reserve(off uint64, n int) error            // fills such a hole
	prefault(off, n uint64)                     // has pages mapped before they are stored to; only a hint
	punch(off uint64, n int) error              // makes a hole again, where that can be
	shrink(newBytes int64) error                // gives what is behind back; looking there stays harmless
	keepReadersOut() (unlock func(), err error) // of other processes; fails if some are there
	syncRange(off uint64, n int) error          // those bytes are durable, of whole pages
	sync() error                                // everything stored so far is durable
	close() error                               // releases the lock; the memory stays
	identity() identity                         // of the file and this boot
	writerLive() bool                           // another holds the writer's lock
	release() (unmap func())                    // what frees the memory once nobody can reach it, nil for nothing
	refresh() (int64, error)                    // size of a file that another process may have grown
	shared() (beside bool)                      // a read-only open may lie beside a writer
	description() (where string)                // for errors and Stats
}

// fileBackend is a mapped file.
type fileBackend struct {
	sys  System
	path string
	file *os.File
	mem  []byte

	mu     sync.Mutex // guards the rest, and every use of file but for sync
	closed bool
	dax    bool
	known  int64 // the file had at least so many bytes; 0 where others may cut it
	zeros  int64 // from here on the mapping is pages of zeros, 0: nowhere
}

func (b *fileBackend) memory() []byte      { return b.mem }
func (b *fileBackend) description() string { return b.path }
func (b *fileBackend) identity() identity  { return identify(b.file) }
func (b *fileBackend) writerLive() bool    { return writerLive(b.file) }
func (b *fileBackend) shared() bool        { return readsBesideWriter }

func (b *fileBackend) sizeBytes() int64 {
	size, _ := b.refresh()
	return size
}

func (b *fileBackend) refresh() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	st, err := b.file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (b *fileBackend) grow(newBytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	st, err := b.file.Stat()
	if err != nil {
		return err
	}
	if err := b.whole(st.Size()); err != nil { // extending it again would make zeros of what was cut off
		return err
	}
	if st.Size() < newBytes { // else a cut that failed left it longer
		if err := b.sys.Allocate(b.file, st.Size(), newBytes); err != nil {
			return err
		}
	}
	if b.zeros != 0 && newBytes > b.zeros {
		if err := b.sys.MapAgain(b.file, b.mem[b.zeros:], b.zeros, b.dax); err != nil {
			return errors.Join(err, b.file.Truncate(st.Size()))
		}
		b.zeros = 0
	}
	b.known = newBytes
	return nil
}

func (b *fileBackend) extend(newBytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known = newBytes
	return b.sys.Truncate(b.file, newBytes)
}

func (b *fileBackend) reserve(off uint64, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	return b.sys.Reserve(b.file, int64(off), int64(n))
}

func (b *fileBackend) prefault(off, n uint64) { prefault(b.mem[off : off+n]) }

func (b *fileBackend) punch(off uint64, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	return b.sys.Release(b.file, int64(off), int64(n))
}

func (b *fileBackend) shrink(newBytes int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	if err := b.sys.MapZeros(b.mem[newBytes:]); err != nil {
		return err
	}
	b.zeros, b.known = newBytes, newBytes
	return b.sys.Truncate(b.file, newBytes)
}

func (b *fileBackend) keepReadersOut() (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	return b.sys.KeepReadersOut(b.file)
}

func (b *fileBackend) syncRange(off uint64, n int) error {
	return b.syncError(b.sys.SyncRange(b.file, b.mem, int(off), n))
}

// write implements rangeWriter. Like sync it does not wait for a growth.
func (b *fileBackend) write(off uint64, src []byte) error {
	// Unlike a store, a write to a file that was cut off succeeds, and extends it. Nobody
	// uses the file's position. A Stat would tell the size too, but after one Linux gives
	// the file a new time at the next write, which then has the inode to journal.
	size, err := b.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size < int64(off)+int64(len(src)) {
		return b.cutOff(size)
	}
	return b.syncError(b.sys.WriteRange(b.file, b.mem, int(off), src))
}

func (b *fileBackend) syncError(err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "sync", Path: b.path, Err: err}
}

// sync does not hold the mutex: growth goes on meanwhile. Close waits for it by
// the table's own order.
func (b *fileBackend) sync() error {
	// msync and fdatasync of a file that was cut off succeed: look first.
	size, err := b.sizeUncut()
	if err != nil {
		return err
	}
	return b.syncError(b.sys.SyncData(b.file, b.mem[:min(int64(len(b.mem)), size)]))
}

// sizeUncut is the size of the file, which nobody has cut off.
func (b *fileBackend) sizeUncut() (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, ErrClosed
	}
	st, err := b.file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), b.whole(st.Size())
}

// whole tells whether a file of this size has all that this pool gave it.
func (b *fileBackend) whole(sizeBytes int64) error {
	if sizeBytes >= max(b.known, layout.PageBytes) || b.known == 0 {
		return nil
	}
	return b.cutOff(sizeBytes)
}

func (b *fileBackend) cutOff(sizeBytes int64) error {
	return &CorruptError{Path: b.path, Offset: uint64(sizeBytes), Object: "file",
		Reason: fmt.Sprintf("somebody cut it off at %d bytes", sizeBytes)}
}

func (b *fileBackend) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return errors.Join(b.sys.Unlock(b.file), b.file.Close())
}

func (b *fileBackend) release() func() {
	mem := mmap.MMap(b.mem)
	return func() { _ = mem.Unmap() }
}

// leastMapBytes is the smallest mapping that is tried when the default is too much.
const leastMapBytes = 1 << 30

// mapFile maps a locked file as opts ask and says what medium it lies on.
func mapFile(f *os.File, path string, opts Options) (b *fileBackend, medium Media, err error) {
	b = &fileBackend{sys: opts.System, path: path, file: f}
	medium, err = fileMedium(f)
	if err != nil && opts.Media == Auto {
		return nil, Auto, &os.PathError{Op: "open", Path: path, Err: err}
	}
	length, err := mapLength(f, opts)
	if err != nil {
		return nil, Auto, err
	}
	if !opts.ReadOnly {
		b.known = b.sizeBytes()
	}
	if opts.Media == Auto || opts.Media == DAX {
		err = b.mapBytes(length, opts, true)
		if err == nil && daxAllowed() {
			b.dax = true
			return b, DAX, nil
		}
		if err == nil {
			unmap := mmap.MMap(b.mem)
			_ = unmap.Unmap()
		} else if !errors.Is(err, errNotDAX) {
			return nil, Auto, &os.PathError{Op: "map", Path: path, Err: err}
		}
	}
	if err = b.mapBytes(length, opts, false); err != nil {
		return nil, Auto, &os.PathError{Op: "map", Path: path, Err: err}
	}
	return b, medium, nil
}

// mapBytes maps length bytes, or less where a limit on address space refuses
// them and the caller did not ask for this much.
func (b *fileBackend) mapBytes(length int64, opts Options, dax bool) (err error) {
	for attempt := 0; ; attempt++ {
		b.mem, err = opts.System.Map(b.file, length, opts.ReadOnly, dax)
		if err == nil || !errors.Is(err, syscall.ENOMEM) {
			return err
		}
		switch {
		case attempt == 0:
			unmapClosed()
		case opts.shrinkMap && length/2 >= max(leastMapBytes, b.sizeBytes()):
			length /= 2
		default:
			return fmt.Errorf("%d bytes of address space: %w", length, err)
		}
	}
}

// unmapClosed waits until the mappings of the pools that nobody can reach are
// gone. They go with the collector's cycles, and a program that opens and closes
// pools faster than those come could run out of address space.
func unmapClosed() {
	swept := make(chan struct{})
	runtime.AddCleanup(new([16]byte), func(swept chan struct{}) { close(swept) }, swept)
	runtime.GC()
	select {
	case <-swept:
	case <-time.After(time.Second):
	}
}

// mapLength is the size of the mapping: MaxSizeBytes, or the file's if that is more.
func mapLength(f *os.File, opts Options) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	length := max(opts.MaxSizeBytes, st.Size())
	if length > layout.MaxFileBytes {
		return 0, &CorruptError{Path: f.Name(), Object: "file", Reason: fmt.Sprintf("%d bytes are more than a pool can have", st.Size())}
	}
	if isWindows && opts.ReadOnly {
		length = st.Size()
	}
	return roundUp(length, layout.PageBytes), nil
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
