package pmem_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// The failures looked for here: an open that takes a file for what it is not,
// says nothing of what is wrong with it or where, leaves something behind when it
// fails, or shares a file with another writer.

var smallGeometry = pmem.Geometry{Stripes: 2, ChunkBytes: 4096, SegmentBytes: 512, IntentBytes: 4096, LogBytes: 4096}

// small are the options of a small pool in a file.
func small() pmem.Options {
	return pmem.Options{Geometry: smallGeometry, MaxSizeBytes: 1 << 20}
}

// faulty is the operating system with some calls replaced.
type faulty struct {
	pmem.System
	openFile   func(name string, flag int, perm os.FileMode) (*os.File, error)
	allocate   func(f *os.File, from, to int64) error
	mapFile    func(f *os.File, n int64, readOnly, daxOnly bool) ([]byte, error)
	syncData   func(f *os.File, mem []byte) error
	syncDir    func(dir string) error
	publish    func(temp, path string) error
	lockWriter func(f *os.File) error
}

func real() pmem.System { return pmem.RealSystem() }

func (s *faulty) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	if s.openFile != nil {
		return s.openFile(name, flag, perm)
	}
	return real().OpenFile(name, flag, perm)
}

func (s *faulty) Allocate(f *os.File, from, to int64) error {
	if s.allocate != nil {
		return s.allocate(f, from, to)
	}
	return real().Allocate(f, from, to)
}

func (s *faulty) Map(f *os.File, n int64, readOnly, daxOnly bool) ([]byte, error) {
	if s.mapFile != nil {
		return s.mapFile(f, n, readOnly, daxOnly)
	}
	return real().Map(f, n, readOnly, daxOnly)
}

func (s *faulty) SyncData(f *os.File, mem []byte) error {
	if s.syncData != nil {
		return s.syncData(f, mem)
	}
	return real().SyncData(f, mem)
}

func (s *faulty) SyncDir(dir string) error {
	if s.syncDir != nil {
		return s.syncDir(dir)
	}
	return real().SyncDir(dir)
}

func (s *faulty) Publish(temp, path string) error {
	if s.publish != nil {
		return s.publish(temp, path)
	}
	return real().Publish(temp, path)
}

func (s *faulty) LockWriter(f *os.File) error {
	if s.lockWriter != nil {
		return s.lockWriter(f)
	}
	return real().LockWriter(f)
}

func newFaulty() *faulty { return &faulty{System: real()} }

// only asserts that a directory holds just the files named.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.ElementsMatch(t, want, names)
}

func TestCreateAndOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pool")
	for _, o := range []pmem.Options{{MustExist: true}, {ReadOnly: true}} {
		_, err := pmem.Open(path, o)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, path)
		only(t, dir)
	}
	o := small()
	o.MustCreate = true
	p, err := pmem.Open(path, o)
	require.NoError(t, err)
	only(t, dir, "pool")
	require.Equal(t, smallGeometry, p.Geometry())
	require.Equal(t, path, p.Path())
	require.EqualValues(t, 1<<20, p.MaxSizeBytes())
	require.EqualValues(t, 1, p.Previous().Clean, "a new pool is a closed one")
	uuid := p.Header().UUID
	require.NotZero(t, uuid)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())

	_, err = pmem.Open(path, o)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, path)

	o = pmem.Options{Geometry: pmem.DefaultGeometry(), MaxSizeBytes: 1 << 30, MustExist: true}
	p, err = pmem.Open(path, o)
	require.NoError(t, err)
	require.Equal(t, smallGeometry, p.Geometry(), "what exists keeps its own")
	require.EqualValues(t, 1<<30, p.MaxSizeBytes())
	require.Equal(t, uuid, p.Header().UUID)
	require.NoError(t, p.Close())

	// A maximum below the size of the file is raised to it.
	p, err = pmem.Open(path, pmem.Options{MaxSizeBytes: 4096})
	require.NoError(t, err)
	require.GreaterOrEqual(t, p.MaxSizeBytes(), int64(p.SizeBytes()))
	p.Sweep(p.NewMarks())
	_, err = p.Alloc(100, 0, pmem.Urgent)
	require.NoError(t, err)
	require.NoError(t, p.Close())
}

