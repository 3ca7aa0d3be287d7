//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pmemtable/internal/guest/blocklog"
	"pmemtable/internal/guest/history"
	"pmemtable/internal/guest/machine"
	"pmemtable/internal/guest/observer"
	"pmemtable/internal/guest/session"
)

// The disk: a file system, and a region for acknowledgements.
const (
	diskBytes  = 128 << 20
	fsSector   = 2048
	fsBytes    = 64 << 20
	ackSector  = fsSector + fsBytes/blocklog.SectorBytes
	ackBytes   = 16 << 20
	logBytes   = 8 << 30 // sparse
	maxWriting = 30 * time.Second
)

// blocklogs takes the log of a guest's disk, and checks the tables in disks made
// of it.
func blocklogs(args []string) error {
	flags := flag.NewFlagSet("blocklog", flag.ExitOnError)
	n := flags.Int("states", 100, "disk states to check")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano())&0xffffffff, "of the writes and of the states")
	lie := flags.Bool("lie", false, "let the guest acknowledge what is not durable: the test must fail")
	verbose := flags.Bool("v", false, "print every state")
	keep := flags.String("keep", "", "where to put the image of the first bad state")
	_ = flags.Parse(args)
	b, err := newBench()
	if err != nil {
		return err
	}
	fmt.Printf("blocklog: %d states, seed %d\n", *n, *seed)
	c := checker{bench: b, cfg: session.Config{Dir: b.path("mnt"), Seed: *seed, Writers: writers}, keep: *keep, details: output(*verbose)}
	if err := c.record(*lie, min(maxWriting, 2*time.Second+time.Duration(*n)*2*time.Millisecond)); err != nil {
		return err
	}
	return c.checkAll(blocklog.States(c.log, *n, *seed))
}

// record lets a guest write for a time on a disk that keeps a log, and keeps the
// log, what the file system held before, and with what the guest's writers began.
func (c *checker) record(lie bool, writing time.Duration) error {
	b := c.bench
	initramfs, err := b.initramfs("initramfs", diskModules, nil)
	if err != nil {
		return err
	}
	if c.initial, err = b.partitioned("disk"); err != nil {
		return err
	}
	if err := sparse(b.path("log"), logBytes); err != nil {
		return err
	}
	m, err := machine.Start(machine.Config{Kernel: b.kernel, Initramfs: initramfs, Dir: b.dir, Mode: "blocklog", Args: []string{
		"-blockdev", "driver=file,node-name=f0,filename=" + b.path("disk"),
		"-blockdev", "driver=file,node-name=l0,filename=" + b.path("log"),
		"-blockdev", "driver=blklogwrites,node-name=b0,file=f0,log=l0",
		"-device", "virtio-blk-pci,drive=b0",
	}})
	if err != nil {
		return err
	}
	cfg := c.cfg
	cfg.Dir, cfg.Lie = "/data", lie
	o := observer.New(cfg, false, io.Discard)
	if err := o.Session(patient{m}, observer.Plan{After: writing, Stop: true}); err != nil {
		return fmt.Errorf("%w\nconsole: %s", err, m.Console())
	}
	c.tables = o.Tables
	if !blocklog.Mountable(c.initial) {
		return errors.New("the new file system has no checksum in its superblock")
	}
	if c.log, err = blocklog.Read(b.path("log")); err != nil {
		return err
	}
	return os.Remove(b.path("log"))
}

// patient lets a machine switch itself off, so that the log is closed in order.
type patient struct{ *machine.Machine }

// Kill implements observer.Peer.
func (p patient) Kill() error { return p.WaitOff(maxWriting) }

// partitioned makes the disk and returns what its file system holds.
func (b *bench) partitioned(name string) ([]byte, error) {
	if err := makeDisk(b.path("fs"), fsBytes); err != nil {
		return nil, err
	}
	fs, err := os.ReadFile(b.path("fs"))
	if err != nil {
		return nil, err
	}
	table := make([]byte, fsSector*blocklog.SectorBytes)
	for i, p := range [][2]uint32{{fsSector, fsBytes / blocklog.SectorBytes}, {ackSector, ackBytes / blocklog.SectorBytes}} {
		entry := table[446+16*i:] // of the classic partition table
		entry[4] = 0x83
		binary.LittleEndian.PutUint32(entry[8:], p[0])
		binary.LittleEndian.PutUint32(entry[12:], p[1])
	}
	table[510], table[511] = 0x55, 0xaa
	if err := os.WriteFile(b.path(name), append(table, fs...), 0o600); err != nil {
		return nil, err
	}
	return fs, os.Truncate(b.path(name), diskBytes)
}

func sparse(path string, sizeBytes int64) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, sizeBytes)
}

// checker checks states one after the other.
type checker struct {
	*bench
	cfg     session.Config
	details io.Writer
	keep    string
	log     []blocklog.Entry
	initial []byte
	tables  []*history.Table
	taken   int // entries of the log whose acknowledgements the tables know
	acks    int
	bad     int
	torn    int // states without a file system
	lost    int
	image   []byte
}

