package datastore_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/shoenig/test/must"

	"pmemtable/contrib/datastore"
	"pmemtable/table"
)

// batchChanges is what docs promise to be all or nothing.
const batchChanges = 4091

// TestLargeBatch: a batch of more than one part, whose last change of a key counts; as a
// transaction it is refused.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	const n = 2*batchChanges + 10
	b, err := d.Batch(t.Context())
	must.NoError(t, err)
	txn, err := d.NewTransaction(t.Context(), false)
	must.NoError(t, err)
	value := []byte("first")
	for _, w := range []ds.Write{b, txn} {
		for i := range n {
			must.NoError(t, w.Put(t.Context(), ds.NewKey(strconv.Itoa(i)), value))
		}
	}
	copy(value, "other") // the batch has copies
	must.NoError(t, b.Put(t.Context(), ds.NewKey("0"), []byte("last")))
	must.NoError(t, b.Delete(t.Context(), ds.NewKey("1")))
	must.SliceEmpty(t, keys(t, d, query.Query{}))

	must.ErrorIs(t, txn.Commit(t.Context()), table.ErrTooLarge)
	txn.Discard(t.Context())
	must.SliceEmpty(t, keys(t, d, query.Query{}))

	must.NoError(t, b.Commit(t.Context()))
	must.Eq(t, n-1, d.Table().Len())
	for key, want := range map[string]string{"0": "last", "2": "first", strconv.Itoa(n - 1): "first"} {
		got, err := d.Get(t.Context(), ds.NewKey(key))
		must.NoError(t, err)
		must.Eq(t, want, string(got))
	}
}

// TestTransactionOfFullSize: as many changes as promised go into one.
func TestTransactionOfFullSize(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	txn, err := d.NewTransaction(t.Context(), false)
	must.NoError(t, err)
	for i := range batchChanges {
		must.NoError(t, txn.Put(t.Context(), ds.NewKey(strconv.Itoa(i)), nil))
	}
	must.NoError(t, txn.Commit(t.Context()))
	must.Eq(t, batchChanges, d.Table().Len())
}

func TestTransactionSeesItself(t *testing.T) {
	d := fresh(t)
	ctx := t.Context()
	a, b, c := ds.NewKey("/a"), ds.NewKey("/b"), ds.NewKey("/c")
	must.NoError(t, d.Put(ctx, a, []byte("1")))
	must.NoError(t, d.Put(ctx, b, []byte("1")))
	txn, err := d.NewTransaction(ctx, false)
	must.NoError(t, err)
	must.NoError(t, txn.Delete(ctx, a))
	must.NoError(t, txn.Put(ctx, c, []byte("three")))
	_, err = txn.Get(ctx, a)
	must.ErrorIs(t, err, ds.ErrNotFound)
	size, err := txn.GetSize(ctx, c)
	must.NoError(t, err)
	must.Eq(t, 5, size)
	must.SliceContainsAll(t, []string{"/b", "/c"}, keys(t, txn, query.Query{}))
	must.SliceContainsAll(t, []string{"/a", "/b"}, keys(t, d, query.Query{}))

	value, err := txn.Get(ctx, c)
	must.NoError(t, err)
	copy(value, "XXXXX") // the caller's
	txn.Discard(ctx)
	must.SliceContainsAll(t, []string{"/a", "/b"}, keys(t, d, query.Query{}))
	_, err = txn.Get(ctx, a)
	must.ErrorIs(t, err, datastore.ErrTxnDone)
	must.ErrorIs(t, txn.Commit(ctx), datastore.ErrTxnDone)
	txn.Discard(ctx)
}

func TestReadOnlyTransaction(t *testing.T) {
	d := fresh(t)
	txn, err := d.NewTransaction(t.Context(), true)
	must.NoError(t, err)
	must.ErrorIs(t, txn.Put(t.Context(), ds.NewKey("/a"), nil), table.ErrReadOnly)
	must.ErrorIs(t, txn.Delete(t.Context(), ds.NewKey("/a")), table.ErrReadOnly)
	must.NoError(t, d.Put(t.Context(), ds.NewKey("/a"), nil))
	has, err := txn.Has(t.Context(), ds.NewKey("/a"))
	must.NoError(t, err)
	must.False(t, has, must.Sprint("as of its beginning"))
	must.NoError(t, txn.Commit(t.Context()))
}