func TestCreationThatFailsLeavesNothing(t *testing.T) {
	cause := errors.New("the cause")
	for name, plant := range map[string]func(s *faulty){
		"open":     func(s *faulty) { s.openFile = denyCreation(cause) },
		"lock":     func(s *faulty) { s.lockWriter = func(*os.File) error { return cause } },
		"allocate": func(s *faulty) { s.allocate = func(*os.File, int64, int64) error { return cause } },
		"map":      func(s *faulty) { s.mapFile = func(*os.File, int64, bool, bool) ([]byte, error) { return nil, cause } },
		"sync":     func(s *faulty) { s.syncData = func(*os.File, []byte) error { return cause } },
		"publish": func(s *faulty) {
			s.publish = func(temp, path string) error { return errors.Join(cause, os.Remove(temp)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, sys := t.TempDir(), newFaulty()
			plant(sys)
			o := small()
			o.System, o.Media = sys, pmem.PageCache
			path := filepath.Join(dir, "pool")
			_, err := pmem.Open(path, o)
			require.ErrorIs(t, err, cause)
			if name != "publish" {
				require.ErrorContains(t, err, path)
			}
			only(t, dir)
		})
	}
	t.Run("directory sync", func(t *testing.T) {
		// The file has its name by then: the error says that it may not keep it.
		dir, sys := t.TempDir(), newFaulty()
		sys.syncDir = func(string) error { return cause }
		o := small()
		o.System = sys
		_, err := pmem.Open(filepath.Join(dir, "pool"), o)
		require.ErrorIs(t, err, cause)
		require.ErrorContains(t, err, dir)
		only(t, dir, "pool")
		p, err := pmem.Open(filepath.Join(dir, "pool"), small())
		require.NoError(t, err)
		require.NoError(t, p.Close())
	})
}

func denyCreation(cause error) func(string, int, os.FileMode) (*os.File, error) {
	return func(name string, flag int, perm os.FileMode) (*os.File, error) {
		if flag&os.O_CREATE != 0 {
			return nil, &os.PathError{Op: "open", Path: name, Err: cause}
		}
		return os.OpenFile(name, flag, perm)
	}
}

// TestOperatingSystemsErrors: they come wrapped, with the path that was asked for.
func TestOperatingSystemsErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing", "pool")
	_, err := pmem.Open(missing, small())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, missing)

	path := filepath.Join(dir, "pool")
	for _, o := range []pmem.Options{{}, {ReadOnly: true}} {
		sys := newFaulty()
		sys.openFile = func(name string, _ int, _ os.FileMode) (*os.File, error) {
			return nil, &os.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		o.System = sys
		_, err = pmem.Open(path, o)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, path)
	}
	only(t, dir)

	if os.Getuid() <= 0 {
		return // root may do everything, Windows has no such bits
	}
	p, err := pmem.Open(path, small())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, os.Chmod(path, 0o400))
	_, err = pmem.Open(path, small())
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, path)
	p, err = pmem.Open(path, pmem.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, p.Close())
	require.NoError(t, os.Chmod(dir, 0o500))
	_, err = pmem.Open(filepath.Join(dir, "other"), small())
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NoError(t, os.Chmod(dir, 0o700))
}

// TestLostCreationRace: between the look and the publication another one created
// the pool. The loser opens the winner's.
func TestLostCreationRace(t *testing.T) {
	for _, held := range []bool{false, true} {
		for _, mustCreate := range []bool{false, true} {
			t.Run(fmt.Sprintf("held %v, must create %v", held, mustCreate), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "pool")
				var winner *pmem.Pool
				sys := newFaulty()
				sys.publish = func(temp, path string) error {
					var err error
					winner, err = pmem.Open(path, small())
					require.NoError(t, err)
					if !held {
						require.NoError(t, winner.Close())
					}
					return real().Publish(temp, path)
				}
				o := small()
				o.System, o.MustCreate = sys, mustCreate
				p, err := pmem.Open(path, o)
				switch {
				case mustCreate:
					require.ErrorIs(t, err, fs.ErrExist)
				case held:
					require.ErrorIs(t, err, pmem.ErrLocked)
				default:
					require.NoError(t, err)
					require.Equal(t, winner.Header().UUID, p.Header().UUID)
					require.NoError(t, p.Close())
				}
				only(t, dir, "pool")
				require.NoError(t, winner.Close())
			})
		}
	}
}

