package command

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/demo"
)

func TestImportCreatesOnlyWhenAsked(t *testing.T) {
	data := writeFile(t, "d.jsonl", `{"key":"a","value":"1"}`+"\n"+`{"key_base64":"/w==","value":"2"}`)
	file := filepath.Join(t.TempDir(), "t.pmt")
	fails(t, ExitIO, "no such file", "import", file, data)
	fails(t, ExitIO, "no such file", "import", "--create", file, data+".missing")
	fails(t, ExitIO, "directory", "import", "--create", file, filepath.Dir(data))
	_, err := os.Lstat(file)
	require.ErrorIs(t, err, fs.ErrNotExist, "an input that is not there must not leave a table behind")

	r := run(t, "import", "--create", "--stripes", "2", file, data)
	require.Equal(t, ExitOK, r.code, r.err)
	assert.Empty(t, r.out)
	assert.Regexp(t, `^imported 2 entries .* in .*/s.*; .* now holds 2 entries\n$`, r.err)
	must(t, "import", "--create", file, data)
	assert.Equal(t, "2\n", must(t, "count", file))
	assert.Equal(t, "2", must(t, "get", file, "\xff"))
}

func TestImportFromStandardInput(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "value,key\nv,k\n")
	require.NoError(t, z.Close())
	file := newTable(t)
	for stdin, args := range map[string][]string{
		`{"key":"j","value":"v"}`: {"import", file, "-"},
		packed.String():           {"import", file, "-"},
		"t\tv\n":                  {"import", "--format", "tsv", file, "-"},
		"name,text\nh,v\n":        {"import", "--header", "yes", file, "-"},
		"key,value\n":             {"import", "--header=no", "--format=csv", file, "-"},
	} {
		r := world{stdin: stdin}.run(t, args...)
		require.Equal(t, ExitOK, r.code, r.err)
	}
	assert.Equal(t, "5\n", must(t, "count", file))
	for _, key := range []string{"j", "k", "t", "h"} {
		assert.Equal(t, "v", must(t, "get", file, key))
	}
	assert.Equal(t, "value", must(t, "get", file, "key"))
}

func TestImportLastOfEqualKeysWins(t *testing.T) {
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "k%d\t%d\n", i%7, i)
	}
	file := newTable(t)
	r := world{stdin: text.String()}.run(t, "import", file, "-")
	require.Equal(t, ExitOK, r.code, r.err)
	for i := 20_000 - 7; i < 20_000; i++ {
		assert.Equal(t, fmt.Sprint(i), must(t, "get", file, fmt.Sprintf("k%d", i%7)))
	}
}

func TestImportKeepsWhatCameBeforeAMalformedLine(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "{\"key\":\"k%d\",\"value\":\"v\"}\n", i)
	}
	text.WriteString("{\"key\":\"bad\",\n{\"key\":\"after\",\"value\":\"v\"}\n")
	data := writeFile(t, "d.jsonl", text.String())
	file := newTable(t)
	fails(t, ExitUsage, "import "+file+": "+data+": line 1001: the line ends", "import", file, data)
	r := run(t, "import", file, data)
	assert.Contains(t, r.err, "(1,000 entries before it: stored and synced)")
	assert.Equal(t, "1000\n", must(t, "count", file))

	long := strings.Repeat("k", 65536)
	r = world{stdin: "a\tb\n" + long + "\tv\n"}.run(t, "import", "--format=tsv", file, "-")
	assert.Equal(t, ExitUsage, r.code)
	assert.Contains(t, r.err, "standard input: line 2: ")
	assert.Contains(t, r.err, "too large")

	r = world{stdin: "a\tb\nc\t" + long + "\n"}.run(t, "import", "--format=tsv", "--max-line", "64KB", file, "-")
	assert.Equal(t, ExitUsage, r.code)
	assert.Contains(t, r.err, "line 2: the line is longer than the limit of 63 KiB (--max-line)")
}

func TestImportStopsWhenInterrupted(t *testing.T) {
	file := newTable(t)
	input, feed := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, _ = io.WriteString(feed, "{\"key\":\"a\",\"value\":\"v\"}\n{\"key\":\"b\",\"value\":\"v\"}\n")
		// What was fed is stored without waiting for more: another reader of the
		// file sees it while the import still holds its end of the pipe.
		assert.Eventually(t, func() bool { return run(t, "count", file).out == "2\n" }, time.Minute, time.Millisecond)
		stop()
	}()
	var text strings.Builder
	a := &App{In: input, Out: io.Discard, Err: &text, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" }}
	assert.Equal(t, ExitInterrupted, a.Run(ctx, []string{"import", file, "-"}))
	assert.Contains(t, text.String(), "interrupted (2 entries before it: stored and synced)")
	assert.Equal(t, "2\n", must(t, "count", file))
}

func TestImportShowsProgressOnATerminal(t *testing.T) {
	data := filepath.Join(t.TempDir(), "debs.gz")
	require.NoError(t, os.WriteFile(data, demo.Packages(), 0o600))
	file := newTable(t)
	r := world{terminal: true}.run(t, "import", file, data)
	require.Equal(t, ExitOK, r.code, r.err)
	assert.Contains(t, r.err, "importing")
	last := r.err[strings.LastIndex(r.err, "\r")+1:]
	assert.Regexp(t, `^imported 4,900 entries .* now holds 4,900 entries\n$`, last)
	assert.NotContains(t, run(t, "import", file, data).err, "\r")
}
