package workload

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"pmemtable/bench/internal/data"
	"pmemtable/bench/internal/stores"
)

var shape = data.Shape{KeyBytes: 16, ValueBytes: 24}

// noted is a map that counts what is done to it.
type noted struct {
	mu               sync.Mutex
	m                map[string][]byte
	gets             int
	gotCount         map[string]int // by key
	puts, news       int
	changed          int // puts that changed the first 8 bytes of a value and no others
	deletes, already int // already: of a key that was not there
}

func (s *noted) Put(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if old := s.m[string(key)]; old == nil {
		s.news++
	} else if !bytes.Equal(old, value) && bytes.Equal(old[8:], value[8:]) {
		s.changed++
	}
	s.m[string(key)] = bytes.Clone(value)
	return nil
}

func (s *noted) Get(dst, key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	s.gotCount[string(key)]++
	v, ok := s.m[string(key)]
	if !ok {
		return dst, stores.ErrNotFound
	}
	return append(dst, v...), nil
}

func (s *noted) Delete(key []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deletes++; s.m[string(key)] == nil {
		s.already++
	}
	delete(s.m, string(key))
	return nil
}

func (s *noted) Close() error { return nil }

// loaded is a store of n entries, with nothing noted.
func loaded(t *testing.T, n int) *noted {
	t.Helper()
	s := &noted{m: map[string][]byte{}, gotCount: map[string]int{}}
	run(t, s, Work{Kind: Load, N: n, Ops: n})
	if s.news != n {
		t.Fatalf("a load of %d entries put %d", n, s.news)
	}
	s.puts, s.news = 0, 0
	return s
}

func run(t *testing.T, s stores.Store, w Work) {
	t.Helper()
	w.Shape = shape
	r, err := Run(s, w, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := w.Ops / max(1, w.Goroutines) * max(1, w.Goroutines); r.Ops != want {
		t.Fatalf("%d operations done of %d", r.Ops, want)
	}
}

// TestLatest: every get finds its key (or Run fails), every put is of a new key, and
// the last keys are got most.
func TestLatest(t *testing.T) {
	const n, ops = 1000, 4000
	for _, goroutines := range []int{1, 3} {
		s := loaded(t, n)
		w := Work{Kind: Latest, N: n, Ops: ops, ReadPercent: 95, Zipf: 0.99, Seed: 1, Goroutines: goroutines, NewFrom: 2 * n}
		run(t, s, w)
		if s.puts < ops*3/100 || s.puts > ops*7/100 || s.news != s.puts {
			t.Errorf("%d goroutines: %d puts of %d operations, %d of new keys", goroutines, s.puts, ops, s.news)
		}
		w.NewFrom += ops // as the next round does
		run(t, s, w)
		if s.news != s.puts {
			t.Errorf("%d goroutines, once more: %d puts, %d of new keys", goroutines, s.puts, s.news)
		}
		got := func(from, to int) (sum int) {
			var buf [data.MaxKeyBytes]byte
			for i := from; i < to; i++ {
				sum += s.gotCount[string(shape.Key(&buf, i))]
			}
			return sum
		}
		if early, late := got(0, n/2), got(n/2, n)+got(2*n, w.NewFrom+ops); late <= 2*early {
			t.Errorf("%d goroutines: %d gets of the first half of the keys, %d of those after", goroutines, early, late)
		}
	}
}

// TestModify: half of the operations are a get alone, half a get and a put that
// changes the value's first bytes only.
func TestModify(t *testing.T) {
	const n, ops = 1000, 4000
	s := loaded(t, n)
	run(t, s, Work{Kind: Modify, N: n, Ops: ops, ReadPercent: 50, Zipf: 0.99, Seed: 1, Goroutines: 2})
	if s.gets != ops || s.puts < ops*45/100 || s.puts > ops*55/100 || s.news != 0 {
		t.Errorf("%d gets and %d puts of %d operations, %d of new keys", s.gets, s.puts, ops, s.news)
	}
	if s.changed < s.puts*9/10 { // now and then the bytes are the same
		t.Errorf("%d of %d puts changed the first bytes and no others", s.changed, s.puts)
	}
}

// TestDeleteMeetsNoKeyTwice: runs with the same seed and any number of goroutines
// share the keys.
func TestDeleteMeetsNoKeyTwice(t *testing.T) {
	const n, each = 1000, 250
	s := loaded(t, n)
	for i, goroutines := range []int{1, 2, 8, 64} {
		run(t, s, Work{Kind: Delete, N: n, Ops: each, Seed: 5, Goroutines: goroutines, Deleted: i * each})
	}
	if s.already != 0 || s.deletes != 250+250+248+192 {
		t.Errorf("%d deletes, %d of a key that was gone", s.deletes, s.already)
	}
}

// TestGetFails: a key that is not there, or a value of another length, is an error of
// the run, not a fast operation.
func TestGetFails(t *testing.T) {
	s := loaded(t, 10)
	w := Work{Kind: Modify, N: 20, Shape: shape, Ops: 100, Seed: 1, Limit: time.Minute}
	if _, err := Run(s, w, ""); !errors.Is(err, stores.ErrNotFound) {
		t.Errorf("absent keys: %v", err)
	}
	w.N, w.Shape.ValueBytes = 10, 8
	if _, err := Run(s, w, ""); err == nil {
		t.Error("values of another length are taken")
	}
}