// TestManyCreate: of many that open a path at the same time, each gets the one
// pool or ErrLocked.
func TestManyCreate(t *testing.T) {
	for range 10 {
		dir := t.TempDir()
		path := filepath.Join(dir, "pool")
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			uuids [][16]byte
		)
		for range 8 {
			wg.Go(func() {
				p, err := pmem.Open(path, small())
				if err != nil {
					assert.ErrorIs(t, err, pmem.ErrLocked)
					return
				}
				mu.Lock()
				uuids = append(uuids, p.Header().UUID)
				mu.Unlock()
				assert.NoError(t, p.Close())
			})
		}
		wg.Wait()
		require.NotEmpty(t, uuids)
		require.Len(t, slices.Compact(uuids), 1, "two pools were created")
		only(t, dir, "pool")
	}
}

// TestReplacedBetweenOpenAndLock: the lock of a file that has lost its name
// excludes nobody.
func TestReplacedBetweenOpenAndLock(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "pool"), filepath.Join(dir, "other")
	var uuids [][16]byte
	for _, name := range []string{path, other} {
		p, err := pmem.Open(name, small())
		require.NoError(t, err)
		uuids = append(uuids, p.Header().UUID)
		require.NoError(t, p.Close())
	}
	sys := newFaulty()
	times := 0
	sys.lockWriter = func(f *os.File) error {
		if times++; times == 1 {
			require.NoError(t, os.Rename(other, path))
		}
		return real().LockWriter(f)
	}
	o := small()
	o.System = sys
	p, err := pmem.Open(path, o)
	require.NoError(t, err)
	require.Equal(t, 2, times)
	require.Equal(t, uuids[1], p.Header().UUID)
	require.NoError(t, p.Close())

	// Unlinked: a new one is created, which the old one's lock does not hold up.
	times = 0
	sys.lockWriter = func(f *os.File) error {
		if times++; times == 1 {
			require.NoError(t, os.Remove(path))
		}
		return real().LockWriter(f)
	}
	p, err = pmem.Open(path, o)
	require.NoError(t, err)
	require.NotContains(t, uuids, p.Header().UUID)
	require.NoError(t, p.Close())
	only(t, dir, "pool")

	// Replaced again and again: an error, in the end.
	sys.lockWriter = func(f *os.File) error {
		require.NoError(t, os.WriteFile(other, image(t, path), 0o600))
		require.NoError(t, os.Rename(other, path))
		return real().LockWriter(f)
	}
	_, err = pmem.Open(path, o)
	require.ErrorContains(t, err, path)
	only(t, dir, "pool")
}

func image(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool")
	p, err := pmem.Open(path, small())
	require.NoError(t, err)
	for range 3 {
		_, err = pmem.Open(path, small())
		require.ErrorIs(t, err, pmem.ErrLocked)
		require.ErrorContains(t, err, path)
	}
	require.NoError(t, p.Close())
	p, err = pmem.Open(path, small())
	require.NoError(t, err, "the attempts that failed have left no lock")
	require.NoError(t, p.Close())
}

// recrc gives a header page the checksum of what it holds.
func recrc(page []byte, order binary.ByteOrder) []byte {
	order.PutUint32(page[4092:], crc32.Checksum(page[:4092], layout.Castagnoli))
	return page
}

