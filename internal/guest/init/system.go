//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// dataDir is where the disk or the NVDIMM is mounted.
const dataDir = "/data"

// restartWithProc mounts /proc and starts this program over: what processor this
// is, golang.org/x/sys/cpu reads there before main begins.
func restartWithProc() error {
	if exists("/proc/self/exe") {
		return nil
	}
	if err := os.MkdirAll("/proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// prepare mounts what a program expects of Linux and loads the drivers.
func prepare() error {
	if err := restartWithProc(); err != nil {
		return err
	}
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	if err := os.MkdirAll("/dev/shm", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	files, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, name := range files {
		if err := load(name); err != nil {
			return err
		}
	}
	return nil
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", module, err)
	}
	return nil
}

// waitFor waits for something that a driver makes in its own time.
func waitFor(what string, there func() bool) error {
	for range 1000 {
		if there() {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not appear", what)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openPort opens the virtio-serial port, the only way out that is not lost when the
// power is: what a write has handed over, the host has.
func openPort() (*os.File, error) {
	var dev string
	err := waitFor("the port", func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == "pmemtable" {
				dev = "/dev/" + filepath.Base(filepath.Dir(n))
			}
		}
		return dev != "" && exists(dev)
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(dev, os.O_RDWR, 0)
}

// impatient makes the kernel write dirty pages back within a fraction of a second
// instead of half a minute.
func impatient() {
	_ = os.WriteFile("/proc/sys/vm/dirty_writeback_centisecs", []byte("7"), 0)
	_ = os.WriteFile("/proc/sys/vm/dirty_expire_centisecs", []byte("15"), 0)
}

func mount(dev, dir, options string) error {
	if err := waitFor(dev, func() bool { return exists(dev) }); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dev, dir, "ext4", 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", dev, err)
	}
	return nil
}

// sectors writes each acknowledgement to a sector of its own of a block device,
// past the page cache. It does not flush: a flush of its own would make durable
// what the table should have.
type sectors struct {
	f     *os.File
	count uint64
	next  atomic.Uint64
	free  sync.Pool // of aligned buffers
}

const sectorBytes = 512

func openSectors(dev string) (*sectors, error) {
	if err := waitFor(dev, func() bool { return exists(dev) }); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dev, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	end, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	return &sectors{f: f, count: uint64(end) / sectorBytes}, nil
}

// Write implements io.Writer, for one line at a time.
func (s *sectors) Write(line []byte) (int, error) {
	if len(line) > sectorBytes {
		return 0, fmt.Errorf("a line of %d bytes", len(line))
	}
	b, _ := s.free.Get().([]byte)
	if b == nil {
		var err error
		if b, err = unix.Mmap(-1, 0, sectorBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
			return 0, err
		}
	}
	defer s.free.Put(b) //nolint:staticcheck // the header is small
	clear(b)
	copy(b, line)
	at := (s.next.Add(1) - 1) % s.count * sectorBytes
	if _, err := s.f.WriteAt(b, int64(at)); err != nil {
		return 0, err
	}
	return len(line), nil
}
