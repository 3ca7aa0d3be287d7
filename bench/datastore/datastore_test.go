package datastore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	leveldb "github.com/ipfs/go-ds-leveldb"

	"pmemtable/contrib/datastore"
)

const benchEntries = 100_000

// BenchmarkStores runs each operation on a datastore of 100,000 entries with values of
// 256 bytes, both synced with every write: this one with Always, and go-ds-leveldb.
func BenchmarkStores(b *testing.B) {
	stores := []struct {
		name string
		open func(dir string) (ds.Batching, error)
	}{
		{"pmemtable", func(dir string) (ds.Batching, error) { return datastore.Open(filepath.Join(dir, "t.pmt"), nil) }},
		{"leveldb", func(dir string) (ds.Batching, error) { return leveldb.NewDatastore(dir, nil) }},
	}
	opened := make([]ds.Batching, len(stores))
	for i, s := range stores {
		d, err := s.open(b.TempDir())
		noError(b, err)
		load(b, d)
		opened[i] = d
	}
	for _, op := range []struct {
		name string
		run  func(*testing.B, ds.Batching)
	}{
		{"Get", benchGet}, {"HasAbsent", benchAbsent}, {"Put", benchPut}, {"Batch100", benchBatch},
		{"QueryAll", benchQueryAll}, {"QueryPrefix", benchQueryPrefix},
	} {
		for i, s := range stores {
			b.Run(op.name+"/"+s.name, func(b *testing.B) { op.run(b, opened[i]) })
		}
	}
	for _, d := range opened {
		noError(b, d.Close())
	}
}

func benchKey(i int) ds.Key { return ds.NewKey(fmt.Sprintf("/%02d/%08d", i%100, i)) }

var benchValue = make([]byte, 256)

func load(b *testing.B, d ds.Batching) {
	for i := 0; i < benchEntries; {
		batch, err := d.Batch(b.Context())
		noError(b, err)
		for range 4000 {
			noError(b, batch.Put(b.Context(), benchKey(i), benchValue))
			i++
		}
		noError(b, batch.Commit(b.Context()))
	}
}

func benchGet(b *testing.B, d ds.Batching) {
	for b.Loop() {
		if _, err := d.Get(context.Background(), benchKey(rand.IntN(benchEntries))); err != nil {
			b.Fatal(err)
		}
	}
}

func benchAbsent(b *testing.B, d ds.Batching) {
	for b.Loop() {
		if has, err := d.Has(context.Background(), benchKey(benchEntries+rand.IntN(benchEntries))); has || err != nil {
			b.Fatal(has, err)
		}
	}
}

func benchPut(b *testing.B, d ds.Batching) {
	for b.Loop() {
		if err := d.Put(context.Background(), benchKey(rand.IntN(benchEntries)), benchValue); err != nil {
			b.Fatal(err)
		}
	}
}

func benchBatch(b *testing.B, d ds.Batching) {
	for b.Loop() {
		batch, err := d.Batch(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		for range 100 {
			if err := batch.Put(context.Background(), benchKey(rand.IntN(benchEntries)), benchValue); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Commit(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchQueryAll(b *testing.B, d ds.Batching)    { benchQuery(b, d, "") }
func benchQueryPrefix(b *testing.B, d ds.Batching) { benchQuery(b, d, "/07") } // a hundredth

func benchQuery(b *testing.B, d ds.Batching, prefix string) {
	for b.Loop() {
		results, err := d.Query(context.Background(), query.Query{Prefix: prefix})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := results.Rest(); err != nil {
			b.Fatal(err)
		}
	}
}

func noError(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
