//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pmemtable/internal/guest/observer"
	"pmemtable/internal/guest/session"
	"pmemtable/pmem"
	"pmemtable/table"
)

const daxDevice = "/dev/pmem0"

// formatDAX turns the raw NVDIMM into a namespace that DAX works on, with page
// structures in memory, and makes a file system on it.
func formatDAX(port *os.File) error {
	for _, args := range [][]string{
		{"/usr/bin/ndctl", "create-namespace", "-f", "-e", "namespace0.0", "-m", "fsdax", "--map=mem"},
		{"/sbin/mkfs.ext4", "-q", "-F", "-b", "4096", daxDevice},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = []string{"PATH=/usr/bin:/sbin", "HOME=/tmp"}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	if err := mountDAX(); err != nil {
		return err
	}
	if err := unix.Unmount(dataDir, 0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(port, "verdict ok")
	return err
}

func mountDAX() error { return mount(daxDevice, dataDir, "dax=always") }

// runTests runs what /tests holds, with temporary files on the NVDIMM, and tells
// the host what they print. The last line is the verdict.
func runTests(port *os.File) error {
	if err := mountDAX(); err != nil {
		return err
	}
	temp := filepath.Join(dataDir, "tmp")
	for _, dir := range []string{temp, filepath.Join(dataDir, "killed")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Setenv("TMPDIR", temp); err != nil {
		return err
	}
	// Some tests make slices of a gigabyte that they never touch.
	if err := os.WriteFile("/proc/sys/vm/overcommit_memory", []byte("1"), 0); err != nil {
		return err
	}
	var failed []string
	try := func(what string, fn func(io.Writer) error) {
		began := time.Now()
		err := fn(port)
		fmt.Fprintf(port, "== %s: %s in %.1f s\n", what, map[bool]string{true: "ok", false: "FAILED"}[err == nil], time.Since(began).Seconds())
		if err != nil {
			fmt.Fprintf(port, "%v\n", err)
			failed = append(failed, what)
		}
	}
	try("MAP_SYNC, STATX_ATTR_DAX, the table's medium", reallyDAX)
	try("kill -9", killProcesses)
	plan, err := os.ReadFile("/tests/plan")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(plan)) {
		args := strings.Split(strings.TrimSpace(line), "\t") // directory, program, arguments
		try(args[1], func(w io.Writer) error {
			cmd := exec.Command(filepath.Join("/tests", args[1]), args[2:]...)
			cmd.Dir = args[0]
			cmd.Stdout, cmd.Stderr = w, w
			return cmd.Run()
		})
	}
	verdict := "ok"
	if len(failed) > 0 {
		verdict = "FAILED: " + strings.Join(failed, ", ")
	}
	_, err = fmt.Fprintln(port, "verdict", verdict)
	return err
}

// reallyDAX makes sure that all that follows runs on persistent memory, and that
// nothing fell back to the page cache.
func reallyDAX(w io.Writer) error {
	path := filepath.Join(dataDir, "probe")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	const size = 1 << 20
	if err := f.Truncate(size); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return err
	}
	if st.Attributes&unix.STATX_ATTR_DAX == 0 {
		return fmt.Errorf("statx does not show STATX_ATTR_DAX")
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
	if err != nil {
		return fmt.Errorf("mmap with MAP_SYNC: %w", err)
	}
	mem[0] = 1
	if err := unix.Munmap(mem); err != nil {
		return err
	}
	t, err := table.Open(filepath.Join(dataDir, "probe.pmt"), nil)
	if err != nil {
		return err
	}
	defer t.Close()
	s := t.Stats()
	domain, _ := os.ReadFile("/sys/bus/nd/devices/region0/persistence_domain")
	fmt.Fprintf(w, "medium %v, forced %v, flush method %s, persistence domain %s\n", s.Medium, s.Forced, s.FlushMethod, strings.TrimSpace(string(domain)))
	if s.Medium != pmem.DAX || s.Forced {
		return fmt.Errorf("the table does not take it for persistent memory")
	}
	return nil
}

// killProcesses kills processes that write tables on the NVDIMM with kill -9.
func killProcesses(w io.Writer) error {
	cfg := session.Config{Dir: filepath.Join(dataDir, "killed"), Seed: 5, Writers: 3}
	o := observer.New(cfg, true, io.Discard)
	for i, plan := range []observer.Plan{
		{After: 400 * time.Millisecond},
		{After: 700 * time.Millisecond},
		{After: 40 * time.Millisecond, InOpening: true},
		{After: 200 * time.Millisecond, Stop: true},
	} {
		p, err := observer.StartProcess(exec.Command("/init", "session"))
		if err != nil {
			return err
		}
		if err := o.Session(p, plan); err != nil {
			return fmt.Errorf("process %d: %w", i, err)
		}
	}
	r := o.Result
	fmt.Fprintf(w, "%d processes killed, %d acknowledged writes, %d lost writes\n", r.Kills, r.Acknowledged, r.Lost)
	if r.Lost > 0 || len(r.Problems) > 0 {
		return fmt.Errorf("%s", strings.Join(r.Problems, "; "))
	}
	return nil
}
