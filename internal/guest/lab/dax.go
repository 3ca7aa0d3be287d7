//go:build linux

package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"pmemtable/internal/guest/machine"
	"pmemtable/internal/guest/observer"
	"pmemtable/internal/guest/session"
)

// suite is a package whose tests run in the guest.
type suite struct {
	Dir   string // from the root
	Files string // -test.run of what works on files; "": all
	Skip  string // -test.skip
	Kills string // as Files, for the long run only: child processes are slow to start
	// ShortSkip is added to it in the short run.
	ShortSkip string
}

// suites are those of the packages that know of persistent memory. An emulated
// processor is ten to twenty times slower, so that the short run takes what works
// on files, and the long one the rest in its short size.
var suites = []suite{
	// An instruction that writes a line back faults on a page without access, and
	// that is how the skipped test sees it; QEMU's do nothing at all.
	{Dir: "flush", Skip: "^TestWhichLinesAreTouched$", ShortSkip: "^TestPersistLong$"},
	{Dir: "pmem"},
	{Dir: "recovery"},
	{Dir: "recovery/crashtest"},
	// What works on files, not what the crash simulator or a heap is for.
	{Dir: "table", Files: "^(TestEveryMethod|TestEmpty.*|TestSizes|TestNobodysSlices|TestUpdate.*|TestIteration|TestLargeValues.*|" +
		"TestAfterClose|TestReadOnly.*|TestOpenOptions|TestStats|TestView.*|TestCreation.*|TestFlushesPerOperation|Example.*)$",
		Kills: "^TestKill$"},
}

// dax runs tests in a guest with an NVDIMM, and cuts its power.
func dax(args []string) error {
	flags := flag.NewFlagSet("dax", flag.ExitOnError)
	long := flags.Bool("long", false, "all tests")
	only := flags.String("run", "", "-test.run for all suites")
	verbose := flags.Bool("v", false, "-test.v for all suites")
	limit := flags.Duration("timeout", 10*time.Minute, "-test.timeout of a suite; an hour with -long")
	arm64 := flags.Bool("arm64", false, "an arm64 machine, with a kernel from backports: bookworm's is built without DAX")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano())&0xffffffff, "of the power cuts")
	_ = flags.Parse(args)
	b, err := newBench()
	if err != nil {
		return err
	}
	b.nvdimmMB, b.memoryMB, b.cpus = shortNVDIMM, 2048, 1
	if *long {
		b.nvdimmMB, b.memoryMB, b.cpus = longNVDIMM, 4096, 2
		*limit = time.Hour
	}
	if err := b.nvdimm(); err != nil {
		return err
	}
	if *arm64 { // the NVDIMM is formatted by the other kernel: both have pages of 4 KiB
		if err := b.useKernel("GUEST_KERNEL_ARM64", "arm64"); err != nil {
			return err
		}
	}
	initramfs, err := b.initramfs("initramfs", daxModules, func(a *machine.Archive) error { return b.addSuites(a, *long, *only, *verbose, *limit) })
	if err != nil {
		return err
	}
	cfg := b.daxMachine(initramfs, "tests")
	if err := verdictOf(cfg, os.Stdout, time.Duration(len(suites))**limit); err != nil {
		return err
	}
	cfg.Mode = "dax"
	cuts := 1
	if *long {
		cuts = 10
	}
	fmt.Printf("power cuts: %d, seed %d\n", cuts, *seed)
	o := observer.New(session.Config{Dir: "/data", Seed: *seed, Writers: writers}, true, io.Discard)
	return cutPower(o, cfg, cuts, *seed)
}

// daxMachine is a machine with the NVDIMM of this run.
func (b *bench) daxMachine(initramfs, mode string) machine.Config {
	return machine.Config{Kernel: b.kernel, Initramfs: initramfs, Dir: b.dir, Mode: mode,
		NVDIMM: true, MemoryMB: b.memoryMB, CPUs: b.cpus,
		Args: []string{
			"-object", "memory-backend-file,id=m1,share=on,mem-path=" + b.path("nvdimm") + fmt.Sprintf(",size=%dM,align=2M", b.nvdimmMB),
			"-device", "nvdimm,id=n1,memdev=m1,label-size=2M",
		}}
}

// Sizes of the NVDIMM in MiB. They leave, without the label's 2 MiB, a multiple of
// the 16 MiB that the kernel wants a namespace aligned to. The whole suites store
// values of a gigabyte.
const (
	shortNVDIMM = 514
	longNVDIMM  = 3074
)

