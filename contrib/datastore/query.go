package datastore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"pmemtable/table"
)

// Query answers as of one instant, that of the call, whatever is written while the
// results are read. A hash table has no order: every query walks over all n entries,
// O(n) time, whatever its prefix, and copies their values even if KeysOnly is set.
// Filters, Offset and Limit stream, and a Limit ends the walk; Orders collect what
// matches in memory first, and sort it. Close the results unless they were read to the
// end: until then the space of what they reach is not used again.
//
// Size is always set, Expiration never. ctx ends the walk with an error result.
// A table that was opened read-only has no such instant, since another process may
// write it: there a query is weakly consistent, as table.Table.Scan.
func (d *Datastore) Query(ctx context.Context, q query.Query) (query.Results, error) {
	if err := d.usable(ctx); err != nil {
		return nil, err
	}
	w := &walk{ctx: ctx, keysOnly: q.KeysOnly}
	snapshot, err := d.table.Snapshot()
	switch {
	case err == nil:
		w.scan, w.closer = snapshot.Scan, snapshot
	case errors.Is(err, table.ErrReadOnly):
		w.scan = d.table.Scan
	default:
		return nil, err
	}
	return w.results(q), nil
}

// walk is an iteration over entries, step by step.
type walk struct {
	ctx      context.Context
	keysOnly bool
	scan     func(cursor uint64, fn func(key, value []byte) error) (uint64, error)
	closer   io.Closer         // of what scan reads; may be nil
	changes  map[string]change // of a transaction: they replace what scan finds

	prefix string // that all keys begin with
	cursor uint64
	ready  []query.Entry // of the step, not yet returned
	last   bool          // no step is left
}

// results applies q to the walk by go-datastore's own functions, but for the prefix,
// which needs no result to be made.
func (w *walk) results(q query.Query) query.Results {
	rest := q
	if prefix := ds.NewKey(q.Prefix).String(); prefix != "/" {
		w.prefix, rest.Prefix = prefix+"/", ""
	}
	for key, c := range w.changes {
		if !c.deleted {
			w.take(key, bytes.Clone(c.value))
		}
	}
	all := query.ResultsFromIterator(q, query.Iterator{Next: w.next, Close: w.close})
	return query.NaiveQueryApply(rest, all)
}

func (w *walk) take(key string, value []byte) {
	if !strings.HasPrefix(key, w.prefix) {
		return
	}
	e := query.Entry{Key: key, Size: len(value)}
	if !w.keysOnly {
		e.Value = value
	}
	w.ready = append(w.ready, e)
}

func (w *walk) next() (query.Result, bool) {
	for len(w.ready) == 0 {
		if w.last {
			return query.Result{}, false
		}
		if err := w.step(); err != nil {
			w.last = true
			return query.Result{Error: err}, true
		}
	}
	if err := w.ctx.Err(); err != nil {
		w.last, w.ready = true, nil
		return query.Result{Error: err}, true
	}
	e := w.ready[0]
	w.ready = w.ready[1:]
	return query.Result{Entry: e}, true
}

func (w *walk) step() (err error) {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.ready = w.ready[:0]
	w.cursor, err = w.scan(w.cursor, func(key, value []byte) error {
		if _, changed := w.changes[string(key)]; !changed {
			w.take(string(key), value)
		}
		return nil
	})
	w.last = w.cursor == 0
	return err
}

// close is called when the results end, and by each Close of theirs.
func (w *walk) close() error {
	w.last, w.ready = true, nil
	if w.closer == nil {
		return nil
	}
	return w.closer.Close()
}
