// Package datastore keeps a github.com/ipfs/go-datastore in a pmemtable: one file
// that opens in milliseconds at any size, without a log to replay.
//
//	store, err := datastore.Open("blocks.pmt", nil)
//	...
//	defer store.Close()
//	err = store.Put(ctx, ds.NewKey("/peers/alice"), value)
//
// A Datastore is a Batching, a TxnDatastore, a PersistentDatastore, a
// CheckedDatastore, a ScrubbedDatastore and a GCDatastore. It is no TTLDatastore:
// the table does not expire entries, and a sweep that looked at each of them now and
// then would be no more than what a program can do with Query.
//
// Writes are durable when they return, as table.Options.Durability says; what that
// means on which medium is in docs/durability.md of the table.
//
// # Errors
//
// A key that is not there is ds.ErrNotFound. All other errors are the table's own and
// wrapped at most, so that errors.Is finds table.ErrClosed, table.ErrFull,
// table.ErrTooLarge (keys of more than 65,535 bytes, values of more than 1 GiB),
// table.ErrCorrupt, table.ErrPoisoned and table.ErrReadOnly; and the context's.
// A context that has ended stops a call before it begins and a query between two
// entries; a write that has begun is not interrupted.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	ds "github.com/ipfs/go-datastore"

	"pmemtable/table"
)

// ErrConflict: what a transaction read was changed by others before its Commit, which
// changed nothing. Begin it anew.
var ErrConflict = errors.New("datastore: transaction is stale")

// Datastore is a datastore in a table. All its methods may be called from many
// goroutines at the same time, Close included.
type Datastore struct {
	table  *table.Table
	closed atomic.Bool

	// commits is held shared by each write, and exclusively by the commit of a
	// transaction, from the check of what it read to the end of its batch.
	commits sync.RWMutex
	// writes counts writes, each after its end.
	writes atomic.Uint64
}

var (
	_ ds.Batching            = (*Datastore)(nil)
	_ ds.TxnDatastore        = (*Datastore)(nil)
	_ ds.PersistentDatastore = (*Datastore)(nil)
	_ ds.CheckedDatastore    = (*Datastore)(nil)
	_ ds.ScrubbedDatastore   = (*Datastore)(nil)
	_ ds.GCDatastore         = (*Datastore)(nil)
)

// Open opens the datastore in the table at path, or creates it. nil are the table's
// defaults: each write is durable against power loss when it returns.
func Open(path string, opts *table.Options) (*Datastore, error) {
	t, err := table.Open(path, opts)
	if err != nil {
		return nil, err
	}
	return &Datastore{table: t}, nil
}

// Table returns the table behind the datastore, for its Stats and Backup. It belongs to
// the datastore. A write to it is not seen by the transactions' search for conflicts.
func (d *Datastore) Table() *table.Table { return d.table }

// translate makes ds.ErrNotFound of the table's.
func translate(err error) error {
	if errors.Is(err, table.ErrNotFound) {
		return ds.ErrNotFound
	}
	return err
}

// Get returns a copy of the value of key, which the caller owns, or ds.ErrNotFound.
// O(1).
func (d *Datastore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, err := d.table.Get(key.Bytes())
	return value, translate(err)
}

// Has tells whether key is there. It does not read the value. O(1).
func (d *Datastore) Has(ctx context.Context, key ds.Key) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return d.table.Has(key.Bytes())
}

// GetSize returns the size of the value of key in bytes, without copying it; -1 and
// ds.ErrNotFound if there is none. O(1).
func (d *Datastore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	size := -1
	err := d.table.View(key.Bytes(), func(value []byte) error {
		size = len(value)
		return nil
	})
	return size, translate(err)
}

// Put stores value under key. It does not retain value. O(1).
func (d *Datastore) Put(ctx context.Context, key ds.Key, value []byte) error {
	return d.write(ctx, func() error { return d.table.Put(key.Bytes(), value) })
}

// Delete removes key; it is no error if it is not there. O(1).
func (d *Datastore) Delete(ctx context.Context, key ds.Key) error {
	return d.write(ctx, func() error { return d.table.Delete(key.Bytes()) })
}

// write runs a write that is no transaction.
func (d *Datastore) write(ctx context.Context, fn func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.commits.RLock()
	defer d.commits.RUnlock()
	defer d.writes.Add(1)
	return fn()
}

// Sync returns when all that was written before is durable, whatever prefix says.
func (d *Datastore) Sync(ctx context.Context, prefix ds.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.table.Sync()
}

// DiskUsage returns the size of the file in bytes, room for new entries included.
func (d *Datastore) DiskUsage(ctx context.Context) (uint64, error) {
	if err := d.usable(ctx); err != nil {
		return 0, err
	}
	return uint64(d.table.Stats().FileSizeBytes), nil
}

// Check verifies the whole table as of one instant, the checksum of every entry
// included, while others go on. Damage is table.ErrCorrupt, with the place. It reads
// the whole file: O(n).
func (d *Datastore) Check(ctx context.Context) error {
	_, err := d.table.CheckWith(ctx, table.CheckOptions{})
	return err
}

// Scrub is Check. Nothing is corrected in place: table.Repair, or pmemctl repair, saves
// what is intact of a damaged file to a new one.
func (d *Datastore) Scrub(ctx context.Context) error { return d.Check(ctx) }

// CollectGarbage gives space that deleted entries left back to the file system, while
// others go on. Space is used again without it. Once begun it does not heed ctx. O(n).
func (d *Datastore) CollectGarbage(ctx context.Context) error {
	if err := d.usable(ctx); err != nil {
		return err
	}
	return d.table.Compact()
}

func (d *Datastore) usable(ctx context.Context) error {
	if d.closed.Load() {
		return fmt.Errorf("datastore: %w", table.ErrClosed)
	}
	return ctx.Err()
}

// Close waits for the writes under way and makes all durable. Later calls, and queries
// and transactions that are still open, get table.ErrClosed. It is idempotent.
func (d *Datastore) Close() error {
	d.closed.Store(true)
	return d.table.Close()
}
