// Package session is what runs on the machine that will lose its power: it opens
// one table for each durability, tells what it found, and writes until the end,
// telling what was acknowledged.
package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"pmemtable/internal/guest/history"
	"pmemtable/table"
)

// Fail sends the line for an error.
func Fail(out io.Writer, err error) {
	_, _ = fmt.Fprintf(out, "%s %s\n", verbError, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// Serve is a session with an observer, whose lines come from r and who reads w.
// acks, where it is not nil, gets the acknowledgements instead of w.
func Serve(r io.Reader, w, acks io.Writer) error {
	if _, err := io.WriteString(w, verbHello+"\n"); err != nil {
		return err
	}
	in := bufio.NewReader(r)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("waiting for the configuration: %w", err)
	}
	var cfg Config
	if err := json.Unmarshal(line, &cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return run(cfg, in, w, acks)
}

// run is the session from its tables' opening to the last line.
func run(cfg Config, in *bufio.Reader, out, acks io.Writer) error {
	s := &session{cfg: cfg, out: &lockedWriter{w: out}, began: time.Now()}
	if s.acks = acks; acks == nil {
		s.acks = s.out
	}
	if err := s.open(); err != nil {
		return err
	}
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("waiting for the start: %w", err)
	}
	var start Start
	if err := json.Unmarshal(line, &start); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := s.write(start, in); err != nil {
		return err
	}
	for _, o := range s.opened {
		if err := o.Table.Close(); err != nil {
			return err
		}
	}
	_, err = io.WriteString(s.out, verbDone+"\n")
	return err
}

type session struct {
	cfg    Config
	out    io.Writer
	acks   io.Writer
	began  time.Time
	opened []*Opened
	stop   atomic.Bool
}

// lockedWriter keeps lines of several writers apart.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// open opens the tables and tells what they hold.
func (s *session) open() error {
	if _, err := io.WriteString(s.out, verbOpening+"\n"); err != nil {
		return err
	}
	var told strings.Builder
	for i, spec := range Specs {
		o, err := Open(s.cfg, spec)
		if err != nil {
			return err
		}
		s.opened = append(s.opened, o)
		fmt.Fprintf(&told, "%s %d %s: %s\n", verbTable, i, spec.Name, o.Text)
		for w, state := range o.Found {
			for key, stamp := range state {
				fmt.Fprintf(&told, "%s %d %d %d %d %d\n", verbEntry, i, w, key, stamp.Boot, stamp.N)
			}
		}
	}
	told.WriteString(verbReady + "\n")
	_, err := io.WriteString(s.out, told.String())
	return err
}

// write lets all writers write until they have made their steps or the observer
// says stop.
func (s *session) write(start Start, in *bufio.Reader) error {
	if len(start.From) != len(s.opened) {
		return fmt.Errorf("start names %d tables", len(start.From))
	}
	if start.Steps == 0 {
		go func() {
			line, err := in.ReadString('\n')
			s.stop.Store(err == nil && line == "stop\n")
		}()
	}
	var writers, syncers sync.WaitGroup
	var failed atomic.Pointer[error]
	fail := func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
			s.stop.Store(true)
		}
	}
	ended := make(chan struct{})
	for i, o := range s.opened {
		if len(start.From[i]) != s.cfg.Writers {
			return fmt.Errorf("start names %d writers", len(start.From[i]))
		}
		acked := make([]atomic.Uint64, s.cfg.Writers)
		for w := range s.cfg.Writers {
			acked[w].Store(start.From[i][w])
			writers.Go(func() { fail(s.writer(i, w, &acked[w], start.Steps)) })
		}
		if Specs[i].Promise == history.Synced {
			syncers.Go(func() { fail(s.syncer(i, o.Table, acked, ended)) })
		}
	}
	writers.Wait()
	close(ended)
	syncers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// pause between the steps of a table that does not wait for the medium: without it
// those would leave the one that does no time.
const pause = 3 * time.Millisecond

func (s *session) writer(i, w int, acked *atomic.Uint64, steps uint64) error {
	t := s.opened[i].Table
	first := acked.Load() + 1
	for n := first; !s.stop.Load() && (steps == 0 || n < first+steps); n++ {
		a := history.Ack{N: n, Start: time.Since(s.began)}
		if err := step(t, s.cfg, w, n); err != nil {
			return fmt.Errorf("%s: writer %d, step %d: %w", Specs[i].Name, w, n, err)
		}
		a.End = time.Since(s.began)
		acked.Store(n)
		if _, err := io.WriteString(s.acks, ackLine(i, w, a)); err != nil {
			return err
		}
		if Specs[i].Promise != history.All {
			time.Sleep(pause)
		}
	}
	return nil
}

// step makes a step, and reads it back now and then.
func step(t *table.Table, cfg Config, w int, n uint64) error {
	op := history.OpAt(cfg.Seed, w, n)
	key := history.Key(w, op.Key)
	if op.Delete {
		return t.Delete(key)
	}
	stamp := history.Stamp{Boot: cfg.Boot, N: n}
	if err := t.Put(key, history.Value(cfg.Seed, w, stamp, op.Bytes)); err != nil || n%8 != 0 {
		return err
	}
	value, err := t.Get(key)
	if err != nil {
		return err
	}
	if have, err := history.ParseValue(cfg.Seed, w, op.Key, value); err != nil || have != stamp {
		return errors.Join(err, fmt.Errorf("read back %v, not %v", have, stamp))
	}
	return nil
}

// syncer calls Sync now and then, and tells what each call covers: what had been
// acknowledged before it began.
func (s *session) syncer(i int, t *table.Table, acked []atomic.Uint64, ended chan struct{}) error {
	for {
		select {
		case <-ended:
			return nil
		case <-time.After(time.Duration(20+rand.IntN(300)) * time.Millisecond):
		}
		covered := make([]uint64, len(acked))
		for w := range acked {
			covered[w] = acked[w].Load()
		}
		if s.cfg.Lie {
			continue
		}
		if err := t.Sync(); err != nil {
			return err
		}
		if _, err := io.WriteString(s.acks, syncLine(i, covered)); err != nil {
			return err
		}
	}
}