// TestHeaderIsNotOurs: every way in which a file is not one that this program can
// open has its own error, for writing and read-only.
func TestHeaderIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pool")
	p, err := pmem.Open(path, small())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	whole := image(t, path)

	with := func(change func(page []byte)) []byte {
		b := slices.Clone(whole)
		change(b[:4096])
		return b
	}
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":                  {nil, pmem.ErrNotPool},
		"a byte":                 {[]byte("x"), pmem.ErrNotPool},
		"text":                   {[]byte("#!/bin/sh\necho\n"), pmem.ErrNotPool},
		"a page of text":         {[]byte(fmt.Sprintf("%5000d", 1)), pmem.ErrNotPool},
		"zeros":                  {make([]byte, len(whole)), pmem.ErrNotPool},
		"cut in the magic":       {whole[:7], pmem.ErrNotPool},
		"cut after the magic":    {whole[:8], pmem.ErrCorrupt},
		"cut in the header":      {whole[:4095], pmem.ErrCorrupt},
		"nothing but a header":   {whole[:4096], pmem.ErrCorrupt},
		"cut before the arena":   {whole[:p.Regions().Arena-1], pmem.ErrCorrupt},
		"text mode transfer":     {with(func(b []byte) { b[5], b[6] = '\n', 0x96 }), pmem.ErrNotPool},
		"newer version":          {with(func(b []byte) { le.PutUint32(b[12:], layout.FormatVersion+1); recrc(b, le) }), pmem.ErrVersion},
		"older version":          {with(func(b []byte) { le.PutUint32(b[12:], layout.FormatVersion-1); recrc(b, le) }), pmem.ErrVersion},
		"version 0":              {with(func(b []byte) { le.PutUint32(b[12:], 0); recrc(b, le) }), pmem.ErrVersion},
		"features":               {with(func(b []byte) { le.PutUint64(b[16:], 1<<63); recrc(b, le) }), pmem.ErrVersion},
		"other byte order":       {with(func(b []byte) { binary.BigEndian.PutUint32(b[8:], 0x01020304); recrc(b, binary.BigEndian) }), pmem.ErrVersion},
		"no byte order":          {with(func(b []byte) { le.PutUint32(b[8:], 0); recrc(b, le) }), pmem.ErrVersion},
		"checksum only":          {with(func(b []byte) { b[4095] ^= 1 }), pmem.ErrCorrupt},
		"stripes 0":              {with(func(b []byte) { le.PutUint32(b[48:], 0); recrc(b, le) }), pmem.ErrCorrupt},
		"stripes 3":              {with(func(b []byte) { le.PutUint32(b[48:], 3); recrc(b, le) }), pmem.ErrCorrupt},
		"stripes huge":           {with(func(b []byte) { le.PutUint32(b[48:], 1<<31); recrc(b, le) }), pmem.ErrCorrupt},
		"chunks huge":            {with(func(b []byte) { le.PutUint32(b[52:], 1<<31); recrc(b, le) }), pmem.ErrCorrupt},
		"segment over chunk":     {with(func(b []byte) { le.PutUint32(b[56:], 8192); recrc(b, le) }), pmem.ErrCorrupt},
		"intent huge":            {with(func(b []byte) { le.PutUint32(b[60:], 1<<31); recrc(b, le) }), pmem.ErrCorrupt},
		"log huge":               {with(func(b []byte) { le.PutUint32(b[72:], 1<<31); recrc(b, le) }), pmem.ErrCorrupt},
		"log of 5000":            {with(func(b []byte) { le.PutUint32(b[72:], 5000); recrc(b, le) }), pmem.ErrCorrupt},
		"log beyond the end":     {with(func(b []byte) { le.PutUint32(b[72:], 1<<30); recrc(b, le) }), pmem.ErrCorrupt},
		"stripes beyond the end": {with(func(b []byte) { le.PutUint32(b[48:], 4096); recrc(b, le) }), pmem.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(path, c.file, 0o600))
			for _, readOnly := range []bool{false, true} {
				o := small()
				o.ReadOnly = readOnly
				_, err := pmem.Open(path, o)
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, path)
			}
			require.Equal(t, len(c.file), len(image(t, path)), "nothing was written")
			only(t, filepath.Dir(path), "file")
		})
	}
}

// TestEveryBitOfTheHeader: no flipped bit goes unnoticed.
func TestEveryBitOfTheHeader(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p, err := pmem.OpenHeap(h, small())
	require.NoError(t, err)
	require.NoError(t, p.Close())
	whole := h.Image()
	step := 1
	if testing.Short() {
		step = 7
	}
	for bit := 0; bit < 4096*8; bit += step {
		whole[bit/8] ^= 1 << (bit % 8)
		_, err := layout.DecodeHeader(whole[:4096])
		require.Error(t, err, "bit %d", bit)
		if bit%64 == 0 {
			_, err = pmem.OpenHeap(pmem.NewHeap(whole, 0), small())
			require.Error(t, err, "bit %d", bit)
		}
		whole[bit/8] ^= 1 << (bit % 8)
	}
}

func TestNotARegularFile(t *testing.T) {
	dir := t.TempDir()
	for _, readOnly := range []bool{false, true} {
		o := small()
		o.ReadOnly = readOnly
		_, err := pmem.Open(dir, o)
		require.Error(t, err)
		require.ErrorContains(t, err, dir)
	}
}
