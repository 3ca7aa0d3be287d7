package bitcask_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shoenig/test/must"

	"pmemtable/examples/bitcask"
	"pmemtable/table"
)

// kinds are both key directories, with files so small that there are many.
var kinds = map[string]*bitcask.Options{
	"table": {MaxFileBytes: 4000},
	"map":   {MaxFileBytes: 4000, GoMap: true},
}

func open(t testing.TB, dir string, o *bitcask.Options) *bitcask.Store {
	s, err := bitcask.Open(dir, o)
	must.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func key(i int) []byte { return fmt.Appendf(nil, "key %d", i) }

// requireSame requires that the store holds what model does, of keys 0 to n-1.
func requireSame(t testing.TB, s *bitcask.Store, model map[string]string, n int) {
	for i := range n {
		got, err := s.Get(key(i))
		want, ok := model[string(key(i))]
		if !ok {
			must.ErrorIs(t, err, bitcask.ErrNotFound, must.Sprintf("key %d", i))
			continue
		}
		must.NoError(t, err, must.Sprintf("key %d", i))
		must.Eq(t, want, string(got), must.Sprintf("key %d", i))
	}
}

// TestModel runs random operations, opens anew in between, and compares with a map.
func TestModel(t *testing.T) {
	t.Parallel()
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			dir, model := t.TempDir(), map[string]string{}
			const keys = 200
			s := open(t, dir, o)
			for range 30 {
				for range r.IntN(400) {
					k := key(r.IntN(keys))
					if r.IntN(4) == 0 {
						must.NoError(t, s.Delete(k))
						delete(model, string(k))
						continue
					}
					v := strings.Repeat("v", r.IntN(100)) + fmt.Sprint(r.Int())
					must.NoError(t, s.Put(k, []byte(v)))
					model[string(k)] = v
				}
				switch r.IntN(3) {
				case 0:
					must.NoError(t, s.Merge())
				case 1:
					must.NoError(t, s.Sync())
				default:
					must.NoError(t, s.Close())
					s = open(t, dir, o)
					must.Eq(t, bitcask.Opening{}, s.Opening(), must.Sprint("closed in order: nothing to do"))
				}
				requireSame(t, s, model, keys)
			}
		})
	}
}

// dataBytes is the size of all data files.
func dataBytes(t *testing.T, dir string) (total int64) {
	for _, pattern := range []string{"*.log", "*.merged"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		must.NoError(t, err)
		for _, name := range names {
			info, err := os.Stat(name)
			must.NoError(t, err)
			total += info.Size()
		}
	}
	return total
}

func TestMergeGivesSpaceBack(t *testing.T) {
	t.Parallel()
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, o)
			value := bytes.Repeat([]byte("v"), 100)
			for round := range 50 {
				for i := range 100 {
					must.NoError(t, s.Put(key(i), append(value, byte(round))))
				}
			}
			for i := 50; i < 100; i++ {
				must.NoError(t, s.Delete(key(i)))
			}
			before := dataBytes(t, dir)
			must.NoError(t, s.Merge())
			must.Less(t, before/50, dataBytes(t, dir))
			live := dataBytes(t, dir)
			must.NoError(t, s.Merge())
			must.Eq(t, live, dataBytes(t, dir), must.Sprint("nothing was left to do"))
			must.FileNotExists(t, filepath.Join(dir, "MERGE"))
		})
	}
}

// TestConcurrent: readers, writers of keys of their own, and merges at the same time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), kinds["table"])
	const workers, each = 4, 1500
	var group sync.WaitGroup
	errs := make(chan error, workers+1)
	done := make(chan struct{})
	for w := range workers {
		group.Go(func() {
			for i := range each {
				k := key(w*1000 + i%100)
				want := fmt.Append(nil, "value ", i)
				if err := s.Put(k, want); err != nil {
					errs <- err
					return
				}
				if got, err := s.Get(k); err != nil || !bytes.Equal(got, want) {
					errs <- fmt.Errorf("%s: %q, %w; want %q", k, got, err, want)
					return
				}
			}
		})
	}
	merged := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-done:
				merged <- n
				return
			default:
				if err := s.Merge(); err != nil {
					errs <- err
				}
			}
		}
	}()
	group.Wait()
	close(done)
	must.Positive(t, <-merged)
	close(errs)
	must.NoError(t, <-errs)
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	_, err := bitcask.Open(dir, nil)
	must.ErrorIs(t, err, table.ErrLocked)
	must.ErrorIs(t, s.Put(make([]byte, 65536), nil), bitcask.ErrTooLarge)
	must.NoError(t, s.Put(nil, nil))
	v, err := s.Get([]byte{})
	must.NoError(t, err)
	must.SliceEmpty(t, v)
	must.NoError(t, s.Delete([]byte("not there")))

	must.NoError(t, s.Close())
	must.NoError(t, s.Close())
	_, err = s.Get(nil)
	for _, err := range []error{err, s.Put(nil, nil), s.Delete(nil), s.Sync(), s.Merge()} {
		must.ErrorIs(t, err, bitcask.ErrClosed)
	}
}

// TestDamage: a bit that flipped in a record that the key directory knows.
func TestDamage(t *testing.T) {
	for name, o := range kinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, o)
			must.NoError(t, s.Put(key(1), []byte("value")))
			must.NoError(t, s.Put(key(2), []byte("value")))
			must.NoError(t, s.Close())
			path := filepath.Join(dir, "00000001.log")
			b, err := os.ReadFile(path)
			must.NoError(t, err)
			b[22] ^= 1
			must.NoError(t, os.WriteFile(path, b, 0o600))
			s = open(t, dir, o)
			_, err = s.Get(key(1))
			must.ErrorIs(t, err, bitcask.ErrCorrupt)
			must.ErrorContains(t, err, path)
			_, err = s.Get(key(2))
			must.NoError(t, err)
			must.ErrorIs(t, s.Merge(), bitcask.ErrCorrupt)
			must.ErrorIs(t, s.Merge(), bitcask.ErrCorrupt, must.Sprint("and again"))
			_, err = s.Get(key(2))
			must.NoError(t, err)
		})
	}
}
