//go:build linux

// Package machine starts virtual machines: a Debian kernel, an initial file system
// with one static program in it, and QEMU, which emulates the processor (kvm is
// not to be relied on where tests run).
package machine

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Config is a machine.
type Config struct {
	Kernel    *Kernel
	Initramfs string
	Dir       string   // for its socket and console
	Mode      string   // what the program in it is to do
	MemoryMB  int      // 0: 512
	CPUs      int      // 0: 1
	NVDIMM    bool     // has memory slots for one, which Args name
	Args      []string // QEMU's further arguments: disks
}

// Machine is one that runs. It reads and writes what the program in it does with
// its port.
type Machine struct {
	cmd     *exec.Cmd
	conn    net.Conn
	console string
	exited  chan struct{}
}

// boards are QEMU's machines by the kernel's architecture.
var boards = map[string]struct {
	program, kind, withNVDIMM, cpu, console string
	args                                    []string
}{
	"amd64": {program: "qemu-system-x86_64", kind: "pc", withNVDIMM: "q35,nvdimm=on,nvdimm-persistence=mem-ctrl", cpu: "max", console: "ttyS0"},
	// An NVDIMM is announced by ACPI, which the kernel gets of the firmware.
	// Pointer authentication as the architecture has it takes half of the time.
	"arm64": {program: "qemu-system-aarch64", kind: "virt", withNVDIMM: "virt,nvdimm=on", cpu: "max,pauth-impdef=on", console: "ttyAMA0",
		args: []string{"-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}},
}

// PortName is the name of the virtio-serial port.
const PortName = "pmemtable"

// maxBoot is how long QEMU may take to connect.
const maxBoot = 20 * time.Second

// Start starts a machine.
func Start(c Config) (*Machine, error) {
	socket, console := filepath.Join(c.Dir, "port"), filepath.Join(c.Dir, "console")
	_ = os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	if c.MemoryMB == 0 {
		c.MemoryMB = 512
	}
	b := boards[c.Kernel.Arch]
	kind, memory := b.kind, fmt.Sprint(c.MemoryMB)
	if c.NVDIMM {
		kind, memory = b.withNVDIMM, memory+",slots=2,maxmem=8G"
	}
	args := []string{
		"-accel", "tcg", "-machine", kind, "-cpu", b.cpu, "-smp", fmt.Sprint(max(1, c.CPUs)), "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", c.Kernel.Image, "-initrd", c.Initramfs,
		"-append", "console=" + b.console + " quiet panic=-1 mitigations=off mode=" + c.Mode,
		"-serial", "file:" + console,
		"-chardev", "socket,id=port,path=" + socket,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=" + PortName,
	}
	args = append(append(args, b.args...), c.Args...)
	m := &Machine{cmd: exec.Command(b.program, args...), console: console, exited: make(chan struct{})}
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // none outlives a run that is interrupted
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait() // how it ended, the port has told
		close(m.exited)
	}()
	_ = listener.(*net.UnixListener).SetDeadline(time.Now().Add(maxBoot))
	if m.conn, err = listener.Accept(); err != nil {
		return nil, fmt.Errorf("qemu does not come up: %w", killed(m, err))
	}
	return m, nil
}

func killed(m *Machine, err error) error {
	_ = m.Kill()
	return err
}

// Read returns what the program in the machine sent, and io.EOF when the machine
// is gone and all is read.
func (m *Machine) Read(b []byte) (int, error) {
	n, err := m.conn.Read(b)
	if err != nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// Write sends something to the program in the machine.
func (m *Machine) Write(b []byte) (int, error) { return m.conn.Write(b) }

// Kill cuts the power: SIGKILL, which leaves QEMU no moment to write anything.
func (m *Machine) Kill() error {
	select {
	case <-m.exited:
		return nil
	default:
	}
	err := m.cmd.Process.Kill()
	<-m.exited
	if err == os.ErrProcessDone {
		return nil
	}
	return err
}

// WaitOff waits until the machine has switched itself off.
func (m *Machine) WaitOff(limit time.Duration) error {
	select {
	case <-m.exited:
		return nil
	case <-time.After(limit):
		_ = m.Kill()
		return fmt.Errorf("the machine is still on after %v", limit)
	}
}

// Console returns the end of what the machine's console showed.
func (m *Machine) Console() string {
	b, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}
