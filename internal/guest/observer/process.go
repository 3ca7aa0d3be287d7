package observer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Process is a session in a process of its own.
type Process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *os.File
	done bool
}

// StartProcess starts a program whose standard input and output are a session's.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe: what the process had sent is still to be read when it is dead.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{cmd: cmd, in: in, out: r}, w.Close()
}

// Read implements Peer.
func (p *Process) Read(b []byte) (int, error) { return p.out.Read(b) }

// Write implements Peer.
func (p *Process) Write(b []byte) (int, error) { return p.in.Write(b) }

// Kill implements Peer: kill -9.
func (p *Process) Kill() error {
	if p.done {
		return nil
	}
	p.done = true
	if err := p.cmd.Process.Kill(); err != nil && err != os.ErrProcessDone {
		return fmt.Errorf("kill: %w", err)
	}
	_ = p.cmd.Wait() // that it was killed is no error
	return nil
}