// TestConflicts: what a transaction read and others changed meanwhile.
func TestConflicts(t *testing.T) {
	a, b := ds.NewKey("/a"), ds.NewKey("/b")
	type step func(t *testing.T, d *datastore.Datastore, txn ds.Txn) error
	get := func(key ds.Key) step {
		return func(t *testing.T, _ *datastore.Datastore, txn ds.Txn) error {
			_, err := txn.Get(t.Context(), key)
			return err
		}
	}
	ask := func(t *testing.T, _ *datastore.Datastore, txn ds.Txn) error {
		_ = keys(t, txn, query.Query{Prefix: "/none"})
		return nil
	}
	put := func(key ds.Key, value string) step {
		return func(t *testing.T, d *datastore.Datastore, _ ds.Txn) error {
			return d.Put(t.Context(), key, []byte(value))
		}
	}
	del := func(t *testing.T, d *datastore.Datastore, _ ds.Txn) error { return d.Delete(t.Context(), a) }
	for name, test := range map[string]struct {
		steps    []step
		conflict bool
	}{
		"read, not changed":         {[]step{get(a)}, false},
		"read, other key changed":   {[]step{get(a), put(b, "2")}, false},
		"read and changed":          {[]step{get(a), put(a, "2")}, true},
		"changed and read":          {[]step{put(a, "2"), get(a)}, true},
		"read and deleted":          {[]step{get(a), del}, true},
		"changed there and back":    {[]step{get(a), put(a, "2"), put(a, "1")}, false},
		"absent, then there":        {[]step{get(ds.NewKey("/c")), put(ds.NewKey("/c"), "")}, true},
		"queried, other change":     {[]step{ask, put(b, "2")}, true},
		"changed, then queried":     {[]step{put(b, "2"), ask}, true},
		"changed, not read":         {[]step{put(a, "2"), put(b, "2")}, false},
		"queried, nothing happened": {[]step{ask}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t)
			must.NoError(t, d.Put(t.Context(), a, []byte("1")))
			must.NoError(t, d.Put(t.Context(), b, []byte("1")))
			txn, err := d.NewTransaction(t.Context(), false)
			must.NoError(t, err)
			defer txn.Discard(t.Context())
			for _, s := range test.steps {
				if err := s(t, d, txn); !errors.Is(err, ds.ErrNotFound) {
					must.NoError(t, err)
				}
			}
			must.NoError(t, txn.Put(t.Context(), ds.NewKey("/mine"), nil))
			err = txn.Commit(t.Context())
			has, e := d.Has(t.Context(), ds.NewKey("/mine"))
			must.NoError(t, e)
			must.Eq(t, !test.conflict, has)
			if test.conflict {
				must.ErrorIs(t, err, datastore.ErrConflict)
			} else {
				must.NoError(t, err)
			}
		})
	}
}

// TestNoUpdateIsLost: transactions on several goroutines that add to one counter, beside
// puts of another key.
func TestNoUpdateIsLost(t *testing.T) {
	d := fresh(t)
	ctx, counter := t.Context(), ds.NewKey("/counter")
	add := func() error {
		txn, err := d.NewTransaction(ctx, false)
		if err != nil {
			return err
		}
		defer txn.Discard(ctx)
		value, err := txn.Get(ctx, counter)
		if err != nil && !errors.Is(err, ds.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(value)) // 0 when absent
		if err := txn.Put(ctx, counter, []byte(strconv.Itoa(n+1))); err != nil {
			return err
		}
		return txn.Commit(ctx)
	}
	const workers, each = 4, 50
	errs := make(chan error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := 0; i < each; {
				err := add()
				if err == nil {
					i++
				} else if !errors.Is(err, datastore.ErrConflict) {
					errs <- err
					return
				}
				if err := d.Put(ctx, ds.NewKey(fmt.Sprint("/other/", w)), nil); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	must.NoError(t, <-errs)
	value, err := d.Get(ctx, counter)
	must.NoError(t, err)
	must.Eq(t, strconv.Itoa(workers*each), string(value))
}
