package stores

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/puzpuzpuz/xsync/v4"
)

func init() {
	register("map+RWMutex", "", false, func(c Config) (Store, error) {
		return &lockedMap{m: make(map[string][]byte)}, nil
	})
	register("sharded", "", false, func(c Config) (Store, error) { return newSharded(), nil })
	register("sync.Map", "", false, func(c Config) (Store, error) { return &syncMap{}, nil })
	register("xsync", "github.com/puzpuzpuz/xsync/v4", false, func(c Config) (Store, error) {
		return &xsyncMap{xsync.NewMap[string, []byte]()}, nil
	})
}

// The maps take keys of any length, as pmemtable does, hence strings. A Put makes
// the copies that somebody has to make. A Get makes none on the heap: the compiler
// keeps a lookup's string of up to 32 bytes on the stack.

type lockedMap struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func (s *lockedMap) Put(key, value []byte) error {
	v := bytes.Clone(value)
	s.mu.Lock()
	s.m[string(key)] = v
	s.mu.Unlock()
	return nil
}

func (s *lockedMap) Get(dst, key []byte) ([]byte, error) {
	s.mu.RLock()
	v, ok := s.m[string(key)]
	s.mu.RUnlock()
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v...), nil
}

func (s *lockedMap) Delete(key []byte) error {
	s.mu.Lock()
	delete(s.m, string(key))
	s.mu.Unlock()
	return nil
}

func (s *lockedMap) Close() error { return nil }

type sharded struct {
	seed   maphash.Seed
	shards [64]struct {
		lockedMap
		_ [128]byte // a shard's lock shares no line with another's
	}
}

func newSharded() *sharded {
	s := &sharded{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].m = make(map[string][]byte)
	}
	return s
}

func (s *sharded) of(key []byte) *lockedMap {
	return &s.shards[maphash.Bytes(s.seed, key)%uint64(len(s.shards))].lockedMap
}

func (s *sharded) Put(key, value []byte) error         { return s.of(key).Put(key, value) }
func (s *sharded) Get(dst, key []byte) ([]byte, error) { return s.of(key).Get(dst, key) }
func (s *sharded) Delete(key []byte) error             { return s.of(key).Delete(key) }
func (s *sharded) Close() error                        { return nil }

type syncMap struct{ m sync.Map }

func (s *syncMap) Put(key, value []byte) error {
	s.m.Store(string(key), bytes.Clone(value))
	return nil
}

func (s *syncMap) Get(dst, key []byte) ([]byte, error) {
	v, ok := s.m.Load(string(key))
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v.([]byte)...), nil
}

func (s *syncMap) Delete(key []byte) error {
	s.m.Delete(string(key))
	return nil
}

func (s *syncMap) Close() error { return nil }

type xsyncMap struct{ m *xsync.Map[string, []byte] }

func (s *xsyncMap) Put(key, value []byte) error {
	s.m.Store(string(key), bytes.Clone(value))
	return nil
}

func (s *xsyncMap) Get(dst, key []byte) ([]byte, error) {
	v, ok := s.m.Load(string(key))
	if !ok {
		return dst, ErrNotFound
	}
	return append(dst, v...), nil
}

func (s *xsyncMap) Delete(key []byte) error {
	s.m.Delete(string(key))
	return nil
}

func (s *xsyncMap) Close() error { return nil }
