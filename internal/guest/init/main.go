//go:build linux

// Command init is the first and only program of a virtual machine. It loads the
// drivers, mounts the disk, and does what the kernel's command line names:
//
//	mode=session  run a session on /dev/vda
//	mode=blocklog run a session on /dev/vda1, acknowledgements to /dev/vda2
//	mode=format   make a DAX namespace and a file system on the NVDIMM
//	mode=dax      run a session on the NVDIMM
//	mode=tests    run the test programs in /tests on the NVDIMM
//
// Started as "init session" it is a session on its standard input and output, for
// the kill -9 inside of a machine.
package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"pmemtable/internal/guest/session"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "session" {
		if err := session.Serve(os.Stdin, os.Stdout, nil); err != nil {
			session.Fail(os.Stdout, err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init is the first program of a virtual machine; see docs/guest.md")
		os.Exit(2)
	}
	if err := boot(); err != nil {
		fmt.Println("init:", err)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func boot() error {
	if err := prepare(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	var mode string
	for _, field := range strings.Fields(string(cmdline)) { // firmware adds some of its own
		if m, ok := strings.CutPrefix(field, "mode="); ok {
			mode = m
		}
	}
	run, ok := map[string]func(*os.File) error{
		"session": runSession, "blocklog": runBlocklog, "format": formatDAX, "dax": runDAX, "tests": runTests,
	}[mode]
	if !ok {
		return fmt.Errorf("no mode %q", mode)
	}
	if err := run(port); err != nil {
		session.Fail(port, err)
		return err
	}
	return nil
}

// runSession runs a session on the whole first disk. The kernel writes dirty pages
// back soon, so that a cut finds pages of the same moment written and unwritten.
func runSession(port *os.File) error {
	impatient()
	if err := mount("/dev/vda", dataDir, ""); err != nil {
		return err
	}
	return session.Serve(port, port, nil)
}

// runBlocklog runs a session on the first partition. The second takes the acknowledgements, so that they stand in the disk's log in order.
func runBlocklog(port *os.File) error {
	impatient()
	if err := mount("/dev/vda1", dataDir, ""); err != nil {
		return err
	}
	acks, err := openSectors("/dev/vda2")
	if err != nil {
		return err
	}
	return session.Serve(port, port, acks)
}

// runDAX runs a session on the NVDIMM.
func runDAX(port *os.File) error {
	if err := mountDAX(); err != nil {
		return err
	}
	return session.Serve(port, port, nil)
}
