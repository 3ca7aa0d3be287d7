package command

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// names lists a directory, what begins with a dot included.
func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBackupAndRestore(t *testing.T) {
	flat, _ := manyEntries(3000)
	file, dir := newTable(t, flat...), t.TempDir()
	tab, err := table.Open(file, nil)
	require.NoError(t, err)
	b := table.NewBatch()
	b.SetMetadata([]byte("about it"))
	require.NoError(t, tab.Apply(b))
	require.NoError(t, tab.Close())

	stream, restored := filepath.Join(dir, "stream"), filepath.Join(dir, "restored.pmt")
	r := run(t, "backup", file, stream)
	require.Equal(t, ExitOK, r.code, r.err)
	assert.Regexp(t, `^wrote [0-9.]+ KiB to \S+ in [0-9.]+ s\n$`, r.err)
	r = run(t, "restore", "--stripes", "16", stream, restored)
	require.Equal(t, ExitOK, r.code, r.err)
	assert.Contains(t, r.err, "restored 3,000 entries")
	assert.Contains(t, must(t, "diff", file, restored), "3,000 entries the same, 0 with another value")
	assert.Contains(t, must(t, "check", restored), "clean")

	content, err := os.ReadFile(stream)
	require.NoError(t, err)
	assert.Equal(t, string(content), must(t, "backup", file, "-"), "the same bytes each time")
	again := filepath.Join(dir, "again.pmt")
	r = world{stdin: string(content)}.run(t, "restore", "--json", "-", again)
	require.Equal(t, ExitOK, r.code, r.err)
	var d restoreDocument
	require.NoError(t, json.Unmarshal([]byte(r.out), &d))
	assert.Equal(t, int64(3000), d.Entries)
	assert.Equal(t, []string{"again.pmt", "restored.pmt", "stream"}, names(t, dir))

	var bd backupDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "backup", "--json", file, filepath.Join(dir, "second"))), &bd))
	assert.Equal(t, int64(len(content)), bd.SizeBytes)

	fails(t, ExitUsage, "exists", "backup", file, stream)
	fails(t, ExitUsage, "exists", "restore", stream, restored)
	assert.Equal(t, ExitUsage, run(t, "backup", "--json", file, "-").code)
	r = world{terminal: true}.run(t, "backup", file, "-")
	assert.Equal(t, ExitUsage, r.code)
	fails(t, ExitIO, "no such file", "restore", filepath.Join(dir, "missing"), filepath.Join(dir, "x"))
}

func TestRestoreRefusesWhatIsNoWholeBackup(t *testing.T) {
	file := newTable(t, "a", "1", "b", "2")
	stream := must(t, "backup", file, "-")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cut": stream[:len(stream)-1], "empty": "", "more": stream + "x", "foreign": "a text",
		"changed": strings.Replace(stream, "1", "3", 1),
	} {
		target := filepath.Join(dir, name)
		fails(t, ExitCorrupt, "not an intact backup", "restore", writeFile(t, name, text), target)
	}
	assert.Empty(t, names(t, dir))
}

func TestRestoreThatIsInterruptedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	input, feed := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, _ = feed.Write([]byte("PMTBAK01"))
		stop()
	}()
	var text bytes.Buffer
	a := &App{In: input, Out: io.Discard, Err: &text, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" }}
	assert.Equal(t, ExitInterrupted, a.Run(ctx, []string{"restore", "-", filepath.Join(dir, "t.pmt")}))
	assert.Equal(t, "pmemctl: restore: interrupted\n", strings.Replace(text.String(), " -:", ":", 1))
	assert.Empty(t, names(t, dir))
}

func TestBackupBesideAWriterIsRefused(t *testing.T) {
	file, dir := newTable(t, "a", "1"), t.TempDir()
	holder, err := table.Open(file, nil)
	require.NoError(t, err)
	defer holder.Close()
	fails(t, ExitLocked, "the writer's own Backup", "backup", file, filepath.Join(dir, "b"))
	fails(t, ExitLocked, "locked", "compact", file)
	assert.Empty(t, names(t, dir))
}
