package command

import (
	"context"
	"io"
	"sync"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// tally counts what an import has stored.
type tally struct{ entries, bytes int64 }

// batch is a run of records on the way from the goroutine that parses to the
// one that stores.
type batch struct {
	text    []byte
	records []span
	err     error // what ended the input after these records
}

// span is a record in a batch's text.
type span struct{ key, value, line int }

const (
	maxBatchRecords = 1024
	maxBatchBytes   = 2 << 20
	keepBatchBytes  = 8 << 20 // a buffer that one huge value blew up is let go
)

func (b *batch) add(r records.Record) {
	b.text = append(append(b.text, r.Key...), r.Value...)
	b.records = append(b.records, span{len(r.Key), len(r.Value), r.Line})
}

func (b *batch) full() bool {
	return len(b.records) >= maxBatchRecords || len(b.text) >= maxBatchBytes
}

func (b *batch) empty() bool { return len(b.records) == 0 && b.err == nil }

func (b *batch) reset() {
	if cap(b.text) > keepBatchBytes {
		b.text = nil
	}
	b.text, b.records, b.err = b.text[:0], b.records[:0], nil
}

// exchange is where the two meet: one fills a batch while the other stores
// the one before. There is one goroutine of each kind, for the last of equal
// keys must win, and the lines before a malformed one must be stored. The
// storing side takes whatever there is as soon as it is free, so that what
// came through a slow pipe does not wait for what comes next.
type exchange struct {
	mu      sync.Mutex
	changed *sync.Cond
	filling batch
	stopped bool
}

func newExchange() *exchange {
	x := new(exchange)
	x.changed = sync.NewCond(&x.mu)
	return x
}

// parse fills batches until the input ends or nobody wants them any more.
func (x *exchange) parse(reader records.Reader) {
	for {
		record, err := reader.Read()
		x.mu.Lock()
		for x.filling.full() && !x.stopped {
			x.changed.Wait()
		}
		if err == nil {
			x.filling.add(record)
		} else {
			x.filling.err = err
		}
		over := err != nil || x.stopped
		x.changed.Broadcast()
		x.mu.Unlock()
		if over {
			return
		}
	}
}

// take swaps an emptied batch for one with something in it; false means that
// stop was called before there was one.
func (x *exchange) take(b *batch) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.filling.empty() && !x.stopped {
		x.changed.Wait()
	}
	b.reset()
	*b, x.filling = x.filling, *b
	x.changed.Broadcast()
	return !x.stopped
}

func (x *exchange) stop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = true
	x.changed.Broadcast()
}

// pump stores the records of an input until it ends, which is no error, or
// something fails. Memory is bounded by two batches, or by a few of the longest
// lines where these are larger. When ctx ends, parse may be stuck in a read: it
// is left behind.
func pump(ctx context.Context, reader records.Reader, t *table.Table, progress *screen.Progress) (done tally, err error) {
	x := newExchange()
	defer x.stop()
	defer context.AfterFunc(ctx, x.stop)()
	go x.parse(reader)
	var b batch
	for x.take(&b) {
		if err := store(t, &b, &done); err != nil {
			return done, err
		}
		progress.Draw()
		if b.err == io.EOF {
			return done, nil
		}
		if b.err != nil {
			return done, b.err
		}
	}
	return done, ctx.Err()
}

func store(t *table.Table, b *batch, done *tally) error {
	text := b.text
	for _, r := range b.records {
		key, value := text[:r.key], text[r.key:r.key+r.value]
		text = text[r.key+r.value:]
		if err := t.Put(key, value); err != nil {
			return &records.LineError{Line: r.line, Err: err}
		}
		done.entries++
		done.bytes += int64(len(key) + len(value))
	}
	return nil
}
