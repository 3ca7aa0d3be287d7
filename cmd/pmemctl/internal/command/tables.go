package command

import (
	"context"
	"errors"
	"time"

	"pmemtable/table"
)

// withReader runs fn on a table that is opened read-only. A Ctrl-C ends it at
// once: there is nothing to put in order.
func withReader(ctx context.Context, path string, fn func(t *table.Table) error) error {
	return interruptible(ctx, func() error {
		return with(path, table.Options{ReadOnly: true}, fn)
	})
}

// withWriter runs fn on a table that exists and that nobody else writes. The
// table is opened with Durability Always unless the options say otherwise.
func withWriter(path string, o table.Options, fn func(t *table.Table) error) error {
	o.MustExist = true
	return with(path, o, fn)
}

// with closes the table whatever happens: closing is what makes it clean.
func with(path string, o table.Options, fn func(t *table.Table) error) (err error) {
	t, err := table.Open(path, &o)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := t.Close(); err == nil {
			err = closeErr
		}
	}()
	return fn(t)
}

const graceful = 300 * time.Millisecond

// interruptible stops waiting for work when the user has had enough of it.
// Work that watches ctx gets a moment to end by itself; work that is stuck in
// a read of a terminal or a write to a full pipe is left behind.
func interruptible(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(graceful):
		return ctx.Err()
	}
}

var errStop = errors.New("enough entries")

// entries walks over the table and hands each entry to fn until fn fails. A
// key that is there throughout comes exactly once, whatever a writer does.
func entries(ctx context.Context, t *table.Table, fn func(key, value []byte) error) error {
	for cursor, done := uint64(0), false; !done; done = cursor == 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if cursor, err = t.Scan(cursor, fn); err != nil {
			return err
		}
	}
	return nil
}