// nvdimm makes the NVDIMM's file of this run. What is expensive, a guest that
// formats it, is done once and kept beside the kernel.
func (b *bench) nvdimm() error {
	kept := filepath.Join(filepath.Dir(os.Getenv("GUEST_KERNEL")), fmt.Sprintf("nvdimm-%d", b.nvdimmMB))
	if _, err := os.Stat(kept); err == nil {
		return command(".", "cp", "--sparse=always", kept, b.path("nvdimm"))
	}
	fmt.Println("formatting an NVDIMM, once")
	f, err := os.Create(b.path("nvdimm"))
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(b.nvdimmMB)<<20), f.Close()); err != nil {
		return err
	}
	initramfs, err := b.initramfs("initramfs-format", daxModules, func(a *machine.Archive) error {
		return errors.Join(addProgram(a, "/usr/bin/ndctl", "ndctl"), addProgram(a, "/sbin/mkfs.ext4", "mkfs.ext4"))
	})
	if err != nil {
		return err
	}
	if err := verdictOf(b.daxMachine(initramfs, "format"), os.Stdout, time.Minute); err != nil {
		return err
	}
	temp := fmt.Sprintf("%s.%d", kept, os.Getpid())
	if err := command(".", "cp", "--sparse=always", b.path("nvdimm"), temp); err != nil {
		return err
	}
	return os.Rename(temp, kept)
}

// addProgram adds a program of the host and the libraries that it needs.
func addProgram(a *machine.Archive, as, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := a.AddFile(as, path); err != nil {
		return err
	}
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", path, err)
	}
	for line := range strings.Lines(string(out)) {
		for _, field := range strings.Fields(line) {
			if strings.HasPrefix(field, "/") {
				if err := a.AddFile(field, field); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// addSuites builds the test programs, and adds them with what says how to run each.
func (b *bench) addSuites(a *machine.Archive, long bool, only string, verbose bool, limit time.Duration) error {
	root := filepath.Join("..", "..")
	var plan strings.Builder
	for _, s := range suites {
		name := strings.ReplaceAll(s.Dir, "/", "-") + ".test"
		if err := b.build(root, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", b.path(name), "./"+s.Dir); err != nil {
			return err
		}
		if _, err := os.Stat(b.path(name)); errors.Is(err, os.ErrNotExist) {
			fmt.Println(s.Dir, "has no tests")
			continue
		}
		if err := a.AddFile("tests/"+name, b.path(name)); err != nil {
			return err
		}
		home := "/src/" + s.Dir
		if err := addTree(a, filepath.Join(root, s.Dir, "testdata"), home+"/testdata"); err != nil {
			return err
		}
		a.Add(home+"/.here", nil)
		line := func(short bool, run, skip string) {
			args := []string{home, name, "-test.timeout=" + limit.String(), fmt.Sprintf("-test.short=%v", short), fmt.Sprintf("-test.v=%v", verbose)}
			if only != "" {
				run = only
			}
			if run != "" {
				args = append(args, "-test.run="+run)
			}
			if skip = strings.Trim(skip, "|"); skip != "" {
				args = append(args, "-test.skip="+skip)
			}
			plan.WriteString(strings.Join(args, "\t") + "\n")
		}
		switch {
		case !long:
			line(true, s.Files, s.Skip+"|"+s.ShortSkip)
		case s.Files == "":
			line(false, "", s.Skip)
		default:
			line(true, "", s.Skip)
			line(false, s.Files+"|"+s.Kills, s.Skip)
		}
	}
	a.Add("tests/plan", []byte(plan.String()))
	return nil
}

// addTree adds the files below a directory, if it is there.
func addTree(a *machine.Archive, from, to string) error {
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rest, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return a.AddFile(filepath.Join(to, rest), path)
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// verdictOf runs a machine that prints what it does, to its verdict.
func verdictOf(cfg machine.Config, w io.Writer, limit time.Duration) error {
	m, err := machine.Start(cfg)
	if err != nil {
		return err
	}
	defer m.Kill()
	late := time.AfterFunc(limit, func() { _ = m.Kill() })
	defer late.Stop()
	in := bufio.NewReader(m)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the machine ended without a verdict (limit %v)\nconsole: %s", limit, m.Console())
		}
		verdict, ok := strings.CutPrefix(line, "verdict ")
		switch {
		case ok && verdict == "ok\n":
			return m.WaitOff(time.Minute)
		case ok:
			return errors.New("in the guest: " + strings.TrimSpace(verdict))
		case strings.HasPrefix(line, "error "):
			return errors.New("in the guest: " + strings.TrimSpace(line))
		}
		_, _ = io.WriteString(w, line)
	}
}
