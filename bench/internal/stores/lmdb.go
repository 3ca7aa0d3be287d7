//go:build lmdb && cgo

package stores

import (
	"os"
	"path/filepath"

	"github.com/PowerDNS/lmdb-go/lmdb"
)

func init() { register("LMDB", "github.com/PowerDNS/lmdb-go", true, openLMDB) }

type lmdbStore struct {
	env *lmdb.Env
	db  lmdb.DBI
}

func openLMDB(c Config) (Store, error) {
	env, err := lmdb.NewEnv()
	if err != nil {
		return nil, err
	}
	if err := env.SetMapSize(64 << 30); err != nil {
		return nil, err
	}
	flags := uint(lmdb.NoReadahead)
	if c.Sync != Always {
		flags |= lmdb.NoSync | lmdb.WriteMap
	}
	dir := filepath.Join(c.Dir, "lmdb")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := env.Open(dir, flags, 0o600); err != nil {
		return nil, err
	}
	s := &lmdbStore{env: env}
	err = env.Update(func(tx *lmdb.Txn) (err error) {
		s.db, err = tx.OpenRoot(0)
		return err
	})
	return s, err
}

func (s *lmdbStore) Put(key, value []byte) error {
	return s.env.Update(func(tx *lmdb.Txn) error { return tx.Put(s.db, key, value, 0) })
}

func (s *lmdbStore) PutBulk(keys, values [][]byte) error {
	return s.env.Update(func(tx *lmdb.Txn) error {
		for i, key := range keys {
			if err := tx.Put(s.db, key, values[i], 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *lmdbStore) Get(dst, key []byte) ([]byte, error) {
	err := s.env.View(func(tx *lmdb.Txn) error {
		tx.RawRead = true
		v, err := tx.Get(s.db, key)
		if lmdb.IsNotFound(err) {
			return ErrNotFound
		}
		dst = append(dst, v...)
		return err
	})
	return dst, err
}

func (s *lmdbStore) Delete(key []byte) error {
	err := s.env.Update(func(tx *lmdb.Txn) error { return tx.Del(s.db, key, nil) })
	if lmdb.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *lmdbStore) Close() error { return s.env.Close() }
