package command

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func TestUsageErrorsExitWith2(t *testing.T) {
	file := newTable(t)
	for _, args := range [][]string{
		{"frobnicate"},
		{"get"},
		{"get", file},
		{"get", file, "a", "b"},
		{"get", "--no-such-flag", file, "a"},
		{"get", "--key-format", "rot13", file, "a"},
		{"get", "--key-format", "hex", file, "0"},
		{"get", file, "-k"},
		{"create", "--stripes", "-1", file},
		{"create", "--stripes", "1000000", file},
		{"create", "--max-size", "many", file},
		{"create", "--max-size", "-1", file},
		{"create", "--mode", "999", file},
		{"import", file},
		{"import", "--stripes", "8", file, "-"},
		{"import", "--format", "xml", file, "-"},
		{"export", "--key-format", "hex", file},
		{"scan", "--cursor", "x", file},
		{"scan", "--cursor", "1:2", file},
		{"scan", "--limit", "-1", file},
		{"put", file, "k"},
		{"put", "--if-absent", "--if-value", "x", file, "k", "v"},
		{"put", "--value-file", "x", file, "k", "v"},
		{"demo", "--writers", "0"},
		{"backup", file}, {"restore", file}, {"compact"}, {"diff", file}, {"compact", "--progress", "loud", file},
	} {
		fails(t, ExitUsage, "pmemctl: ", args...)
	}
	r := run(t, "gte")
	assert.Contains(t, r.err, "did you mean get")
	r = run(t, "get", file, "-k")
	assert.Contains(t, r.err, "after --")
}

func TestNoCommandShowsTheHelp(t *testing.T) {
	r := run(t)
	assert.Equal(t, ExitUsage, r.code)
	assert.Empty(t, r.out)
	assert.Contains(t, r.err, "Exit codes:")
	assert.Contains(t, must(t, "--help"), "pmemctl VERB [flags] FILE [arguments]")
	assert.Contains(t, must(t, "--version"), "pmemctl version")
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	root := (&App{Out: io.Discard, Err: io.Discard}).newRoot()
	for _, cmd := range root.Commands() {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		t.Run(cmd.Name(), func(t *testing.T) {
			help := must(t, cmd.Name(), "--help")
			assert.Contains(t, help, "Examples:\n  pmemctl "+cmd.Name())
			assert.Contains(t, help, "Usage:\n  pmemctl "+cmd.Name()+" [flags]")
			for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
				assert.LessOrEqual(t, len(line), 101, "too wide: %s", line)
			}
		})
	}
}

// TestExamplesAreCommandLines: every line of the examples and of the README is one that
// its command takes.
func TestExamplesAreCommandLines(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "README.md"))
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^\./pmemctl .*$`).FindAllString(string(readme), -1)
	assert.NotEmpty(t, lines)
	root := (&App{Out: io.Discard, Err: io.Discard}).newRoot()
	for _, cmd := range append(visible(root), root) {
		lines = append(lines, strings.Split(strings.Trim(cmd.Example, "\n"), "\n")...)
	}
	for _, line := range lines {
		parts := regexp.MustCompile(`pmemctl ([^|>#]*)`).FindStringSubmatch(line)
		require.NotEmpty(t, parts, line)
		command, _, _ := strings.Cut(parts[1], "   ") // a remark
		words := strings.Fields(strings.ReplaceAll(command, "< ", "<"))
		words = slices.DeleteFunc(words, func(word string) bool { return strings.HasPrefix(word, "<") })
		target, rest, err := (&App{Out: io.Discard, Err: io.Discard}).newRoot().Find(words)
		require.NoError(t, err, line)
		require.NoError(t, target.ParseFlags(rest), line)
		require.NoError(t, target.ValidateArgs(target.Flags().Args()), line)
	}
}

func TestReadingNeverCreates(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pmt")
	data := writeFile(t, "d.jsonl", "")
	for _, args := range [][]string{
		{"get", missing, "k"}, {"scan", missing}, {"count", missing}, {"info", missing}, {"stats", missing}, {"check", missing},
		{"export", missing}, {"export", "--out", missing + ".jsonl", missing},
		{"backup", missing, missing + ".backup"}, {"compact", missing}, {"diff", missing, missing},
		{"put", missing, "k", "v"}, {"delete", missing, "k"}, {"import", missing, data},
	} {
		fails(t, ExitIO, args[0]+" "+missing+": no such file or directory", args...)
	}
	entries, err := os.ReadDir(filepath.Dir(missing))
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestForeignFilesExitWith3(t *testing.T) {
	for name, content := range map[string]string{
		"text": strings.Repeat("just a text\n", 1000), "short": "x", "zeros": strings.Repeat("\x00", 1<<20),
	} {
		file := writeFile(t, name, content)
		for _, args := range [][]string{{"get", file, "k"}, {"count", file}, {"check", file}, {"put", file, "k", "v"}} {
			fails(t, ExitCorrupt, "not a pmemtable file", args...)
		}
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, content, string(after), "a foreign file must not be touched")
	}
}

func TestLockedFilesExitWith4(t *testing.T) {
	file := newTable(t, "k", "v")
	holder, err := table.Open(file, nil)
	require.NoError(t, err)
	defer holder.Close()
	data := writeFile(t, "d.jsonl", "")
	for _, args := range [][]string{{"put", file, "k", "w"}, {"delete", file, "k"}, {"import", file, data}} {
		fails(t, ExitLocked, "locked", args...)
	}
}

func TestErrorsOnATerminalAreHarmless(t *testing.T) {
	file := newTable(t)
	r := world{terminal: true}.run(t, "get", file, hostileKey)
	assert.Equal(t, ExitCondition, r.code)
	assertHarmless(t, r.err)
	r = world{terminal: true}.run(t, "get", hostileKey, "k")
	assert.Equal(t, ExitIO, r.code)
	assertHarmless(t, r.err)
	r = world{terminal: true}.run(t, hostileKey)
	assert.Equal(t, ExitUsage, r.code)
	assertHarmless(t, r.err)
	data := writeFile(t, "d.jsonl", `{"\u001b[2J":"","\n":""}`)
	r = world{terminal: true}.run(t, "import", file, data)
	assert.Equal(t, ExitUsage, r.code)
	assertHarmless(t, strings.ReplaceAll(r.err, "\x1b[2K\r", ""))
}

func TestExitCodesOfErrors(t *testing.T) {
	for code, errs := range map[int][]error{
		ExitOK:          {nil, syscall.EPIPE, &fs.PathError{Err: syscall.EPIPE}},
		ExitCondition:   {table.ErrNotFound},
		ExitUsage:       {table.ErrTooLarge, fs.ErrExist},
		ExitCorrupt:     {table.ErrCorrupt, table.ErrNotPool},
		ExitLocked:      {table.ErrLocked},
		ExitIO:          {table.ErrFull, table.ErrPoisoned, fs.ErrPermission, syscall.EIO, io.ErrUnexpectedEOF},
		ExitVersion:     {table.ErrVersion},
		ExitInterrupted: {context.Canceled},
	} {
		for _, err := range errs {
			assert.Equal(t, code, exitCode(err), "%v", err)
		}
	}
}
