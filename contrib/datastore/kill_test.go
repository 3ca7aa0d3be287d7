//go:build unix

package datastore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/shoenig/test/must"

	"pmemtable/contrib/datastore"
	"pmemtable/internal/killtest"
	"pmemtable/table"
)

// The failure looked for here: after kill -9 some keys of a batch, or of a transaction,
// have its values and others do not; or one that was acknowledged is missing. A child
// commits one after the other, each setting the same keys to its number, and says so;
// the parent kills it at a random one. All rounds use the same file.

const (
	killKeys   = 40 // of each batch
	killRounds = 20
	killAcks   = 200 // at most, in a round
)

func TestMain(m *testing.M) {
	killtest.Main(m, func(path string) error { return commitForever(context.Background(), path) })
}

func killOpen(path string) (*datastore.Datastore, error) {
	return datastore.Open(path, &table.Options{Stripes: 4, SegmentSize: 512, Durability: table.OnSync})
}

func killKey(i int) ds.Key { return ds.NewKey(fmt.Sprint("/k/", i)) }

// commitForever is the child: batch n leaves key n mod killKeys out of the file, and
// sets the others to n.
func commitForever(ctx context.Context, path string) error {
	d, err := killOpen(path)
	if err != nil {
		return err
	}
	n := uint64(0)
	if value, err := d.Get(ctx, ds.NewKey("/last")); err == nil {
		n = binary.LittleEndian.Uint64(value)
	} else if !errors.Is(err, ds.ErrNotFound) {
		return err
	}
	for {
		n++
		var w interface {
			ds.Write
			Commit(context.Context) error
		}
		if w, err = d.Batch(ctx); n%2 == 0 {
			w, err = d.NewTransaction(ctx, false)
		}
		if err != nil {
			return err
		}
		value := binary.LittleEndian.AppendUint64(nil, n)
		err := w.Put(ctx, ds.NewKey("/last"), value)
		for i := range killKeys {
			if i == int(n%killKeys) {
				err = errors.Join(err, w.Delete(ctx, killKey(i)))
			} else {
				err = errors.Join(err, w.Put(ctx, killKey(i), value))
			}
		}
		if err = errors.Join(err, w.Commit(ctx)); err != nil {
			return err
		}
		if err := killtest.Acknowledge(value); err != nil {
			return err
		}
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "t.pmt")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	known := uint64(0) // what the file holds at least
	for range killRounds {
		acked := uint64(0)
		killtest.Run(t, path, 1+random.IntN(killAcks), 0, 8, func(b []byte) { acked = binary.LittleEndian.Uint64(b) })
		must.Greater(t, known, acked)
		known = requireWhole(t, path, acked)
	}
}

// requireWhole requires that the file holds one whole batch, the last acknowledged one or
// the one after it, and returns which.
func requireWhole(t *testing.T, path string, acked uint64) uint64 {
	ctx := t.Context()
	d, err := killOpen(path)
	must.NoError(t, err)
	defer d.Close()
	value, err := d.Get(ctx, ds.NewKey("/last"))
	must.NoError(t, err)
	n := binary.LittleEndian.Uint64(value)
	must.SliceContains(t, []uint64{acked, acked + 1}, n)
	for i := range killKeys {
		got, err := d.Get(ctx, killKey(i))
		if i == int(n%killKeys) {
			must.ErrorIs(t, err, ds.ErrNotFound)
			continue
		}
		must.NoError(t, err)
		must.Eq(t, value, got, must.Sprintf("key %d of batch %d", i, n))
	}
	must.NoError(t, d.Check(ctx))
	return n
}
