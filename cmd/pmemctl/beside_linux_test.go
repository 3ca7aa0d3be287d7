package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// feeder is a process that writes a table: an import whose input does not end.
type feeder struct {
	t      *testing.T
	file   string
	input  io.WriteCloser
	next   int // entries fed
	kill   func()
	stderr *bytes.Buffer
}

func feed(t *testing.T, file string) *feeder {
	t.Helper()
	cmd := pmemctl(t, "import", "--create", "--format=jsonl", file, "-")
	f := &feeder{t: t, file: file, stderr: new(bytes.Buffer)}
	var err error
	f.input, err = cmd.StdinPipe()
	require.NoError(t, err)
	cmd.Stderr = f.stderr
	require.NoError(t, cmd.Start())
	f.kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(f.kill)
	return f
}

// put feeds n more entries, of keys 0 on, and waits until a reader sees the last.
func (f *feeder) put(n int) {
	f.t.Helper()
	for range n {
		_, err := fmt.Fprintf(f.input, "{\"key\": \"key %d\", \"value\": \"value %d\"}\n", f.next, f.next)
		require.NoError(f.t, err)
		f.next++
	}
	last := f.next - 1
	require.Eventually(f.t, func() bool {
		code, out, _ := pipe(f.t, "", "get", f.file, fmt.Sprint("key ", last))
		return code == 0 && out == fmt.Sprint("value ", last)
	}, time.Minute, time.Millisecond, "entry %d: %s", last, f.stderr)
}

// look runs every command that only reads.
func (f *feeder) look(beside bool) {
	t, file := f.t, f.file
	ok := func(args ...string) string {
		code, out, stderr := pipe(t, "", args...)
		require.Equal(t, 0, code, "%v: %s", args, stderr)
		return out
	}
	assert.Equal(t, "value 7", ok("get", file, "key 7"))
	code, _, _ := pipe(t, "", "get", file, "no such key")
	assert.Equal(t, 1, code)
	lines := strings.Split(strings.TrimSpace(ok("scan", file)), "\n")
	seen := map[string]bool{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "\t")
		assert.Equal(t, strings.Replace(key, "key", "value", 1), value)
		assert.False(t, seen[key], "%s comes twice", key)
		seen[key] = true
	}
	n := f.next
	assert.Len(t, seen, n)
	assert.Equal(t, strconv.Itoa(n)+"\n", ok("count", file))
	assert.Contains(t, ok("info", file), "\n  onsync     ")
	text := ok("stats", file)
	assert.Contains(t, text, fmt.Sprintf("\nentries      %s; keys", grouped(n)))
	assert.Equal(t, beside, strings.Contains(text, "snapshots    known only to the process that is writing"), text)
	var d struct {
		Version   int   `json:"schema_version"`
		Entries   int   `json:"entries"`
		Beside    bool  `json:"beside_writer"`
		Snapshots *int  `json:"snapshots"`
		FileSize  int64 `json:"file_size_bytes"`
	}
	require.NoError(t, json.Unmarshal([]byte(ok("stats", "--json", file)), &d))
	assert.Equal(t, 1, d.Version)
	assert.Equal(t, n, d.Entries)
	assert.Equal(t, beside, d.Beside)
	assert.Equal(t, beside, d.Snapshots == nil)
	assert.Positive(t, d.FileSize)
	assert.Len(t, strings.Split(strings.TrimSpace(ok("stats", "--interval=1ms", "--count=2", file)), "\n"), 3)
}

func grouped(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestProcessesThatReadBesideAWriter: a process writes; others get, scan, count and
// look at what it has written so far; also when it was killed, and another writes.
func TestProcessesThatReadBesideAWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.pmt")
	writer := feed(t, file)
	writer.put(100)
	writer.look(true)
	if !testing.Short() {
		writer.put(3000)
		writer.look(true)
	}
	code, _, stderr := pipe(t, "", "check", file)
	assert.Equal(t, 4, code, stderr)
	writer.kill()
	writer.look(false)

	second := feed(t, file)
	second.put(writer.next + 50) // again, and more
	second.look(true)
	require.NoError(t, second.input.Close())
	second.kill()
	second.look(false)
	code, _, stderr = pipe(t, "", "check", file)
	assert.Equal(t, 0, code, stderr)
}

// TestProcessThatWatchesAWriter sees with --interval what a writer does, as soon as
// that does it.
func TestProcessThatWatchesAWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.pmt")
	writer := feed(t, file)
	writer.put(1)
	cmd := pmemctl(t, "stats", "--interval=1ms", "--json", file)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := json.NewDecoder(out)
	var wg sync.WaitGroup
	wg.Go(func() { // overwrites the same keys until it is killed
		for n := 0; ; n++ {
			if _, err := fmt.Fprintf(writer.input, "{\"key\": \"key %d\", \"value\": \"value %d\"}\n", n%20, n); err != nil {
				return
			}
		}
	})
	seen := 0.0
	for seen == 0 {
		var d struct {
			Version     int     `json:"schema_version"`
			Collections float64 `json:"collections_per_second"`
			Generation  int     `json:"generation"`
		}
		require.NoError(t, lines.Decode(&d))
		assert.Equal(t, 1, d.Version)
		assert.Equal(t, 1, d.Generation)
		seen = d.Collections
	}
	writer.kill()
	wg.Wait()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	assert.Equal(t, 130, cmd.ProcessState.ExitCode())
}
