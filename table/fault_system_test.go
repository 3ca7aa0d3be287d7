package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failures looked for here: a call of the operating system fails, and the
// table panics, hangs, loses what it acknowledged, or leaves a descriptor, a
// goroutine or a temporary file behind.

var errInjected = errors.New("the test made this call fail")

// failingSystem is the operating system with calls that fail. Nobody cuts the
// power here, so syncs that succeed do nothing.
type failingSystem struct {
	pmem.System
	kind  string // of the calls that fail
	from  int    // the first that does, counted from 1; 0: none
	until int    // the last that does
	err   error

	mu    sync.Mutex
	calls map[string]int
}

func newFailingSystem(kind string, from, until int, err error) *failingSystem {
	return &failingSystem{System: pmem.RealSystem(), kind: kind, from: from, until: until, err: err, calls: map[string]int{}}
}

// fails counts a call and returns its error.
func (s *failingSystem) fails(kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[kind]++
	if n := s.calls[kind]; kind == s.kind && s.from > 0 && n >= s.from && n <= s.until {
		return s.err
	}
	return nil
}

// met tells whether the failure came.
func (s *failingSystem) met() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[s.kind] >= s.from
}

// heal makes every later call succeed.
func (s *failingSystem) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from = 0
}

func (s *failingSystem) OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	if err := s.fails("OpenFile"); err != nil {
		return nil, err
	}
	return s.System.OpenFile(name, flag, perm)
}

func (s *failingSystem) Allocate(f *os.File, oldBytes, newBytes int64) error {
	if err := s.fails("Allocate"); err != nil {
		return err
	}
	return f.Truncate(newBytes)
}

func (s *failingSystem) Truncate(f *os.File, newBytes int64) error {
	if err := s.fails("Truncate"); err != nil {
		return err
	}
	return s.System.Truncate(f, newBytes)
}

func (s *failingSystem) Release(f *os.File, off, n int64) error {
	if err := s.fails("Release"); err != nil {
		return err
	}
	return s.System.Release(f, off, n)
}

func (s *failingSystem) Reserve(*os.File, int64, int64) error { return s.fails("Reserve") }

func (s *failingSystem) Map(f *os.File, lengthBytes int64, readOnly, daxOnly bool) ([]byte, error) {
	if err := s.fails("Map"); err != nil {
		return nil, err
	}
	return s.System.Map(f, lengthBytes, readOnly, daxOnly)
}

func (s *failingSystem) MapZeros(mem []byte) error {
	if err := s.fails("MapZeros"); err != nil {
		return err
	}
	return s.System.MapZeros(mem)
}

func (s *failingSystem) MapAgain(f *os.File, mem []byte, off int64, dax bool) error {
	if err := s.fails("MapAgain"); err != nil {
		return err
	}
	return s.System.MapAgain(f, mem, off, dax)
}

func (s *failingSystem) SyncData(*os.File, []byte) error            { return s.fails("SyncData") }
func (s *failingSystem) SyncRange(*os.File, []byte, int, int) error { return s.fails("SyncRange") }
func (s *failingSystem) WriteRange(_ *os.File, mem []byte, off int, src []byte) error {
	copy(mem[off:], src)
	return s.fails("WriteRange")
}
func (s *failingSystem) SyncDir(string) error { return s.fails("SyncDir") }

func (s *failingSystem) Publish(temp, path string) error {
	if err := s.fails("Publish"); err != nil {
		return err
	}
	return s.System.Publish(temp, path)
}

func (s *failingSystem) LockWriter(f *os.File) error {
	if err := s.fails("LockWriter"); err != nil {
		return err
	}
	return s.System.LockWriter(f)
}

func (s *failingSystem) LockReader(f *os.File) error {
	if err := s.fails("LockReader"); err != nil {
		return err
	}
	return s.System.LockReader(f)
}

func (s *failingSystem) KeepReadersOut(f *os.File) (func(), error) {
	if err := s.fails("KeepReadersOut"); err != nil {
		return nil, err
	}
	return s.System.KeepReadersOut(f)
}

