// Large loads 10 million entries of 16-byte keys and 100-byte values and prints,
// and judges, what a table promises at that size: the space that it takes at every
// moment of growth, that every key reads back, what a garbage collection costs
// with the entries live, how long a reopening takes after kill -9 until the first
// Get is served, and that freed space is used again.
//
// The last line is the verdict; the exit code is 0 when every bound was kept.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"pmemtable/pmem"
	"pmemtable/table"
)

const (
	keyBytes   = 16
	valueBytes = 100
	payload    = keyBytes + valueBytes

	spaceFrom   = 500_000 // entries from which the bound on space holds
	spaceBound  = 1.40
	reopenBound = 50 * time.Millisecond
	gcBound     = 2 * time.Millisecond
)

var (
	entries = flag.Int("n", 10_000_000, "entries")
	dir     = flag.String("dir", "", "where the table goes (default: a temporary directory)")
	media   = flag.String("media", "auto", "force a medium: auto, dax, pagecache, tmpfs")
	child   = flag.String("child", "", "internal: hold the table at this path open and wait to be killed")
)

func main() {
	flag.Parse()
	var err error
	if *child != "" {
		err = hold(*child)
	} else {
		err = run()
	}
	if err != nil {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
}

// bound collects what was not kept.
type bounds struct{ broken []error }

func (b *bounds) check(ok bool, format string, args ...any) {
	if !ok {
		b.broken = append(b.broken, fmt.Errorf(format, args...))
	}
}

func run() error {
	where, err := os.MkdirTemp(*dir, "pmemtable-large-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(where)
	path := filepath.Join(where, "large.pmt")
	var b bounds
	emptyGC := forcedGC()
	t, err := open(path)
	if err != nil {
		return err
	}
	fmt.Printf("%d entries of %d+%d bytes, medium %v, %v, %d processors\n",
		*entries, keyBytes, valueBytes, t.Stats().Medium, runtime.Version(), runtime.NumCPU())
	if err := load(t, path, &b); err != nil {
		return err
	}
	if err := readBack(t); err != nil {
		return err
	}
	liveGC := forcedGC()
	fmt.Printf("forced GC: %v with the entries live, %v with none\n", liveGC, emptyGC)
	b.check(liveGC-emptyGC <= gcBound, "a forced GC takes %v longer with the entries live, the bound is %v", liveGC-emptyGC, gcBound)
	if err := t.Close(); err != nil {
		return err
	}
	if t, err = killAndReopen(path, &b); err != nil {
		return err
	}
	if err := reuse(t, path, &b); err != nil {
		return err
	}
	if report, err := t.Check(); err != nil {
		return fmt.Errorf("check: %w (%v)", err, report.Problems)
	}
	if err := t.Close(); err != nil {
		return err
	}
	if len(b.broken) > 0 {
		return errors.Join(b.broken...)
	}
	fmt.Println("PASS: every bound was kept")
	return nil
}

func open(path string) (*table.Table, error) {
	m, err := pmem.ParseMedia(*media)
	if err != nil {
		return nil, err
	}
	return table.Open(path, &table.Options{Durability: table.OnSync, Media: m})
}

// key is a permutation of i, so that keys come in no order.
func key(buf *[keyBytes]byte, i int) []byte {
	x := uint64(i) * 0x9e3779b97f4a7c15
	binary.LittleEndian.PutUint64(buf[:], x)
	binary.LittleEndian.PutUint64(buf[8:], ^x)
	return buf[:]
}

func value(buf *[valueBytes]byte, i int) []byte {
	for at := 0; at+8 <= valueBytes; at += 8 {
		binary.LittleEndian.PutUint64(buf[at:], uint64(i+at)*0xff51afd7ed558ccd)
	}
	return buf[:]
}

// load fills the table and looks at the file's blocks on the way.
func load(t *table.Table, path string, b *bounds) error {
	var k [keyBytes]byte
	var v [valueBytes]byte
	worst, worstAt, lowest := 0.0, 0, 9.9
	began := time.Now()
	var looking time.Duration
	for i := range *entries {
		if err := t.Put(key(&k, i), value(&v, i)); err != nil {
			return fmt.Errorf("put %d: %w", i, err)
		}
		if n := i + 1; n >= spaceFrom && n%50_000 == 0 {
			look := time.Now()
			blocks, err := diskBytes(path)
			if err != nil {
				return err
			}
			ratio := float64(blocks) / float64(n*payload)
			if ratio > worst {
				worst, worstAt = ratio, n
			}
			lowest = min(lowest, ratio)
			looking += time.Since(look)
		}
	}
	took := time.Since(began) - looking
	fmt.Printf("load: %.0f ns an entry; blocks on disk %.3f to %.3f x the payload (highest at %d entries)\n",
		float64(took.Nanoseconds())/float64(*entries), lowest, worst, worstAt)
	b.check(worst <= spaceBound, "blocks on disk reached %.3f x the payload at %d entries, the bound is %.2f", worst, worstAt, spaceBound)
	return nil
}

// readBack compares every entry.
func readBack(t *table.Table) error {
	var k [keyBytes]byte
	var v [valueBytes]byte
	buf := make([]byte, 0, valueBytes)
	began := time.Now()
	for i := range *entries {
		got, err := t.AppendGet(buf[:0], key(&k, i))
		if err != nil {
			return fmt.Errorf("get %d: %w", i, err)
		}
		if string(got) != string(value(&v, i)) {
			return fmt.Errorf("key %d has another value than was stored", i)
		}
	}
	fmt.Printf("read back: %.0f ns an entry\n", float64(time.Since(began).Nanoseconds())/float64(*entries))
	return nil
}

// forcedGC is the shortest of several forced collections.
func forcedGC() time.Duration {
	best := time.Hour
	for range 7 {
		began := time.Now()
		runtime.GC()
		best = min(best, time.Since(began))
	}
	return best
}

// hold opens the table, changes it, says so and waits for its end.
func hold(path string) error {
	t, err := open(path)
	if err != nil {
		return err
	}
	var k [keyBytes]byte
	var v [valueBytes]byte
	for i := range 1000 {
		if err := t.Put(key(&k, i), value(&v, i)); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	select {}
}

// killAndReopen lets a child open the table and kills it, then measures how long
// it takes until a new open has served a Get.
func killAndReopen(path string, b *bounds) (*table.Table, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-child", path, "-media", *media)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		return nil, fmt.Errorf("the child said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		return nil, err
	}
	_ = cmd.Wait()

	var k [keyBytes]byte
	began := time.Now()
	t, err := open(path)
	if err != nil {
		return nil, err
	}
	if _, err := t.Get(key(&k, *entries/2)); err != nil {
		return nil, err
	}
	took := time.Since(began)
	n := t.Len() // waits for the count, and so for marking
	s := t.Stats()
	fmt.Printf("reopen after kill -9, first Get served: %.2f ms; marking: %.1f million entries/s in the background\n",
		float64(took.Microseconds())/1000, float64(n)/1e6/s.MarkDuration.Seconds())
	b.check(took <= reopenBound, "reopening took %v, the bound is %v", took, reopenBound)
	b.check(n == *entries, "%d entries are there, of %d", n, *entries)
	return t, nil
}

// reuse deletes half and inserts as many new keys: the file must not grow.
func reuse(t *table.Table, path string, b *bounds) error {
	var k [keyBytes]byte
	var v [valueBytes]byte
	full, err := diskBytes(path)
	if err != nil {
		return err
	}
	began := time.Now()
	for i := 0; i < *entries; i += 2 {
		if err := t.Delete(key(&k, i)); err != nil {
			return err
		}
	}
	if err := t.Sync(); err != nil { // until then the committed root holds the space
		return err
	}
	before, err := diskBytes(path)
	if err != nil {
		return err
	}
	for i := range *entries / 2 {
		if err := t.Put(key(&k, *entries+i), value(&v, i)); err != nil {
			return err
		}
	}
	after, err := diskBytes(path)
	if err != nil {
		return err
	}
	fmt.Printf("half deleted, as many inserted: %.0f ns an operation; blocks on disk %d full, %d with half deleted, %d full again\n",
		float64(time.Since(began).Nanoseconds())/float64(*entries), full, before, after)
	b.check(after <= before, "the file grew from %d to %d bytes", before, after)
	b.check(t.Len() == *entries, "%d entries are there, of %d", t.Len(), *entries)
	return nil
}
