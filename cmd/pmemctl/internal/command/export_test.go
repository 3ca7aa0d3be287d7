package command

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/demo"
)

func sortedLines(text string) []string {
	lines := slices.Collect(strings.Lines(text))
	slices.Sort(lines)
	return lines
}

// The real data, in and out again in every format, byte for byte.
func TestExportGivesBackWhatWasImported(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "debs.jsonl.gz")
	require.NoError(t, os.WriteFile(data, demo.Packages(), 0o600))
	z, err := gzip.NewReader(bytes.NewReader(demo.Packages()))
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	want := sortedLines(string(text))

	first := filepath.Join(dir, "first.pmt")
	must(t, "import", "--create", first, data)
	assert.Equal(t, "4900\n", must(t, "count", first))
	require.Equal(t, want, sortedLines(must(t, "export", first)))
	must(t, "check", first)

	for _, format := range []string{"jsonl", "csv", "tsv"} {
		out, again := filepath.Join(dir, "out."+format), filepath.Join(dir, format+".pmt")
		r := run(t, "export", "--format", format, "--out", out, first)
		require.Equal(t, ExitOK, r.code, r.err)
		assert.Empty(t, r.out)
		assert.Contains(t, r.err, "exported 4,900 entries")
		must(t, "import", "--create", again, out)
		assert.Equal(t, want, sortedLines(must(t, "export", again)), format)
	}
}

func TestExportOfBytesThatAreNoText(t *testing.T) {
	file := newTable(t, "text", "\xff", "\xfe", "text", "\xfe\xff", "\xff\xfe", hostileKey, "crlf\r\n", "", "", "key", "value")
	for line := range strings.Lines(must(t, "export", file)) {
		var fields map[string]string
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		for name, value := range fields {
			if strings.HasSuffix(name, "_base64") {
				_, err := base64.StdEncoding.DecodeString(value)
				assert.NoError(t, err)
			}
		}
	}
	want := sortedLines(must(t, "export", file))
	assert.Contains(t, want, "{\"key\": \"text\", \"value_base64\": \"/w==\"}\n", "each side by itself")
	for _, args := range [][]string{
		{"--format=csv"}, {"--format=tsv"}, {"--format=csv", "--key-format=hex"}, {"--format=tsv", "--value-format=base64"},
	} {
		text := must(t, append(append([]string{"export"}, args...), file)...)
		again := newTable(t)
		r := world{stdin: text}.run(t, "import", args[0], again, "-")
		require.Equal(t, ExitOK, r.code, r.err)
		assert.Equal(t, want, sortedLines(must(t, "export", again)), args)
	}
	assert.True(t, strings.HasPrefix(must(t, "export", "--format=csv", file), "key_base64,value_base64\n"))
	assert.True(t, strings.HasPrefix(must(t, "export", "--format=csv", newTable(t, "a", "b\xff")), "key,value_base64\n"))
	assert.Equal(t, "a,b\n", must(t, "export", "--format=csv", "--no-header", newTable(t, "a", "b")))
	fails(t, ExitUsage, "--key-format base64", "export", "--format=csv", "--key-format=utf8", file)
}

func TestExportOnATerminal(t *testing.T) {
	file := newTable(t, hostileKey, hostileKey, "\u202eabc", "\x7f\u009b")
	tty := world{terminal: true}
	for _, format := range []string{"jsonl", "csv", "tsv"} {
		r := tty.run(t, "export", "--format", format, file)
		require.Equal(t, ExitOK, r.code, r.err)
		assertHarmless(t, r.out)
		if format == "csv" {
			continue
		}
		again := newTable(t)
		in := world{stdin: r.out}.run(t, "import", "--format", format, again, "-")
		require.Equal(t, ExitOK, in.code, in.err)
		assert.Equal(t, sortedLines(must(t, "export", file)), sortedLines(must(t, "export", again)))
	}
	assert.Equal(t, must(t, "export", file), tty.run(t, "export", "--raw", file).out)
}

func TestExportFilesAreWholePrivateAndNew(t *testing.T) {
	file := newTable(t, "k", "v")
	dir := t.TempDir()
	out := filepath.Join(dir, "out.jsonl")
	must(t, "export", "--out", out, file)
	if info, err := os.Stat(out); assert.NoError(t, err) && runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	fails(t, ExitUsage, "exist", "export", "--out", out, file)
	content, err := os.ReadFile(out)
	require.NoError(t, err)
	assert.Equal(t, "{\"key\": \"k\", \"value\": \"v\"}\n", string(content))

	ctx, stop := context.WithCancel(t.Context())
	stop()
	r := world{}.runContext(t, ctx, "export", "--out", filepath.Join(dir, "interrupted"), file)
	assert.Equal(t, ExitInterrupted, r.code)
	assert.Equal(t, "pmemctl: export "+file+": interrupted\n", r.err)
	damaged := newTable(t, "k", "a value to be damaged!")
	damage(t, damaged, "a value to be damaged!")
	fails(t, ExitCorrupt, "corrupt", "export", "--out", filepath.Join(dir, "damaged"), damaged)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing half done may stay")
}

// brokenPipe is a reader that has gone.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestABrokenPipeIsNoError(t *testing.T) {
	flat, _ := manyEntries(2000)
	file := newTable(t, flat...)
	for _, args := range [][]string{{"export", file}, {"scan", file}, {"get", file, "odd/1"}, {"count", file}, {"info", file}, {"stats", file}, {"stats", "--interval=1ms", file}} {
		var text strings.Builder
		a := &App{Out: brokenPipe{}, Err: &text, IsTerminal: func(any) bool { return false }}
		assert.Equal(t, ExitOK, a.Run(t.Context(), args))
		assert.Empty(t, text.String())
	}
}