// Unlock does its work all the same: the lock of a process that goes on would keep
// the file from the next open.
func (s *failingSystem) Unlock(f *os.File) error {
	return errors.Join(s.System.Unlock(f), s.fails("Unlock"))
}

// faultRun is a program on a table whose system fails, and what may be in the
// table afterwards: per key what was acknowledged last, and what was tried since.
type faultRun struct {
	t     *testing.T
	sys   *failingSystem
	path  string
	media pmem.Media
	may   map[string][]string // "" for absent
	errs  []error
}

func (r *faultRun) open(readOnly bool) *table.Table {
	p, err := pmem.Open(r.path, pmem.Options{System: r.sys, Media: r.media, Geometry: tiny(2), MaxSizeBytes: 8 << 20, ReadOnly: readOnly})
	if err != nil {
		r.note(err)
		return nil
	}
	tab, err := table.OpenPool(p, nil)
	r.note(err)
	return tab
}

func (r *faultRun) note(err error) bool {
	if err != nil {
		r.errs = append(r.errs, err)
	}
	return err == nil
}

// change notes the outcome of a call that makes value of key.
func (r *faultRun) change(key []byte, value string, err error) {
	k := string(key)
	if r.note(err) {
		r.may[k] = []string{value}
		return
	}
	if len(r.may[k]) == 0 {
		r.may[k] = []string{""}
	}
	r.may[k] = append(r.may[k], value)
}

func (r *faultRun) put(tab *table.Table, i, round int) {
	v := append([]byte("v"), value(i+round*1000, 100+i*5)...)
	r.change(key(i), string(v), tab.Put(key(i), v))
}

// program is what a user does with a table, errors or not.
func (r *faultRun) program() {
	tab := r.open(false)
	if tab != nil {
		r.first(tab)
		r.note(tab.Close())
	}
	if tab = r.open(true); tab != nil {
		_, err := tab.Get(key(1))
		if !errors.Is(err, table.ErrNotFound) {
			r.note(err)
		}
		r.note(tab.Close())
	}
	if tab = r.open(false); tab != nil {
		for i := range 10 {
			r.put(tab, i, 2)
		}
		r.note(tab.Close())
	}
}

func (r *faultRun) first(tab *table.Table) {
	for i := range 60 {
		r.put(tab, i, 0)
	}
	snap, err := tab.Snapshot()
	r.note(err)
	for i := 20; i < 40; i++ {
		r.put(tab, i, 1)
	}
	var b bytes.Buffer
	r.note(tab.Backup(&b))
	if snap != nil {
		r.note(snap.Backup(&b))
		r.note(snap.Close())
	}
	batch := table.NewBatch()
	batch.Put(key(70), []byte("vbatch"))
	batch.Delete(key(30))
	err = tab.Apply(batch)
	r.change(key(70), "vbatch", err)
	r.change(key(30), "", err)
	for i := range 60 {
		if i%4 != 0 {
			r.change(key(i), "", tab.Delete(key(i)))
		}
	}
	r.note(tab.Sync())
	r.note(tab.Compact())
	for i := 100; i < 160; i++ { // the file grows again
		r.put(tab, i, 3)
	}
}

// verify opens the table without failures: all that was acknowledged is there, and
// nothing that was never written.
func (r *faultRun) verify() {
	t := r.t
	for _, e := range names(t, filepath.Dir(r.path)) {
		require.Equal(t, filepath.Base(r.path), e, "a file was left behind")
	}
	r.sys.heal()
	p, err := pmem.Open(r.path, pmem.Options{System: r.sys, Media: r.media, Geometry: tiny(2), MaxSizeBytes: 8 << 20})
	require.NoError(t, err)
	tab, err := table.OpenPool(p, nil)
	require.NoError(t, err)
	checked(t, tab)
	have := contents(t, tab)
	for k, may := range r.may {
		require.Contains(t, may, have[k], "key %x", k)
	}
	for k := range have {
		require.Contains(t, r.may, k)
	}
	require.NoError(t, tab.Put([]byte("after"), []byte("all")))
	checked(t, tab)
	require.NoError(t, tab.Close())
}

