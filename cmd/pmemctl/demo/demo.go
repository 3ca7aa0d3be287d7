package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"pmemtable/table"
)

// Options say how the demo runs. Only Self is needed.
type Options struct {
	Data    string // a file that pmemctl import reads; empty: the data in the program
	Dir     string // where the scratch table lies for a while; empty: os.TempDir
	Keep    bool   // leave the scratch table there
	Writers int    // 0: four
	Kills   int    // 0: three
	// Self starts this program as a child that calls Write. It gets the
	// arguments TABLE, DATA, FROM and WRITERS.
	Self []string
}

// Result is what a demo that passed has shown, and as far as it came otherwise.
type Result struct {
	Entries      int           `json:"entries"`      // of the data
	Kills        int           `json:"kills"`        // that lost nothing
	Acknowledged int           `json:"acknowledged"` // writes, at the last kill
	SlowestOpen  time.Duration `json:"slowest_reopen_ns"`
	SizeBytes    int64         `json:"file_size_bytes"`
	Puts         int           `json:"puts_per_second"`
	Gets         int           `json:"gets_per_second"`
	Kept         string        `json:"kept,omitempty"` // the scratch table, with Options.Keep
}

// ErrFailed means that the demo ran and that the table broke its promise.
var ErrFailed = errors.New("the table did not keep its promise")

// demo is the state of a run, in the parent process.
type demo struct {
	o            Options
	show         *Screen
	path         string
	entries      []entry
	acknowledged []bool // by the number of the entry
	count        int    // of those that are
	from         int    // the first that is not
	result       Result
}

// Run runs the demo. Its last line is the verdict, whatever happens.
func Run(ctx context.Context, o Options, show *Screen) (Result, error) {
	if o.Writers <= 0 {
		o.Writers = 4
	}
	if o.Kills <= 0 {
		o.Kills = 3
	}
	d := &demo{o: o, show: show}
	verdict, err := d.inScratchDirectory(ctx)
	if err != nil {
		show.fail(err)
		return d.result, err
	}
	show.pass(verdict)
	return d.result, nil
}

func (d *demo) inScratchDirectory(ctx context.Context) (verdict string, err error) {
	if d.entries, err = load(d.o.Data); err != nil {
		return "", err
	}
	d.result.Entries = len(d.entries)
	d.acknowledged = make([]bool, len(d.entries))
	dir, err := os.MkdirTemp(d.o.Dir, "pmemctl-demo-")
	if err != nil {
		return "", err
	}
	if !d.o.Keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	d.path = filepath.Join(dir, "demo.pmt")
	return d.run(ctx)
}

func (d *demo) run(ctx context.Context) (verdict string, err error) {
	if err := d.create(); err != nil {
		return "", err
	}
	for round := range d.o.Kills {
		if err := d.round(ctx, round+1); err != nil {
			return "", err
		}
		d.result.Kills, d.result.Acknowledged = round+1, d.count
	}
	if err := d.finish(ctx); err != nil {
		return "", err
	}
	if d.o.Keep {
		d.result.Kept = d.path
		d.show.line("kept", "%s", d.path)
	}
	kills := "1 kill"
	if d.o.Kills > 1 {
		kills = fmt.Sprint(d.o.Kills, " kills")
	}
	return fmt.Sprintf("%s, all %s acknowledged writes there, reopened in %s at most",
		kills, number(d.result.Acknowledged), milliseconds(d.result.SlowestOpen)), nil
}

func (d *demo) create() error {
	t, err := table.Open(d.path, &table.Options{Durability: table.OnSync, MustCreate: true})
	if err != nil {
		return err
	}
	stats := t.Stats()
	if err := t.Close(); err != nil {
		return err
	}
	source := d.o.Data
	if source == "" {
		source = "the Debian packages that this program carries"
	}
	d.show.title("pmemtable demo: %d writers, killed with SIGKILL in the middle, %d times", d.o.Writers, d.o.Kills)
	d.show.line("data", "%s entries, %s: %s", number(len(d.entries)), sizeText(sizeBytes(d.entries)), source)
	d.show.line("table", "%s", d.path)
	d.show.line("medium", "%s", stats.Medium)
	d.show.line("survives", "%s", stats.Survives)
	d.show.line("note", "kill -9 takes the process and leaves the kernel's memory: durability OnSync "+
		"is enough here, and fast. What a power loss leaves is not shown by this demo.")
	return nil
}

// round lets a child write until it has acknowledged 40 to 70 percent of what
// was left, kills it, and looks at what it left behind.
func (d *demo) round(ctx context.Context, round int) error {
	left := len(d.entries) - d.count
	killAt := d.count + int(float64(left)*(0.4+0.3*rand.Float64()))
	d.show.heading(fmt.Sprintf("round %d", round))
	if err := d.write(ctx, killAt); err != nil {
		return err
	}
	d.show.bar(d.count, len(d.entries), fmt.Sprintf("killed after %s acknowledged writes", number(d.count)))
	t, err := d.reopen()
	if err != nil {
		return err
	}
	_, err = d.prove(t)
	return errors.Join(err, t.Close())
}

