package stores

import (
	"io"
	"log"
	"path/filepath"

	"github.com/akrylysov/pogreb"
)

func init() {
	pogreb.SetLogger(log.New(io.Discard, "", 0))
	register("pogreb", "github.com/akrylysov/pogreb", true, openPogreb)
}

type pogrebStore struct{ *pogreb.DB }

func openPogreb(c Config) (Store, error) {
	opts := &pogreb.Options{}
	if c.Sync == Always {
		opts.BackgroundSyncInterval = -1
	}
	db, err := pogreb.Open(filepath.Join(c.Dir, "pogreb"), opts)
	if err != nil {
		return nil, err
	}
	return pogrebStore{db}, nil
}

func (s pogrebStore) Get(dst, key []byte) ([]byte, error) {
	v, err := s.DB.Get(key) // a copy
	if err != nil {
		return dst, err
	}
	if v == nil {
		return dst, ErrNotFound
	}
	return append(dst, v...), nil
}
