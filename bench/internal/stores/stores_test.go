package stores

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// TestStores: whatever is built in does what is measured.
func TestStores(t *testing.T) {
	for _, name := range Names() {
		if name == "raw page" {
			continue // is no store
		}
		for _, sync := range []Sync{Never, Always} {
			t.Run(fmt.Sprint(name, " ", sync), func(t *testing.T) {
				s, err := Open(Config{Name: name, Dir: t.TempDir(), Sync: sync, Writers: 1})
				if err != nil {
					t.Fatal(err)
				}
				use(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if _, err := Open(Config{Name: "nothing"}); err == nil {
		t.Error("an unknown store opened")
	}
}

func use(t *testing.T, s Store) {
	key := []byte("k")
	if _, err := s.Get(nil, key); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of an absent key: %v", err)
	}
	value := []byte("1")
	for _, v := range []string{"1", "2"} {
		copy(value, v)
		if err := s.Put(key, value); err != nil {
			t.Fatal(err)
		}
	}
	copy(value, "x") // the store has a copy
	if got, err := s.Get([]byte("a"), key); err != nil || string(got) != "a2" {
		t.Errorf("get: %q, %v", got, err)
	}
	if bulk, ok := s.(Bulk); ok {
		if err := bulk.PutBulk([][]byte{{1}, {2}}, [][]byte{{3}, {4}}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(nil, []byte{2}); err != nil || string(got) != "\x04" {
			t.Errorf("get after a bulk: %q, %v", got, err)
		}
	}
	if err := s.Delete(key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(nil, key); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of a deleted key: %v", err)
	}
}

// TestVolatileLookupsDoNotAllocate: else the maps would be held against pmemtable
// for what the harness does. The longest keys that are measured have 32 bytes.
func TestVolatileLookupsDoNotAllocate(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 32)
	for _, name := range Names() {
		if Persistent(name) {
			continue
		}
		s, err := Open(Config{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Put(key, key); err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 0, len(key))
		if n := testing.AllocsPerRun(100, func() { _, _ = s.Get(dst, key) }); n != 0 {
			t.Errorf("%s: %v allocations a Get", name, n)
		}
	}
}