// reopen measures what a restarted service waits for: until its first read is
// answered.
func (d *demo) reopen() (*table.Table, error) {
	begin := time.Now()
	t, err := table.Open(d.path, &table.Options{Durability: table.OnSync, MustExist: true})
	if err != nil {
		return nil, fmt.Errorf("reopening: %w", err)
	}
	_, err = t.Has(d.entries[0].key)
	took := time.Since(begin)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the first read: %w", err), t.Close())
	}
	d.result.SlowestOpen = max(d.result.SlowestOpen, took)
	d.show.line("", "reopened in %s, first read included; it chose", d.show.strong(milliseconds(took)))
	d.show.line("", "%s", t.Stats().OpenedFrom)
	return t, nil
}

func (d *demo) prove(t *table.Table) (finding, error) {
	f, err := verify(t, d.entries, d.acknowledged)
	if err != nil {
		return f, err
	}
	d.show.result(f.there == f.acknowledged, "%s of %s acknowledged writes there, byte for byte", number(f.there), number(f.acknowledged))
	if len(f.problems) > 0 {
		d.show.problems(f.problems)
		return f, fmt.Errorf("%w: %s", ErrFailed, f.problems[0])
	}
	also := ""
	if f.early > 0 {
		also = fmt.Sprintf(" (%d more were in flight, and are whole)", f.early)
	}
	d.show.result(true, "nothing there that was never written%s", also)
	d.show.result(true, "check clean: %s entries in %s segments", number(f.report.Entries), number(f.report.Segments))
	return f, nil
}

// finish lets a last child write the rest in peace.
func (d *demo) finish(ctx context.Context) error {
	d.show.heading("finish")
	if err := d.write(ctx, neverKill); err != nil {
		return err
	}
	d.show.bar(d.count, len(d.entries), "the rest written, closed cleanly")
	t, err := d.reopen()
	if err != nil {
		return err
	}
	defer t.Close()
	f, err := d.prove(t)
	if err != nil {
		return err
	}
	if f.total != len(d.entries) {
		return fmt.Errorf("%w: %d entries, and the data has %d", ErrFailed, f.total, len(d.entries))
	}
	onDisk := t.Stats().FileSizeBytes
	d.result.SizeBytes = onDisk
	d.show.line("", "on disk %s, %.2f x the keys and values", sizeText(onDisk), float64(onDisk)/float64(sizeBytes(d.entries)))
	if err := d.measure(ctx, t); err != nil {
		return err
	}
	return t.Close()
}

const measureFor = 400 * time.Millisecond

// measure says how fast the table is without a pipe between: in one process,
// all data over and over.
func (d *demo) measure(ctx context.Context, t *table.Table) error {
	puts, err := d.repeat(ctx, func(e entry, _ []byte) ([]byte, error) { return nil, t.Put(e.key, e.value) })
	if err != nil {
		return err
	}
	gets, err := d.repeat(ctx, func(e entry, into []byte) ([]byte, error) { return t.AppendGet(into[:0], e.key) })
	if err != nil {
		return err
	}
	d.result.Puts, d.result.Gets = puts, gets
	d.show.gap()
	d.show.line("speed", "%s puts/s, then %s gets/s", d.show.strong(number(puts)), d.show.strong(number(gets)))
	d.show.line("", "(no crash; %d goroutines, %d processors, entries of %d bytes)",
		d.o.Writers, runtime.GOMAXPROCS(0), sizeBytes(d.entries)/int64(len(d.entries)))
	return nil
}

// repeat does something to all entries, by several goroutines, for a while,
// and returns how often a second.
func (d *demo) repeat(ctx context.Context, do func(e entry, buffer []byte) ([]byte, error)) (perSecond int, err error) {
	begin := time.Now()
	counts, failures := make([]int, d.o.Writers), make([]error, d.o.Writers)
	var group sync.WaitGroup
	for g := range d.o.Writers {
		group.Go(func() {
			var buffer []byte
			count := 0
			for i := g * len(d.entries) / d.o.Writers; failures[g] == nil; i = (i + 1) % len(d.entries) {
				if count%32 == 0 && (time.Since(begin) > measureFor || ctx.Err() != nil) {
					break
				}
				buffer, failures[g] = do(d.entries[i], buffer)
				count++
			}
			counts[g] = count
		})
	}
	group.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return int(float64(total) / time.Since(begin).Seconds()), errors.Join(append(failures, ctx.Err())...)
}
