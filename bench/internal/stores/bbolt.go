package stores

import (
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

func init() {
	register("bbolt", "go.etcd.io/bbolt", true, func(c Config) (Store, error) { return openBolt(c, false) })
	// With DB.Batch concurrent writers share a transaction.
	register("bbolt Batch", "go.etcd.io/bbolt", true, func(c Config) (Store, error) { return openBolt(c, true) })
}

var bucket = []byte("b")

type boltStore struct {
	db     *bolt.DB
	update func(func(*bolt.Tx) error) error
}

func openBolt(c Config, batch bool) (Store, error) {
	opts := *bolt.DefaultOptions
	opts.NoSync = c.Sync != Always
	opts.NoFreelistSync = true
	opts.FreelistType = bolt.FreelistMapType
	db, err := bolt.Open(filepath.Join(c.Dir, "bolt.db"), 0o600, &opts)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &boltStore{db, db.Update}
	if batch {
		// A batch begins when every writer has joined, not 10 ms later.
		db.MaxBatchSize = max(1, c.Writers)
		s.update = db.Batch
	}
	return s, nil
}

func (s *boltStore) Put(key, value []byte) error {
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key, value) })
}

func (s *boltStore) PutBulk(keys, values [][]byte) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		for i, key := range keys {
			if err := b.Put(key, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *boltStore) Get(dst, key []byte) ([]byte, error) {
	err := s.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucket).Get(key)
		if v == nil {
			return ErrNotFound
		}
		dst = append(dst, v...)
		return nil
	})
	return dst, err
}

func (s *boltStore) Delete(key []byte) error {
	return s.update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Delete(key) })
}

func (s *boltStore) Close() error { return s.db.Close() }
