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
	Type      string   // of QEMU's machines; "": pc
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
	memory := fmt.Sprintf("%d", c.MemoryMB)
	if c.Type == "" {
		c.Type = "pc"
	} else {
		memory += ",slots=2,maxmem=8G"
	}
	args := []string{
		"-accel", "tcg", "-machine", c.Type, "-cpu", "max", "-smp", fmt.Sprint(max(1, c.CPUs)), "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", c.Kernel.Image, "-initrd", c.Initramfs,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off mode=" + c.Mode,
		"-serial", "file:" + console,
		"-chardev", "socket,id=port,path=" + socket,
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=port,name=" + PortName,
	}
	m := &Machine{cmd: exec.Command("qemu-system-x86_64", append(args, c.Args...)...), console: console, exited: make(chan struct{})}
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
