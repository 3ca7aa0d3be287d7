//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestProcessInterruptedLeavesNoHalfState sends the signal of Ctrl-C to commands at
// work: those that make a file leave none, no file aside either, and those that change
// one leave it whole. A command may be done before the signal comes; then it gets more
// to do.
func TestProcessInterruptedLeavesNoHalfState(t *testing.T) {
	for _, c := range []struct {
		verb string
		args []string // the table is src
		made bool     // a file called out
	}{
		{"export", []string{"--out", "out", "src"}, true},
		{"backup", []string{"src", "out"}, true},
		{"restore", []string{"src.backup", "out"}, true},
		{"repair", []string{"src", "out"}, true},
		{"import", []string{"--create", "out", "src.jsonl"}, false},
		{"compact", []string{"src"}, false},
	} {
		t.Run(c.verb, func(t *testing.T) {
			for entries := 20_000; ; entries *= 4 {
				dir := sourceFiles(t, c.verb, entries)
				before := names(t, dir)
				code, stderr := interrupted(t, dir, append([]string{c.verb, "--progress=json"}, c.args...))
				if code == 0 && entries < 2_000_000 {
					continue
				}
				require.Equal(t, 130, code, stderr)
				require.Contains(t, stderr, "interrupted")
				src, out := filepath.Join(dir, "src"), filepath.Join(dir, "out")
				if c.made {
					assert.Equal(t, before, names(t, dir))
				} else {
					changed := map[string]string{"import": out, "compact": src}[c.verb]
					code, _, stderr := pipe(t, "", "check", changed)
					assert.Equal(t, 0, code, stderr)
				}
				if c.verb == "compact" {
					code, stdout, stderr := pipe(t, "", "diff", src, src+".copy")
					assert.Equal(t, 0, code, stdout+stderr)
				}
				for i, arg := range c.args {
					if c.args[i] = filepath.Join(dir, arg); strings.HasPrefix(arg, "--") {
						c.args[i] = arg
					}
				}
				code, _, stderr = pipe(t, "", append([]string{c.verb}, c.args...)...)
				assert.Equal(t, 0, code, "the next one goes through: %s", stderr)
				return
			}
		})
	}
}

// sourceFiles makes what a command works on in a directory of its own.
func sourceFiles(t *testing.T, verb string, entries int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	src := filepath.Join(dir, "src")
	tab, err := table.Open(src, &table.Options{Durability: table.OnSync, Stripes: 8})
	require.NoError(t, err)
	for i := range entries {
		require.NoError(t, tab.Put(fmt.Append(nil, "key ", i), fmt.Append(nil, "value ", i)))
	}
	if verb == "compact" {
		for i := range entries {
			if i%8 != 0 {
				require.NoError(t, tab.Delete(fmt.Append(nil, "key ", i)))
			}
		}
	}
	require.NoError(t, tab.Close())
	more := map[string][]string{
		"restore": {"backup", src, src + ".backup"}, "import": {"export", "--out", src + ".jsonl", src},
	}[verb]
	if verb == "compact" {
		content, err := os.ReadFile(src)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(src+".copy", content, 0o600))
	}
	if more != nil {
		code, _, stderr := pipe(t, "", more...)
		require.Equal(t, 0, code, stderr)
	}
	return dir
}

// interrupted starts a command in a directory and sends SIGINT once it says that it is
// at work.
func interrupted(t *testing.T, dir string, args []string) (code int, stderr string) {
	t.Helper()
	cmd := pmemctl(t, args...)
	cmd.Dir = dir
	errPipe, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	reader := bufio.NewReader(errPipe)
	first, _ := reader.ReadString('\n')
	require.Contains(t, first, `"progress":`)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	var rest bytes.Buffer
	_, err = io.Copy(&rest, reader)
	require.NoError(t, err)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), first + rest.String()
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Ctrl-C in the middle of an import keeps what was read; in the middle of a
// put that waits for its value it changes nothing.
func TestProcessInterrupted(t *testing.T) {
	file := packagesTable(t)
	for verb, args := range map[string][]string{"import": {"import", file, "-"}, "put": {"put", file, "k", "-"}} {
		cmd := pmemctl(t, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		feed, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.WriteString(feed, "{\"key\":\"by "+verb+"\",\"value\":\"v\"}\n")
		require.NoError(t, err)
		if verb == "import" {
			require.Eventually(t, func() bool {
				code, _, _ := pipe(t, "", "get", file, "by import")
				return code == 0
			}, time.Minute, time.Millisecond)
		} else { // more than a pipe holds: it is being read, so signals are caught
			_, err = feed.Write(make([]byte, 1<<20))
			require.NoError(t, err)
		}
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
		_ = feed.Close()
		assert.Equal(t, 130, cmd.ProcessState.ExitCode(), stderr.String())
		assert.Contains(t, stderr.String(), "pmemctl: "+verb+" "+file+": interrupted")
	}
	code, _, _ := pipe(t, "", "get", file, "by import")
	assert.Equal(t, 0, code)
	code, _, _ = pipe(t, "", "get", file, "k")
	assert.Equal(t, 1, code)
	code, _, stderr := pipe(t, "", "check", file)
	assert.Equal(t, 0, code, stderr)
}
