package datastore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dstest "github.com/ipfs/go-datastore/test"
	"github.com/shoenig/test/must"

	"pmemtable/contrib/datastore"
	"pmemtable/table"
)

func open(t testing.TB, path string) *datastore.Datastore {
	d, err := datastore.Open(path, &table.Options{Stripes: 4, Durability: table.OnSync})
	must.NoError(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func fresh(t testing.TB) *datastore.Datastore { return open(t, filepath.Join(t.TempDir(), "t.pmt")) }

// TestSuite is go-datastore's own suite.
func TestSuite(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	dstest.SubtestAll(t, d)
	must.Zero(t, d.Table().Stats().Snapshots, must.Sprint("every query gave its snapshot back"))
	must.NoError(t, d.Check(t.Context()))
}

// onTransactions runs each call in a transaction of its own.
type onTransactions struct{ *datastore.Datastore }

func (o onTransactions) in(ctx context.Context, fn func(ds.Txn) error) error {
	txn, err := o.NewTransaction(ctx, false)
	if err != nil {
		return err
	}
	defer txn.Discard(ctx)
	if err := fn(txn); err != nil {
		return err
	}
	return txn.Commit(ctx)
}

func (o onTransactions) Get(ctx context.Context, key ds.Key) (value []byte, err error) {
	err = o.in(ctx, func(txn ds.Txn) (err error) { value, err = txn.Get(ctx, key); return err })
	return value, err
}

func (o onTransactions) Has(ctx context.Context, key ds.Key) (has bool, err error) {
	err = o.in(ctx, func(txn ds.Txn) (err error) { has, err = txn.Has(ctx, key); return err })
	return has, err
}

func (o onTransactions) GetSize(ctx context.Context, key ds.Key) (size int, err error) {
	err = o.in(ctx, func(txn ds.Txn) (err error) { size, err = txn.GetSize(ctx, key); return err })
	return size, err
}

func (o onTransactions) Put(ctx context.Context, key ds.Key, value []byte) error {
	return o.in(ctx, func(txn ds.Txn) error { return txn.Put(ctx, key, value) })
}

func (o onTransactions) Delete(ctx context.Context, key ds.Key) error {
	return o.in(ctx, func(txn ds.Txn) error { return txn.Delete(ctx, key) })
}

// Query discards the transaction when its results are closed.
func (o onTransactions) Query(ctx context.Context, q query.Query) (query.Results, error) {
	txn, err := o.NewTransaction(ctx, true)
	if err != nil {
		return nil, err
	}
	r, err := txn.Query(ctx, q)
	if err != nil {
		txn.Discard(ctx)
		return nil, err
	}
	return query.ResultsFromIterator(q, query.Iterator{Next: r.NextSync, Close: func() error {
		defer txn.Discard(ctx)
		return r.Close()
	}}), nil
}

// TestSuiteInTransactions is the same suite, each call a transaction.
func TestSuiteInTransactions(t *testing.T) {
	t.Parallel()
	dstest.SubtestAll(t, onTransactions{fresh(t)})
}

func TestFeatures(t *testing.T) {
	var names []string
	for _, f := range ds.FeaturesForDatastore(fresh(t)) {
		names = append(names, f.Name)
	}
	must.Eq(t, []string{"Batching", "Checked", "GC", "Persistent", "Scrubbed", "Transaction"}, names)
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.pmt")
	d := open(t, path)
	must.NoError(t, d.Put(t.Context(), ds.NewKey("/a"), []byte("1")))
	_, err := datastore.Open(path, nil)
	must.ErrorIs(t, err, table.ErrLocked)
	must.NoError(t, d.Close())
	value, err := open(t, path).Get(t.Context(), ds.NewKey("/a"))
	must.NoError(t, err)
	must.Eq(t, "1", string(value))
}

// calls are all methods that can fail.
func calls(d *datastore.Datastore) map[string]func(context.Context) error {
	a := ds.NewKey("/a")
	return map[string]func(context.Context) error{
		"Get":            func(ctx context.Context) error { _, err := d.Get(ctx, a); return err },
		"Has":            func(ctx context.Context) error { _, err := d.Has(ctx, a); return err },
		"GetSize":        func(ctx context.Context) error { _, err := d.GetSize(ctx, a); return err },
		"Put":            func(ctx context.Context) error { return d.Put(ctx, a, nil) },
		"Delete":         func(ctx context.Context) error { return d.Delete(ctx, a) },
		"Sync":           func(ctx context.Context) error { return d.Sync(ctx, a) },
		"DiskUsage":      func(ctx context.Context) error { _, err := d.DiskUsage(ctx); return err },
		"Check":          d.Check,
		"Scrub":          d.Scrub,
		"CollectGarbage": d.CollectGarbage,
		"Query":          func(ctx context.Context) error { _, err := d.Query(ctx, query.Query{}); return err },
		"Batch":          func(ctx context.Context) error { _, err := d.Batch(ctx); return err },
		"NewTransaction": func(ctx context.Context) error { _, err := d.NewTransaction(ctx, false); return err },
	}
}

func TestEndedContext(t *testing.T) {
	d := fresh(t)
	a := ds.NewKey("/a")
	must.NoError(t, d.Put(t.Context(), a, []byte("1")))
	b, err := d.Batch(t.Context())
	must.NoError(t, err)
	txn, err := d.NewTransaction(t.Context(), false)
	must.NoError(t, err)
	defer txn.Discard(t.Context())
	must.NoError(t, b.Put(t.Context(), a, []byte("2")))
	must.NoError(t, txn.Put(t.Context(), a, []byte("3")))

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	all := calls(d)
	all["Batch.Put"] = func(ctx context.Context) error { return b.Put(ctx, a, nil) }
	all["Batch.Delete"] = func(ctx context.Context) error { return b.Delete(ctx, a) }
	all["Batch.Commit"] = b.Commit
	all["Txn.Get"] = func(ctx context.Context) error { _, err := txn.Get(ctx, a); return err }
	all["Txn.Query"] = func(ctx context.Context) error { _, err := txn.Query(ctx, query.Query{}); return err }
	all["Txn.Put"] = func(ctx context.Context) error { return txn.Put(ctx, a, nil) }
	all["Txn.Delete"] = func(ctx context.Context) error { return txn.Delete(ctx, a) }
	all["Txn.Commit"] = txn.Commit
	for name, call := range all {
		must.ErrorIs(t, call(ended), context.Canceled, must.Sprint(name))
	}
	value, err := d.Get(t.Context(), a)
	must.NoError(t, err)
	must.Eq(t, "1", string(value), must.Sprint("nothing was changed"))
}

func TestClosed(t *testing.T) {
	d := fresh(t)
	ctx, a := t.Context(), ds.NewKey("/a")
	must.NoError(t, d.Put(ctx, a, []byte("1")))
	b, err := d.Batch(ctx)
	must.NoError(t, err)
	must.NoError(t, b.Put(ctx, a, []byte("2")))
	txn, err := d.NewTransaction(ctx, false)
	must.NoError(t, err)
	must.NoError(t, txn.Put(ctx, a, []byte("3")))
	results, err := d.Query(ctx, query.Query{})
	must.NoError(t, err)

	must.NoError(t, d.Close())
	must.NoError(t, d.Close())
	all := calls(d)
	all["Batch.Commit"], all["Txn.Commit"] = b.Commit, txn.Commit
	all["Txn.Get"] = func(ctx context.Context) error { _, err := txn.Get(ctx, ds.NewKey("/b")); return err }
	all["results"] = func(context.Context) error { _, err := results.Rest(); return err }
	for name, call := range all {
		must.ErrorIs(t, call(ctx), table.ErrClosed, must.Sprint(name))
	}
	must.NoError(t, results.Close())
	txn.Discard(ctx)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "t.pmt")
	d := open(t, path)
	long := ds.NewKey(strings.Repeat("k", 70000))
	b, err := d.Batch(ctx)
	must.NoError(t, err)
	txn, err := d.NewTransaction(ctx, false)
	must.NoError(t, err)
	defer txn.Discard(ctx)
	for _, w := range []ds.Write{d, b, txn} {
		must.ErrorIs(t, w.Put(ctx, long, nil), table.ErrTooLarge)
		must.ErrorIs(t, w.Delete(ctx, long), table.ErrTooLarge)
	}

	must.NoError(t, d.Put(ctx, ds.NewKey("/a"), []byte(strings.Repeat("good", 100))))
	usage, err := d.DiskUsage(ctx)
	must.NoError(t, err)
	info, err := os.Stat(path)
	must.NoError(t, err)
	must.Positive(t, usage)
	must.LessEq(t, uint64(info.Size()), usage, must.Sprint("a part of the file is a hole"))
	must.NoError(t, d.CollectGarbage(ctx))
	must.NoError(t, d.Close())

	content, err := os.ReadFile(path)
	must.NoError(t, err)
	must.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(content), "goodgood", "badbadba")), 0o600))
	d = open(t, path)
	_, err = d.Get(ctx, ds.NewKey("/a"))
	_, isCorrupt := errors.AsType[*table.CorruptError](err)
	must.True(t, isCorrupt, must.Sprint(err))
	must.ErrorIs(t, d.Check(ctx), table.ErrCorrupt)
	must.ErrorIs(t, d.Scrub(ctx), table.ErrCorrupt)
}

