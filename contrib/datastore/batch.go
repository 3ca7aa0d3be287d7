package datastore

import (
	"context"
	"fmt"

	ds "github.com/ipfs/go-datastore"

	"pmemtable/table"
)

// batchChanges is how many changes one table.Batch takes.
const batchChanges = table.MaxBatch

const (
	maxKeyBytes   = 65535
	maxValueBytes = 1 << 30
)

// batch is a ds.Batch, for one goroutine at a time.
type batch struct {
	store *Datastore
	parts []*table.Batch // applied in this order
}

// Batch returns a batch, for one goroutine at a time. Its Commit is all or nothing
// across any crash for up to 4,091 keys. A larger one, which the interface allows, is
// committed in parts of as many, in the order of its calls, each of them all or nothing;
// a transaction is never split. A batch holds copies of its keys and values.
func (d *Datastore) Batch(ctx context.Context) (ds.Batch, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	return &batch{store: d}, nil
}

// Put implements ds.Write. table.ErrTooLarge comes at once, not with Commit.
func (b *batch) Put(ctx context.Context, key ds.Key, value []byte) error {
	if err := checkSizes(ctx, key, value); err != nil {
		return err
	}
	b.part().Put(key.Bytes(), value)
	return nil
}

// Delete implements ds.Write.
func (b *batch) Delete(ctx context.Context, key ds.Key) error {
	if err := checkSizes(ctx, key, nil); err != nil {
		return err
	}
	b.part().Delete(key.Bytes())
	return nil
}

// part returns the table.Batch that takes the next change. A key that a full part
// already has comes into a later one, and so wins.
func (b *batch) part() *table.Batch {
	if n := len(b.parts); n > 0 && b.parts[n-1].Len() < batchChanges {
		return b.parts[n-1]
	}
	b.parts = append(b.parts, table.NewBatch())
	return b.parts[len(b.parts)-1]
}

// Commit implements ds.Batch. After an error the parts before the one that failed are
// stored, and Commit may be called again.
func (b *batch) Commit(ctx context.Context) error {
	if err := b.store.usable(ctx); err != nil {
		return err
	}
	for len(b.parts) > 0 {
		if err := b.store.write(ctx, func() error { return b.store.table.Apply(b.parts[0]) }); err != nil {
			return err
		}
		b.parts = b.parts[1:]
	}
	return nil
}

// checkSizes refuses what no Commit could store, and ends with ctx.
func checkSizes(ctx context.Context, key ds.Key, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n := len(key.String()); n > maxKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes", table.ErrTooLarge, n)
	}
	if len(value) > maxValueBytes {
		return fmt.Errorf("%w: a value of %d bytes", table.ErrTooLarge, len(value))
	}
	return nil
}
