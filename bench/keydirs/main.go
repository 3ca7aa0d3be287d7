// Keydirs measures what it costs to open a store by the number of its keys: with the key
// directory in a pmemtable, and in a Go map. It prints a table and draws it. The store is examples/bitcask.
//
//	go run ./keydirs                     # up to 1,000,000 keys
//	go run ./keydirs -max 10000000 -plots /tmp/keydirs
//
// Each opening is a process of its own, and ends with a first Get. "Closed" is after
// a Close, where the Go map has a file of hints to read; "killed" after 1,500 puts and
// kill -9. The files are in the page cache.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"pmemtable/bench/internal/report"
)

// childVariable makes a process of this program a child.
const childVariable = "PMEMTABLE_KEYDIRS_CHILD"

func main() {
	if serveIfChild() {
		return
	}
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "keydirs:", err)
		os.Exit(1)
	}
}

type config struct {
	dir, plots string
	max        int
	valueBytes int
	rounds     int
}

func run(args []string, out io.Writer) error {
	var c config
	flags := flag.NewFlagSet("keydirs", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&c.dir, "dir", "", "directory for the stores (a temporary one)")
	flags.StringVar(&c.plots, "plots", "", "directory to draw to (none)")
	flags.IntVar(&c.max, "max", 1_000_000, "most keys")
	flags.IntVar(&c.valueBytes, "value", 100, "bytes of a value")
	flags.IntVar(&c.rounds, "rounds", 5, "openings of each kind; the median counts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if c.max < 1000 || c.valueBytes < 0 || c.rounds < 1 {
		return errors.New("-max is at least 1000, -value 0, -rounds 1")
	}
	dir, err := os.MkdirTemp(c.dir, "keydirs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var rows []row
	for n := 1000; n <= c.max; n *= 10 {
		for _, kind := range []string{kindTable, kindMap} {
			r, err := c.measure(filepath.Join(dir, fmt.Sprint(kind, n)), kind, n)
			if err != nil {
				return fmt.Errorf("%s with %d keys: %w", kind, n, err)
			}
			rows = append(rows, r)
		}
	}
	fmt.Fprintln(out, report.Machine())
	printTable(out, rows)
	if c.plots == "" {
		return nil
	}
	return plot(c.plots, rows)
}

const (
	kindTable = "pmemtable"
	kindMap   = "Go map"
)

// row is what was measured of one store.
type row struct {
	kind           string
	keys           int
	closed, killed figures
}

// figures of one opening.
type figures struct {
	OpenMs  float64
	HeapMiB float64 // that the collector manages
	GCMs    float64 // of a forced collection
}

// measure makes a store, opens it after a kill and after a Close, and removes it.
func (c *config) measure(dir, kind string, n int) (r row, err error) {
	defer os.RemoveAll(dir)
	r = row{kind: kind, keys: n}
	q := request{Dir: dir, GoMap: kind == kindMap, Keys: n, ValueBytes: c.valueBytes}
	load := q
	load.Puts, load.Close = n, true
	if _, err = ask(load); err != nil {
		return r, err
	}
	if r.killed, err = c.open(q, 1500); err != nil {
		return r, err
	}
	r.closed, err = c.open(q, 0)
	return r, err
}

// open opens a store some times and returns the medians: each time after so many puts and
// a kill, or after a Close.
func (c *config) open(q request, puts int) (figures, error) {
	before := q
	before.Puts, before.Close = puts, puts == 0
	var open, heap, gc report.Sample
	for range c.rounds {
		if _, err := ask(before); err != nil {
			return figures{}, err
		}
		f, err := ask(q)
		if err != nil {
			return f, err
		}
		open, heap, gc = append(open, f.OpenMs), append(heap, f.HeapMiB), append(gc, f.GCMs)
	}
	return figures{OpenMs: open.Median(), HeapMiB: heap.Median(), GCMs: gc.Median()}, nil
}

// ask runs a child that serves one request. Unless it is to close the store it is killed.
func ask(q request) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	encoded, err := json.Marshal(q)
	if err != nil {
		return f, err
	}
	child := exec.Command(self)
	child.Env = append(os.Environ(), childVariable+"="+string(encoded))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return f, err
	}
	in, err := child.StdinPipe() // its end tells the child that its parent is gone
	if err != nil {
		return f, err
	}
	defer in.Close()
	if err := child.Start(); err != nil {
		return f, err
	}
	err = json.NewDecoder(out).Decode(&f)
	if !q.Close {
		_ = child.Process.Kill()
		_ = child.Wait() // says that it was killed
		return f, err
	}
	return f, errors.Join(err, child.Wait())
}

// printTable prints the table, and how many times dearer the Go map is at the largest size.
func printTable(out io.Writer, rows []row) {
	t := report.Table{Head: []string{"keys", "key directory", "open, closed (ms)", "open, killed (ms)", "Go heap (MiB)", "forced GC (ms)"}}
	for _, r := range rows {
		t.Add(strconv.Itoa(r.keys), r.kind, report.Number(r.closed.OpenMs),
			report.Number(r.killed.OpenMs), report.Number(r.closed.HeapMiB), report.Number(r.closed.GCMs))
	}
	t.Print(out)
	ours, gos := rows[len(rows)-2], rows[len(rows)-1]
	fmt.Fprintf(out, "with %d keys the Go map takes %s (closed) and %s (killed) times as long to open, and %s times the heap\n",
		ours.keys, report.Number(gos.closed.OpenMs/ours.closed.OpenMs), report.Number(gos.killed.OpenMs/ours.killed.OpenMs),
		report.Number(gos.closed.HeapMiB/ours.closed.HeapMiB))
}
