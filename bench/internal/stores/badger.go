//go:build peers

package stores

import (
	"errors"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
)

func init() { register("Badger", "github.com/dgraph-io/badger/v4", true, openBadger) }

type badgerStore struct{ db *badger.DB }

func openBadger(c Config) (Store, error) {
	opts := badger.DefaultOptions(filepath.Join(c.Dir, "badger"))
	opts.Logger = nil
	opts.SyncWrites = c.Sync == Always
	opts.DetectConflicts = false
	db, err := badger.Open(opts)
	if err != nil {
		return nil, err
	}
	return &badgerStore{db}, nil
}

func (s *badgerStore) Put(key, value []byte) error {
	// Badger keeps what it is given until the commit is done, which Update waits for.
	return s.db.Update(func(tx *badger.Txn) error { return tx.Set(key, value) })
}

func (s *badgerStore) PutBulk(keys, values [][]byte) error {
	b := s.db.NewWriteBatch()
	defer b.Cancel()
	for i, key := range keys {
		if err := b.Set(append([]byte(nil), key...), values[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

func (s *badgerStore) Get(dst, key []byte) ([]byte, error) {
	err := s.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			dst = append(dst, v...)
			return nil
		})
	})
	return dst, err
}

func (s *badgerStore) Delete(key []byte) error {
	return s.db.Update(func(tx *badger.Txn) error { return tx.Delete(key) })
}

func (s *badgerStore) Close() error { return s.db.Close() }
