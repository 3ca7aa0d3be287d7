package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"pmemtable/table"
)

// ackBytes is the size of an acknowledgement: the number of an entry whose Put
// has returned, little-endian.
const ackBytes = 4

// window bounds how far the child may be ahead of what the parent has read.
// A pipe alone holds thousands of acknowledgements: without the bound the
// child would be done when the parent thinks that it is half way. A hundredth
// of the data leaves something to kill in the last round, whatever the dice say.
func window(entries []entry) int { return len(entries) / 100 }

// Write is the life of the child. It puts the entries from number from on into
// the table with several goroutines, and writes an acknowledgement to acks
// after each Put has returned; for every one that the parent has read it gets
// back a byte on credits. It is meant to be killed, and ends by itself only
// when all is written or the parent is gone.
func Write(tablePath, dataPath string, from, writers int, credits io.Reader, acks io.Writer) (err error) {
	entries, err := load(dataPath)
	if err != nil {
		return err
	}
	t, err := table.Open(tablePath, &table.Options{Durability: table.OnSync, MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()

	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	inFlight := make(chan struct{}, window(entries))
	go takeCredits(credits, inFlight, stop)

	var next atomic.Int64
	next.Store(int64(from))
	var mu sync.Mutex // keeps an acknowledgement in one piece
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			var ack [ackBytes]byte
			for {
				i := next.Add(1) - 1
				if i >= int64(len(entries)) {
					return
				}
				select {
				case inFlight <- struct{}{}:
				case <-ctx.Done():
					return
				}
				if err := t.Put(entries[i].key, entries[i].value); err != nil {
					stop(err)
					return
				}
				binary.LittleEndian.PutUint32(ack[:], uint32(i))
				mu.Lock()
				_, err := acks.Write(ack[:])
				mu.Unlock()
				if err != nil {
					stop(err)
					return
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// takeCredits ends the child's work when the parent has gone.
func takeCredits(credits io.Reader, inFlight <-chan struct{}, stop context.CancelCauseFunc) {
	var buffer [256]byte
	for {
		n, err := credits.Read(buffer[:])
		for range n {
			<-inFlight
		}
		if err != nil {
			stop(errors.New("the demo's parent process has gone"))
			return
		}
	}
}
