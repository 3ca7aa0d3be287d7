//go:build peers

package stores

import (
	"errors"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

func init() { register("Pebble", "github.com/cockroachdb/pebble/v2", true, openPebble) }

type pebbleStore struct {
	db    *pebble.DB
	write *pebble.WriteOptions
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	pebble.DefaultLogger.Fatalf(format, args...)
}

func openPebble(c Config) (Store, error) {
	cache := pebble.NewCache(256 << 20)
	defer cache.Unref()
	opts := &pebble.Options{Logger: quiet{}, Cache: cache, MemTableSize: 64 << 20}
	db, err := pebble.Open(filepath.Join(c.Dir, "pebble"), opts)
	if err != nil {
		return nil, err
	}
	s := &pebbleStore{db, pebble.NoSync}
	if c.Sync == Always {
		s.write = pebble.Sync
	}
	return s, nil
}

func (s *pebbleStore) Put(key, value []byte) error { return s.db.Set(key, value, s.write) }

func (s *pebbleStore) PutBulk(keys, values [][]byte) error {
	b := s.db.NewBatch()
	for i, key := range keys {
		if err := b.Set(key, values[i], nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}

func (s *pebbleStore) Get(dst, key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, ErrNotFound
	}
	if err != nil {
		return dst, err
	}
	dst = append(dst, v...)
	return dst, closer.Close()
}

func (s *pebbleStore) Delete(key []byte) error { return s.db.Delete(key, s.write) }
func (s *pebbleStore) Close() error            { return s.db.Close() }
