package pmem

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pmemtable/internal/layout"
)

// errAgain: the file at the path was replaced or taken by another between two
// steps of an open; the open begins anew.
var errAgain = errors.New("the file changed while it was being opened")

// How long a read-only open waits for the readers' lock.
const (
	readerLockTries = 40
	readerLockPause = 5 * time.Millisecond
)

// maxOpenAttempts bounds how often an open begins anew.
const maxOpenAttempts = 16

// Open opens the pool at path, or creates it unless opts.ReadOnly or
// opts.MustExist. It takes the writer's lock without waiting (ErrLocked), or the
// readers' when read-only, and checks the header (ErrNotPool, ErrVersion,
// ErrCorrupt). It does not choose a root or begin a session: that is recovery's.
// Errors of the operating system are wrapped and name the path.
func Open(path string, opts Options) (*Pool, error) {
	opts, err := opts.fill()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := checkByteOrder(); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	for range maxOpenAttempts {
		p, err := openExisting(path, opts)
		if errors.Is(err, fs.ErrNotExist) && !opts.ReadOnly && !opts.MustExist {
			p, err = create(path, opts)
			if errors.Is(err, fs.ErrExist) && !opts.MustCreate {
				continue // the loser of a race opens the winner's file
			}
		}
		if !errors.Is(err, errAgain) {
			return p, err
		}
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: errAgain}
}

func openExisting(path string, opts Options) (p *Pool, err error) {
	if opts.MustCreate {
		if _, err := os.Lstat(path); err == nil {
			return nil, &os.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	notRegular := &os.PathError{Op: "open", Path: path, Err: fmt.Errorf("%w: not a regular file", ErrNotPool)}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, notRegular // opening a FIFO would wait for its other end
	}
	flag := os.O_RDWR
	if opts.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := opts.System.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = opts.System.Unlock(f)
			_ = f.Close()
		}
	}()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, notRegular
	}
	if err := lockFor(f, path, opts); err != nil {
		return nil, err
	}
	if err := stillThere(f, path); err != nil {
		return nil, err
	}
	if err := precheck(f, path); err != nil {
		return nil, err
	}
	b, medium, err := mapFile(f, path, opts)
	if err != nil {
		return nil, err
	}
	p, err = newPool(b, medium, opts)
	if err != nil {
		return nil, err
	}
	if err := p.Guard(p.load); err != nil {
		return nil, err
	}
	return p, nil
}

// lockFor takes the lock that opts need.
func lockFor(f *os.File, path string, opts Options) error {
	lock := opts.System.LockWriter
	if opts.ReadOnly {
		lock = opts.System.LockReader
	}
	err := lock(f)
	for i := 0; i < readerLockTries && opts.ReadOnly && errors.Is(err, errHeld); i++ {
		time.Sleep(readerLockPause) // a writer that cuts its file off keeps readers out for a moment
		err = lock(f)
	}
	if errors.Is(err, errHeld) {
		return &os.PathError{Op: "lock", Path: path, Err: fmt.Errorf("%w%s", ErrLocked, ownerOf(f))}
	}
	if err != nil {
		return &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return nil
}

// ownerOf names the process that the session record names, if it can be read.
// (A lock of an open file description has no owner that the kernel would tell.)
func ownerOf(f *os.File) string {
	page := make([]byte, layout.PageBytes)
	var newest Session
	for _, at := range layout.DefaultGeometry().Regions().Session { // the same in every geometry
		if _, err := f.ReadAt(page, int64(at)); err != nil {
			continue
		}
		if s, ok := layout.DecodeSession(page); ok && s.Sequence > newest.Sequence {
			newest = s
		}
	}
	if newest.PID == 0 || newest.Clean != 0 {
		return " by another process that is just opening it"
	}
	return fmt.Sprintf(" by process %d", newest.PID)
}

// stillThere guards against a file that was unlinked or replaced between open and
// lock: its lock would exclude nobody.
func stillThere(f *os.File, path string) error {
	have, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(have, now) {
		return errAgain
	}
	return err
}

// precheck reads the header through the file, so that a foreign file is refused
// before anything is mapped.
func precheck(f *os.File, path string) error {
	page := make([]byte, layout.PageBytes)
	n, err := f.ReadAt(page, 0)
	if n < len(page) && err != nil && !isEOF(err) {
		return err
	}
	if _, err := layout.DecodeHeader(page[:n]); err != nil {
		return headerError(path, err)
	}
	return nil
}

// create makes a pool aside and gives it its name when it is whole and durable.
//
//  1. a file with a random name, exclusively, locked: nobody else knows it
//  2. header, empty superblock, clean session; synced. A crash up to here leaves
//     a file that nobody opens.
//  3. the name, unless it exists by now. A crash leaves the old or the new state.
//  4. the directory synced: the name survives power loss
func create(path string, opts Options) (p *Pool, err error) {
	var random [8]byte
	_, _ = rand.Read(random[:])
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	temp := filepath.Join(dir, "."+name+"."+hex.EncodeToString(random[:])+".tmp")
	f, err := opts.System.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, opts.FileMode)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: path, Err: unwrapPath(err)}
	}
	published := false
	defer func() {
		if err != nil {
			_ = opts.System.Unlock(f)
			_ = f.Close()
			if !published {
				_ = os.Remove(temp)
			}
		}
	}()
	if err := lockFor(f, path, opts); err != nil {
		return nil, err
	}
	b, medium, err := mapFile(f, path, opts)
	if err != nil {
		return nil, err
	}
	if p, err = newPool(b, medium, opts); err != nil {
		return nil, err
	}
	if err := p.format(opts.Geometry); err != nil {
		return nil, err
	}
	if err := opts.System.SyncData(f, b.mem[:p.size.Load()]); err != nil {
		return nil, &os.PathError{Op: "sync", Path: path, Err: err}
	}
	err = opts.System.Publish(temp, path)
	published = err == nil
	if err != nil {
		return nil, err
	}
	if err := opts.System.SyncDir(dir); err != nil {
		return nil, &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p, nil
}

func unwrapPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Publish gives the closed pool at temp the name path, unless path exists
// (fs.ErrExist): for pools that must appear whole or not at all. temp is gone
// afterwards in either case, and the new name is durable.
func Publish(temp, path string) error {
	var sys realSystem
	if err := sys.Publish(temp, path); err != nil {
		return err
	}
	return sys.SyncDir(filepath.Dir(path))
}