func (c *checker) checkAll(states []blocklog.State) error {
	disk := blocklog.NewDisk(c.log, fsSector, c.initial)
	flushes := 0
	for _, e := range c.log {
		if e.Flush {
			flushes++
		}
	}
	fmt.Printf("the guest's disk completed %d requests, %d of them flushes\n", len(c.log), flushes)
	if err := os.Mkdir(c.cfg.Dir, 0o700); err != nil {
		return err
	}
	byKind := map[blocklog.Kind]int{}
	began := time.Now()
	for i, s := range states {
		if err := c.acknowledge(s.Cut); err != nil {
			return err
		}
		c.image = disk.Image(s, c.image)
		if err := os.WriteFile(c.path("current"), fmt.Appendf(nil, "state %d (%v)", i, s), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(c.details, "state %d (%v)\n", i, s)
		problems, err := c.check(i)
		if err != nil {
			return fmt.Errorf("state %d (%v): %w", i, s, err)
		}
		byKind[s.Kind]++
		if len(problems) > 0 {
			if err := c.report(i, s, problems); err != nil {
				return err
			}
		}
	}
	fmt.Printf("states: %v, %d of them with a torn superblock of ext4; %.0f ms each\n",
		byKind, c.torn, time.Since(began).Seconds()*1000/float64(max(1, len(states))))
	if c.torn > 1+len(states)/100 {
		return fmt.Errorf("%d of %d states cannot be mounted: too many", c.torn, len(states))
	}
	fmt.Printf("%d states, %d acknowledged writes, %d lost writes, %d bad states\n", len(states), c.acks, c.lost, c.bad)
	if c.bad > 0 {
		return errVerdict
	}
	return nil
}

func (c *checker) report(i int, s blocklog.State, problems []string) error {
	c.bad++
	if c.bad <= 10 {
		fmt.Printf("state %d (%v):\n  %s\n", i, s, strings.Join(problems, "\n  "))
	}
	if c.bad == 1 && c.keep != "" {
		return os.WriteFile(c.keep, c.image, 0o600)
	}
	return nil
}

// acknowledge takes the acknowledgements from the log that had reached the disk
// when the power was cut. Each was written when what it acknowledges was done.
func (c *checker) acknowledge(cut int) error {
	for ; c.taken < cut; c.taken++ {
		e := c.log[c.taken]
		if e.Sector < ackSector || e.Data == nil {
			continue
		}
		for sector := range slices.Chunk(e.Data, blocklog.SectorBytes) {
			line, _, ok := bytes.Cut(sector, []byte("\n"))
			if !ok {
				return fmt.Errorf("entry %d is no acknowledgement", c.taken)
			}
			m, err := session.Parse(string(line))
			if err != nil {
				return err
			}
			if m.Synced != nil {
				err = c.tables[m.Table].Sync(m.Synced)
			} else {
				c.acks++
				err = history.Acknowledge(c.tables, m.Table, m.Writer, m.Ack)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// check mounts the image, which replays the file system's journal, and looks at the
// tables. What is wrong with them is returned as problems.
func (c *checker) check(i int) (problems []string, err error) {
	if !blocklog.Mountable(c.image) {
		c.torn++
		return nil, nil
	}
	path := c.path(fmt.Sprintf("state-%d", i))
	if err := writeSparse(path, c.image); err != nil {
		return nil, err
	}
	defer os.Remove(path)
	if err := command(".", "mount", "-t", "ext4", "-o", "loop", path, c.cfg.Dir); err != nil {
		return []string{err.Error()}, nil
	}
	defer func() {
		if e := unmount(c.cfg.Dir); e != nil {
			err = fmt.Errorf("unmount: %w", e)
		}
	}()
	for j, spec := range session.Specs {
		if err := c.checkTable(j, spec, &problems); err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems, nil
}

// unmount waits for the mappings of closed tables, which go when the garbage
// collector finds that nothing refers to them.
func unmount(dir string) (err error) {
	for range 200 {
		runtime.GC()
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// checkTable verifies a table, lets it go on for some steps, and opens it again:
// what recovery took for free must have been.
func (c *checker) checkTable(j int, spec session.Spec, problems *[]string) error {
	o, err := session.Open(c.cfg, spec)
	if err != nil {
		return err
	}
	v := c.tables[j].Verify(o.Found, 1)
	c.lost += v.Lost
	*problems = append(*problems, v.Problems...)
	for n := range uint64(20) {
		op := history.OpAt(c.cfg.Seed, 0, n+1)
		stamp := history.Stamp{Boot: 2, N: n + 1}
		if op.Delete {
			err = o.Table.Delete(history.Key(0, op.Key))
		} else {
			err = o.Table.Put(history.Key(0, op.Key), history.Value(c.cfg.Seed, 0, stamp, op.Bytes))
		}
		if err != nil {
			_ = o.Table.Close()
			return err
		}
	}
	if err := o.Table.Close(); err != nil {
		return err
	}
	if o, err = session.Open(c.cfg, spec); err != nil {
		return fmt.Errorf("after it went on: %w", err)
	}
	return o.Table.Close()
}

// writeSparse writes a file without its zeros.
func writeSparse(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	const block = 64 << 10
	zeros := make([]byte, block)
	for at := 0; at < len(b); at += block {
		part := b[at:min(at+block, len(b))]
		if bytes.Equal(part, zeros[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, int64(at)); err != nil {
			return err
		}
	}
	return f.Close()
}