func TestReadOnly(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "t.pmt")
	d := open(t, path)
	must.NoError(t, d.Put(ctx, ds.NewKey("/a/b"), []byte("1")))
	must.NoError(t, d.Close())
	d, err := datastore.Open(path, &table.Options{ReadOnly: true})
	must.NoError(t, err)
	defer d.Close()
	must.ErrorIs(t, d.Put(ctx, ds.NewKey("/a"), nil), table.ErrReadOnly)
	_, err = d.NewTransaction(ctx, true)
	must.ErrorIs(t, err, table.ErrReadOnly)
	must.Eq(t, []string{"/a/b"}, keys(t, d, query.Query{Prefix: "/a"}))
}

// keys returns the keys of a query's results.
func keys(t *testing.T, d ds.Read, q query.Query) (names []string) {
	results, err := d.Query(t.Context(), q)
	must.NoError(t, err)
	entries, err := results.Rest()
	must.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Key)
	}
	return names
}

func Example() {
	dir, _ := os.MkdirTemp("", "datastore")
	defer os.RemoveAll(dir)
	store, err := datastore.Open(filepath.Join(dir, "blocks.pmt"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ctx := context.Background()
	_ = store.Put(ctx, ds.NewKey("/peers/alice"), []byte("10.0.0.1"))
	_ = store.Put(ctx, ds.NewKey("/peers/bob"), []byte("10.0.0.2"))
	q := query.Query{Prefix: "/peers", Orders: []query.Order{query.OrderByKey{}}}
	for entry, err := range ds.QueryIter(ctx, store, q) {
		fmt.Printf("%s %s %v\n", entry.Key, entry.Value, err)
	}
	// Output:
	// /peers/alice 10.0.0.1 <nil>
	// /peers/bob 10.0.0.2 <nil>
}
