// Limits loads a table of very many small entries, reads them back, checks its structure
// and opens it again: docs/limits.md has what it printed.
//
//	go run ./limits                   # 100 million entries of 8+8 bytes; some 6 GiB of disk
//	go run ./limits -n 10000000
//
// The exit code is 0 when all of it was as promised.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"pmemtable/recovery"
	"pmemtable/table"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("all as promised")
}

const (
	group   = 512 // entries of a PutMany
	lookups = 1_000_000
)

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("limits", flag.ContinueOnError)
	flags.SetOutput(out)
	n := flags.Int("n", 100_000_000, "entries")
	dir := flags.String("dir", "", "where the table goes (a temporary directory)")
	bound := flags.Duration("bound", time.Second, "on opening it again, with a first Get")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *n < 1 {
		return errors.New("-n is at least 1")
	}
	where, err := os.MkdirTemp(*dir, "pmemtable-limits-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(where)
	path := filepath.Join(where, "limits.pmt")
	t, err := table.Open(path, &table.Options{Durability: table.OnSync})
	if err != nil {
		return err
	}
	defer t.Close()
	if err := load(t, *n, out); err != nil {
		return err
	}
	if err := look(t, *n, out); err != nil {
		return err
	}
	began := time.Now()
	report, err := t.CheckWith(context.Background(), table.CheckOptions{Level: recovery.LevelStructure})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "check of the structure: %d entries in %.0f s\n", report.Entries, time.Since(began).Seconds())
	if err := t.Close(); err != nil {
		return err
	}
	return reopen(path, *n, *bound, out)
}

// entry returns the i-th key, in no order, and its value.
func entry(buf []byte, i int) (key, value []byte) {
	binary.LittleEndian.PutUint64(buf, uint64(i)*0x9e3779b97f4a7c15)
	binary.LittleEndian.PutUint64(buf[8:], uint64(i))
	return buf[:8], buf[8:16]
}

func load(t *table.Table, n int, out io.Writer) error {
	began := time.Now()
	buf := make([]byte, group*16)
	keys, values := make([][]byte, 0, group), make([][]byte, 0, group)
	for i := 0; i < n; {
		keys, values = keys[:0], values[:0]
		for ; i < n && len(keys) < group; i++ {
			key, value := entry(buf[len(keys)*16:], i)
			keys, values = append(keys, key), append(values, value)
		}
		if err := t.PutMany(keys, values); err != nil {
			return fmt.Errorf("at entry %d: %w", i, err)
		}
	}
	took := time.Since(began)
	if err := t.Sync(); err != nil {
		return err
	}
	if t.Len() != n {
		return fmt.Errorf("%d entries, not %d", t.Len(), n)
	}
	s := t.Stats()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	fmt.Fprintf(out, "%d entries of 8+8 bytes in %.0f s; %.1f bytes each in a file of %.2f GiB; Go heap %.1f MiB\n",
		n, took.Seconds(), float64(s.UsedBytes)/float64(n), float64(s.FileSizeBytes)/(1<<30), float64(m.HeapAlloc)/(1<<20))
	return nil
}

func look(t *table.Table, n int, out io.Writer) error {
	var buf [16]byte
	var got []byte
	began := time.Now()
	for range lookups {
		key, want := entry(buf[:], rand.IntN(n))
		var err error
		if got, err = t.AppendGet(got[:0], key); err != nil {
			return err
		}
		if string(got) != string(want) {
			return fmt.Errorf("key %x has the value %x, not %x", key, got, want)
		}
	}
	fmt.Fprintf(out, "%d random gets: %.0f ns each\n", lookups, float64(time.Since(began))/lookups)
	return nil
}

func reopen(path string, n int, bound time.Duration, out io.Writer) error {
	began := time.Now()
	t, err := table.Open(path, nil)
	if err != nil {
		return err
	}
	defer t.Close()
	var buf [16]byte
	key, _ := entry(buf[:], n/2)
	if _, err := t.Get(key); err != nil {
		return err
	}
	took := time.Since(began)
	fmt.Fprintf(out, "opened again, with a first Get, in %.1f ms\n", float64(took)/1e6)
	if took > bound {
		return fmt.Errorf("opening took more than %v", bound)
	}
	return nil
}
