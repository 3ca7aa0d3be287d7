package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/demo"
)

// demoRun is run for the demo, which starts this test binary again.
func demoRun(t *testing.T, w world, args ...string) result {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each child takes a second more under -race
	r := w.run(t, append([]string{"demo"}, args...)...)
	require.Equal(t, ExitOK, r.code, r.out+r.err)
	return r
}

func TestDemoPassesAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	r := demoRun(t, world{}, "--dir", dir)
	assert.Empty(t, r.err)
	assert.Equal(t, 3, strings.Count(r.out, "killed after"))
	assert.NotContains(t, r.out, "\x1b", "a pipe gets no colour")
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	assert.Regexp(t, `^PASS: 3 kills, all [0-9,]+ acknowledged writes there, reopened in [0-9.]+ ms at most$`, lines[len(lines)-1])
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestDemoOnATerminalWithOwnDataKept(t *testing.T) {
	data := filepath.Join(t.TempDir(), "own.jsonl.gz")
	require.NoError(t, os.WriteFile(data, demo.Packages(), 0o600))
	dir := t.TempDir()
	r := demoRun(t, world{terminal: true}, "--dir", dir, "--keep", "--writers", "2", data)
	assert.Contains(t, r.out, "\x1b[32m")
	kept, err := filepath.Glob(filepath.Join(dir, "pmemctl-demo-*", "demo.pmt"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	assert.Equal(t, "4900\n", must(t, "count", kept[0]))
	assert.Contains(t, r.out, kept[0])
}

func TestDemoSaysFailWhenItCannotRun(t *testing.T) {
	r := run(t, "demo", "--dir", filepath.Join(t.TempDir(), "missing"))
	assert.Equal(t, ExitIO, r.code)
	assert.Contains(t, r.out, "FAIL: ")
	r = run(t, "demo", writeFile(t, "few.jsonl", `{"key":"a","value":"b"}`))
	assert.NotEqual(t, ExitOK, r.code)
	assert.Contains(t, r.out, "FAIL: ")
	assert.Contains(t, r.out, "the demo needs 1,000")
	r = run(t, "demo", writeFile(t, "bad.jsonl", "{"))
	assert.Equal(t, ExitUsage, r.code)
	assert.Contains(t, r.out, "line 1")
}
