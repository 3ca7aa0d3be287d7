package datastore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"pmemtable/table"
)

// ErrTxnDone: the transaction was committed or discarded.
var ErrTxnDone = errors.New("datastore: transaction is over")

// txn is a ds.Txn.
type txn struct {
	store    *Datastore
	readOnly bool
	snapshot *table.Snapshot // nil when it is over
	began    uint64          // Datastore.writes before the snapshot was made
	read     map[string]struct{}
	queried  bool
	changes  map[string]change // not yet in the table
}

type change struct {
	value   []byte
	deleted bool
}

// NewTransaction begins a transaction, for one goroutine at a time. It reads the
// datastore as of this instant, and its own changes, which Commit makes all or none,
// across any crash. Commit returns ErrConflict if a key that the transaction read has
// another value by then, or, if it made a query, if anything was written meanwhile: so
// transactions are serializable with each other and with all other writes through this
// Datastore. Outside of transactions and queries a reader may see some of the keys
// changed a moment before the others.
//
// A transaction changes at most 4,091 keys; Commit is table.ErrTooLarge above that.
// Discard, or a Commit that succeeds, ends it, and one of the two must be called: until
// then the space of what it sees is not used again. While a Commit waits to be durable,
// so do all other writes.
func (d *Datastore) NewTransaction(ctx context.Context, readOnly bool) (ds.Txn, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	// In this order: a write that the snapshot does not have is counted later.
	began := d.writes.Load()
	snapshot, err := d.table.Snapshot()
	if err != nil {
		return nil, err
	}
	return &txn{store: d, readOnly: readOnly, snapshot: snapshot, began: began,
		read: map[string]struct{}{}, changes: map[string]change{}}, nil
}

func (t *txn) usable(ctx context.Context) error {
	if t.snapshot == nil {
		return ErrTxnDone
	}
	return ctx.Err()
}

// Get implements ds.Read.
func (t *txn) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	if c, changed := t.changes[key.String()]; changed {
		if c.deleted {
			return nil, ds.ErrNotFound
		}
		return bytes.Clone(c.value), nil
	}
	t.read[key.String()] = struct{}{}
	value, err := t.snapshot.Get(key.Bytes())
	return value, translate(err)
}

// Has implements ds.Read.
func (t *txn) Has(ctx context.Context, key ds.Key) (bool, error) {
	return ds.GetBackedHas(ctx, t, key)
}

// GetSize implements ds.Read.
func (t *txn) GetSize(ctx context.Context, key ds.Key) (int, error) {
	return ds.GetBackedSize(ctx, t, key)
}

// Query implements ds.Read: Datastore.Query on what the transaction sees at the call.
func (t *txn) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	t.queried = true
	w := &walk{ctx: ctx, keysOnly: q.KeysOnly, scan: t.snapshot.Scan, changes: maps.Clone(t.changes)}
	return w.results(q), nil
}

// Put implements ds.Write. table.ErrTooLarge comes at once, not with Commit.
func (t *txn) Put(ctx context.Context, key ds.Key, value []byte) error {
	// Never nil, so that Get returns what a Get of the table does.
	return t.change(ctx, key, change{value: append([]byte{}, value...)})
}

// Delete implements ds.Write.
func (t *txn) Delete(ctx context.Context, key ds.Key) error {
	return t.change(ctx, key, change{deleted: true})
}

func (t *txn) change(ctx context.Context, key ds.Key, c change) error {
	if err := t.usable(ctx); err != nil {
		return err
	}
	if t.readOnly {
		return fmt.Errorf("datastore: transaction is %w", table.ErrReadOnly)
	}
	if err := checkSizes(ctx, key, c.value); err != nil {
		return err
	}
	t.changes[key.String()] = c
	return nil
}

// Commit implements ds.Txn. After any error nothing was changed, unless that was
// table.ErrPoisoned, and the transaction still has to be discarded.
func (t *txn) Commit(ctx context.Context) error {
	if err := t.usable(ctx); err != nil {
		return err
	}
	if len(t.changes) > 0 {
		if err := t.apply(); err != nil {
			return err
		}
	}
	t.Discard(ctx)
	return nil
}

func (t *txn) apply() error {
	b := table.NewBatch()
	for key, c := range t.changes {
		if c.deleted {
			b.Delete([]byte(key))
		} else {
			b.Put([]byte(key), c.value)
		}
	}
	d := t.store
	d.commits.Lock()
	defer d.commits.Unlock()
	if err := t.validate(); err != nil {
		return err
	}
	defer d.writes.Add(1)
	return d.table.Apply(b)
}

// validate tells by an ErrConflict that what the transaction read is not what it would
// read now. No write is under way.
func (t *txn) validate() error {
	if t.store.writes.Load() == t.began {
		return nil
	}
	if t.queried {
		return fmt.Errorf("%w: written to since it began, and it made a query", ErrConflict)
	}
	for key := range t.read {
		then, err := t.snapshot.Get([]byte(key))
		if err != nil && !errors.Is(err, table.ErrNotFound) {
			return err
		}
		now, e := t.store.table.Get([]byte(key))
		if e != nil && !errors.Is(e, table.ErrNotFound) {
			return e
		}
		if (err == nil) != (e == nil) || !bytes.Equal(then, now) {
			return fmt.Errorf("%w: %s was changed", ErrConflict, key)
		}
	}
	return nil
}

// Discard implements ds.Txn.
func (t *txn) Discard(context.Context) {
	if t.snapshot != nil {
		_ = t.snapshot.Close() // never fails
		t.snapshot = nil
	}
}
