package datastore_test

import (
	"context"
	"fmt"
	"testing"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/shoenig/test/must"

	"pmemtable/contrib/datastore"
)

// fill stores n entries /k/0 ... in several steps of an iteration.
func fill(t *testing.T, d *datastore.Datastore, n int) {
	for i := range n {
		must.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint("/k/", i)), []byte("before")))
	}
}

// TestQueryIsOneInstant: whatever is written while the results are read.
func TestQueryIsOneInstant(t *testing.T) {
	d := fresh(t)
	const n = 3000
	fill(t, d, n)
	results, err := d.Query(t.Context(), query.Query{Prefix: "/k"})
	must.NoError(t, err)
	for i := range n {
		must.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint("/new/", i)), nil))
		if i%2 == 0 {
			must.NoError(t, d.Delete(t.Context(), ds.NewKey(fmt.Sprint("/k/", i))))
		} else {
			must.NoError(t, d.Put(t.Context(), ds.NewKey(fmt.Sprint("/k/", i)), []byte("after")))
		}
	}
	entries, err := results.Rest()
	must.NoError(t, err)
	seen := map[string]bool{}
	for _, e := range entries {
		must.Eq(t, "before", string(e.Value))
		must.Eq(t, len("before"), e.Size)
		seen[e.Key] = true
	}
	must.Len(t, n, entries)
	must.MapLen(t, n, seen)
}

// TestQueryGivesItsSnapshotBack: however it ends.
func TestQueryGivesItsSnapshotBack(t *testing.T) {
	d := fresh(t)
	fill(t, d, 100)
	ctx, cancel := context.WithCancel(t.Context())
	for name, test := range map[string]struct {
		q   query.Query
		end func(query.Results) error
	}{
		"read":    {query.Query{}, func(r query.Results) error { _, err := r.Rest(); return err }},
		"limited": {query.Query{Limit: 1}, func(r query.Results) error { _, err := r.Rest(); return err }},
		"closed":  {query.Query{}, func(r query.Results) error { _, _ = r.NextSync(); return r.Close() }},
		"channel": {query.Query{}, func(r query.Results) error { <-r.Next(); return r.Close() }},
		"ordered": {query.Query{Orders: []query.Order{query.OrderByKey{}}}, func(r query.Results) error { return nil }},
		"nothing": {query.Query{Prefix: "/none"}, func(r query.Results) error { _, _ = r.NextSync(); return nil }},
	} {
		results, err := d.Query(ctx, test.q)
		must.NoError(t, err)
		must.NoError(t, test.end(results), must.Sprint(name))
		must.Zero(t, d.Table().Stats().Snapshots, must.Sprint(name))
	}

	results, err := d.Query(ctx, query.Query{})
	must.NoError(t, err)
	_, ok := results.NextSync()
	must.True(t, ok)
	cancel()
	rest, err := results.Rest()
	must.ErrorIs(t, err, context.Canceled)
	must.SliceEmpty(t, rest)
	must.NoError(t, results.Close())
	must.Zero(t, d.Table().Stats().Snapshots, must.Sprint("canceled"))
}
