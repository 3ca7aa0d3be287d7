package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/demo"
	"pmemtable/cmd/pmemctl/internal/command"
	"pmemtable/table"
)

// The tests of this file run pmemctl as a process: this test binary, told by
// an environment variable to be it. What they look at is what only a process
// has: exit codes, signals, pipes and terminals.
const beMain = "PMEMCTL_TEST_IS_PMEMCTL"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		app := command.NewApp()
		app.Self = self()
		os.Exit(run(app))
	}
	os.Exit(m.Run())
}

func pmemctl(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	words := append(self(), args...)
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	// Built with -race, a process waits for a second when it ends, unless told.
	cmd.Env = append(os.Environ(), beMain+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// self are the words that start this test binary: an emulator's before its name
// where that is needed.
func self() []string {
	return append(strings.Fields(os.Getenv("PMEMTABLE_TEST_EXEC")), os.Args[0])
}

func pipe(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := pmemctl(t, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// packagesTable is a table of the demo's data.
func packagesTable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "debs"), filepath.Join(dir, "t.pmt")
	require.NoError(t, os.WriteFile(data, demo.Packages(), 0o600))
	code, _, stderr := pipe(t, "", "import", "--create", file, data)
	require.Equal(t, 0, code, stderr)
	return file
}

func TestProcessExitCodesAndStreams(t *testing.T) {
	file := packagesTable(t)
	foreign := filepath.Join(t.TempDir(), "foreign")
	require.NoError(t, os.WriteFile(foreign, bytes.Repeat([]byte("text\n"), 5000), 0o600))
	for _, c := range []struct {
		code   int
		stdout string
		args   []string
	}{
		{0, "4900\n", []string{"count", file}},
		{1, "", []string{"get", file, "no such package"}},
		{2, "", []string{"get", file}},
		{2, "", []string{"import", "--format=jsonl", file, "-"}},
		{2, "", []string{"no-such-verb"}},
		{3, "", []string{"get", foreign, "k"}},
		{5, "", []string{"get", file + ".missing", "k"}},
	} {
		code, stdout, stderr := pipe(t, "malformed", c.args...)
		assert.Equal(t, c.code, code, "%v: %s", c.args, stderr)
		assert.Equal(t, c.stdout, stdout, c.args)
		assert.Equal(t, code == 0, stderr == "", "%v: %s", c.args, stderr)
	}
}

// A process that wants to write gets exit code 4 while another has the table, and
// is told which.
func TestProcessLocked(t *testing.T) {
	file := packagesTable(t)
	holder, err := table.Open(file, nil)
	require.NoError(t, err)
	code, _, stderr := pipe(t, "", "put", file, "k", "v")
	assert.Equal(t, 4, code)
	assert.Contains(t, stderr, fmt.Sprintf("locked by process %d", os.Getpid()))
	require.NoError(t, holder.Put([]byte("a key of the first process"), []byte("v")))
	require.NoError(t, holder.Close())
	code, stdout, _ := pipe(t, "", "get", file, "a key of the first process")
	assert.Equal(t, 0, code)
	assert.Equal(t, "v", stdout)
	code, _, _ = pipe(t, "", "put", file, "k", "v")
	assert.Equal(t, 0, code)
}

func TestProcessWhoseReaderGoesAway(t *testing.T) {
	file := packagesTable(t)
	for _, verb := range []string{"scan", "export"} {
		cmd := pmemctl(t, verb, file)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, out.Close())
		assert.NoError(t, cmd.Wait(), "a reader that has enough is no error")
		assert.Empty(t, stderr.String())
	}
}
