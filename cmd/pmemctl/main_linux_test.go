package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// onTerminal starts pmemctl with all its streams on a terminal of its own.
func onTerminal(t *testing.T, args ...string) (cmd *exec.Cmd, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	cmd = pmemctl(t, args...)
	cmd.Env = append(cmd.Env, "TERM=xterm", "NO_COLOR=", "LC_ALL=C.UTF-8")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	require.NoError(t, cmd.Start())
	_ = terminal.Close()
	return cmd, master
}

// runOnTerminal waits for its end.
func runOnTerminal(t *testing.T, args ...string) (code int, screen string) {
	t.Helper()
	cmd, master := onTerminal(t, args...)
	defer master.Close()
	text, _ := io.ReadAll(master) // ends with EIO when the last user of the terminal has gone
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), strings.ReplaceAll(string(text), "\r\n", "\n")
}

func TestProcessOnATerminal(t *testing.T) {
	const hostile = "\x1b]0;owned\x07\x9b2J\nroot# "
	file := filepath.Join(t.TempDir(), "t.pmt")
	code, _, stderr := pipe(t, "", "create", file)
	require.Equal(t, 0, code, stderr)
	code, _, stderr = pipe(t, "", "put", file, hostile, "a\x1b[31mb")
	require.Equal(t, 0, code, stderr)

	for verb, want := range map[string]string{
		"scan":   `\x1b]0;owned\x07\x9b2J\nroot# ` + "\t" + `a\x1b[31mb` + "\n",
		"export": `{"key_base64": "G10wO293bmVkB5sySgpyb290IyA=", "value": "a\u001b[31mb"}` + "\n",
	} {
		code, screen := runOnTerminal(t, verb, file)
		assert.Equal(t, 0, code)
		assert.Equal(t, want, screen)
	}
	code, screen := runOnTerminal(t, "get", file, hostile)
	assert.Equal(t, 0, code)
	assert.Equal(t, `a\x1b[31mb`+"\n", screen)
	code, screen = runOnTerminal(t, "get", "--raw", file, hostile)
	assert.Equal(t, 0, code)
	assert.Equal(t, "a\x1b[31mb\n", screen)
	code, screen = runOnTerminal(t, "get", file, hostile+"missing")
	assert.Equal(t, 1, code)
	assert.NotContains(t, screen, "\x1b")
	assert.Equal(t, 1, strings.Count(screen, "\n"))

	code, screen = runOnTerminal(t, "demo")
	assert.Equal(t, 0, code, screen)
	assert.Contains(t, screen, "\x1b[32m█")
	lines := strings.Split(strings.TrimSpace(screen), "\n")
	assert.Contains(t, lines[len(lines)-1], "PASS:")
}

// top shows what a process does that knows nothing of it, until q is pressed.
func TestProcessTopBesideAWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.pmt")
	writer := feed(t, file)
	writer.put(100)
	cmd, master := onTerminal(t, "top", "--interval=20ms", file)
	var screen strings.Builder
	buffer := make([]byte, 4096)
	until := func(text string) {
		for !strings.Contains(screen.String(), text) {
			n, err := master.Read(buffer)
			require.NoError(t, err, screen.String())
			screen.Write(buffer[:n])
		}
	}
	until("commits/s")
	until("session 1,")
	for range 3 {
		writer.put(100)
	}
	until("conflicts/s")
	_, err := master.WriteString("q")
	require.NoError(t, err)
	until("\x1b[?25h\x1b[?1049l")
	require.NoError(t, cmd.Wait())
}