// eventually waits for a condition, without a bound that a slow machine would miss.
func eventually(t *testing.T, what string, condition func() bool) {
	for deadline := time.Now().Add(time.Minute); !condition(); runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), what)
	}
}

func TestEveryFailingCallIsAnError(t *testing.T) {
	kinds := []string{"OpenFile", "Allocate", "Truncate", "Reserve", "Release", "Map", "MapZeros", "MapAgain", "SyncData", "SyncRange", "WriteRange", "SyncDir", "Publish", "LockWriter", "LockReader",
		"KeepReadersOut", "Unlock"}
	harmless := map[string]bool{
		"KeepReadersOut": true, "Release": true, // the file keeps its size, or its log's room
		"Allocate": true, "Reserve": true, "MapAgain": true, // a growth ahead of need, or of the log, fails unseen
	}
	for _, media := range []pmem.Media{pmem.PageCache, pmem.Tmpfs} {
		for _, kind := range kinds {
			t.Run(fmt.Sprint(media, " ", kind), func(t *testing.T) {
				failEach(t, media, kind, harmless[kind])
			})
		}
	}
}

// failEach fails the n-th call of a kind, alone or with all behind it, for n = 1,
// 2, ... until a run is clean; in the short form with growing steps.
func failEach(t *testing.T, media pmem.Media, kind string, harmless bool) {
	runs := 0
	for n, step := 1, 1; ; n += step {
		met := false
		for _, until := range []int{n, 1 << 30} {
			sys := newFailingSystem(kind, n, until, errInjected)
			r := &faultRun{t: t, sys: sys, path: filepath.Join(t.TempDir(), "t.pmt"), media: media, may: map[string][]string{}}
			files, goroutines := openFiles(), runtime.NumGoroutine()
			r.program()
			met = sys.met()
			if met && !harmless {
				require.NotEmpty(t, r.errs, "call %d of %s failed unnoticed", n, kind)
			}
			if !met {
				require.Empty(t, r.errs)
			}
			for _, err := range r.errs {
				assert.True(t, errors.Is(err, errInjected) || errors.Is(err, os.ErrNotExist) || errors.Is(err, table.ErrFull), "%v", err)
			}
			r.verify()
			runs++
			eventually(t, "a descriptor was left open", func() bool { return openFiles() <= files })
			eventually(t, "a goroutine was left behind", func() bool { return runtime.NumGoroutine() <= goroutines })
		}
		if !met {
			break
		}
		if testing.Short() {
			step = n + 1
		}
	}
	t.Logf("%d runs", runs)
}

// TestDiskFullAtEveryGrowth: the disk is full from the n-th growth on. What fits is
// kept, the rest is ErrFull, deletes go on, and so do writes when there is room.
func TestDiskFullAtEveryGrowth(t *testing.T) {
	for n, step := 3, 1; ; n += step { // the first two are the creation's
		sys := newFailingSystem("Allocate", n, 1<<30, syscall.ENOSPC)
		r := &faultRun{t: t, sys: sys, path: filepath.Join(t.TempDir(), "t.pmt"), media: pmem.Tmpfs, may: map[string][]string{}}
		tab := r.open(false)
		require.NotNil(t, tab)
		full := 0
		for i := range 150 {
			v := string(value(i, 200))
			err := tab.Put(key(i), []byte(v))
			if err != nil {
				require.ErrorIs(t, err, table.ErrFull)
				require.ErrorIs(t, err, syscall.ENOSPC)
				full++
				continue
			}
			r.may[string(key(i))] = []string{v}
		}
		for i := 0; i < 150; i += 3 {
			require.NoError(t, tab.Delete(key(i)))
			delete(r.may, string(key(i)))
		}
		checked(t, tab)
		if full > 0 {
			sys.heal()
			require.NoError(t, tab.Put([]byte("room"), make([]byte, 20_000)))
			r.may["room"] = []string{string(make([]byte, 20_000))}
		}
		require.NoError(t, tab.Close())
		r.may["after"] = []string{"", "all"}
		r.verify()
		if full == 0 {
			require.Greater(t, n, 2)
			return
		}
		if testing.Short() {
			step = n
		}
	}
}
