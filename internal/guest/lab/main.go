//go:build linux

// Command lab runs the tests that need a machine whose power can be cut:
//
//	lab powercut [-cuts N] [-seed N] [-lie]
//	lab blocklog [-states N] [-seed N]
//	lab dax [-long] [-arm64]
//
// .ci/guest installs what it needs and starts it; docs/guest.md says what each
// proves. The last line of its output sums up, and its exit code is the verdict.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"pmemtable/internal/guest/machine"
)

// errVerdict: the test ran and failed; the last line has said so.
var errVerdict = errors.New("failed")

func main() {
	commands := map[string]func([]string) error{"powercut": powercut, "blocklog": blocklogs, "dax": dax}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: lab powercut|blocklog|dax [flags]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		if !errors.Is(err, errVerdict) {
			fmt.Fprintln(os.Stderr, "FAILED:", err)
		}
		os.Exit(1)
	}
}

// bench is what the commands share: the kernel, and a directory for a run.
type bench struct {
	kernel *machine.Kernel
	dir    string

	nvdimmMB, memoryMB, cpus int // of machines with an NVDIMM
}

// The drivers of every machine, and of one with an NVDIMM.
var (
	diskModules = []string{"crc32c_generic", "ext4", "virtio_pci", "virtio_blk", "virtio_console"}
	daxModules  = append(diskModules[:len(diskModules):len(diskModules)], "nfit", "nd_pmem")
)

// newBench finds the kernel where .ci/guest has put it, and a directory for the run
// that .ci/guest cleans up, however this program ends.
func newBench() (*bench, error) {
	dir := os.Getenv("GUEST_SCRATCH")
	if dir == "" {
		return nil, errors.New("no GUEST_SCRATCH: start this by .ci/guest")
	}
	b := &bench{dir: dir}
	return b, b.useKernel("GUEST_KERNEL", "amd64")
}

// useKernel makes the next machines run the kernel that a variable names.
func (b *bench) useKernel(variable, arch string) (err error) {
	b.kernel, err = machine.FindKernel(os.Getenv(variable), arch)
	if err != nil {
		return fmt.Errorf("%w: start this by .ci/guest", err)
	}
	return nil
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// initramfs builds the program of the machines and packs it with these drivers.
func (b *bench) initramfs(name string, modules []string, more func(*machine.Archive) error) (string, error) {
	program := b.path("init")
	if err := b.build(".", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./init"); err != nil {
		return "", err
	}
	a := machine.NewArchive()
	if err := a.AddFile("init", program); err != nil {
		return "", err
	}
	files, err := b.kernel.Modules.InOrder(modules...)
	if err != nil {
		return "", err
	}
	if err := a.AddModules(files); err != nil {
		return "", err
	}
	if more != nil {
		if err := more(a); err != nil {
			return "", err
		}
	}
	return b.path(name), a.Write(b.path(name))
}

// build runs go for static binaries of the machines' kind.
func (b *bench) build(dir string, args ...string) error {
	return command(dir, "env", append([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + b.kernel.Arch, "go"}, args...)...)
}

// command runs a program.
func command(dir string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
