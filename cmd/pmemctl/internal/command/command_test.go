package command

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestMain lets the test binary be the process that the demo kills.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == demoWriterName {
		os.Exit(NewApp().Run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

// world runs command lines against buffers.
type world struct {
	stdin    string
	terminal bool // stdin, stdout and stderr are one
}

func (w world) run(t *testing.T, args ...string) result {
	t.Helper()
	return w.runContext(t, t.Context(), args...)
}

func (w world) runContext(t *testing.T, ctx context.Context, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	a := &App{
		In: strings.NewReader(w.stdin), Out: &out, Err: &err,
		IsTerminal: func(any) bool { return w.terminal },
		Getenv:     func(string) string { return "" },
		Self:       append(strings.Fields(os.Getenv("PMEMTABLE_TEST_EXEC")), os.Args[0]), // behind an emulator's name where that is needed
	}
	code := a.Run(ctx, args)
	return result{code, out.String(), err.String()}
}

func run(t *testing.T, args ...string) result { return world{}.run(t, args...) }

// must runs a command line that succeeds, and returns its stdout.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, args...)
	require.Equal(t, ExitOK, r.code, r.err)
	return r.out
}

func fails(t *testing.T, code int, reason string, args ...string) {
	t.Helper()
	r := run(t, args...)
	assert.Equal(t, code, r.code, r.err)
	assert.Contains(t, r.err, reason)
	assert.Equal(t, 1, strings.Count(r.err, "\n"), "one line: %q", r.err)
	assert.True(t, strings.HasPrefix(r.err, "pmemctl: "), r.err)
}

// newTable makes a small table that holds some entries: key, value, key, ...
func newTable(t *testing.T, entries ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.pmt")
	tab, err := table.Open(path, &table.Options{Stripes: 2, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for i := 0; i < len(entries); i += 2 {
		require.NoError(t, tab.Put([]byte(entries[i]), []byte(entries[i+1])))
	}
	require.NoError(t, tab.Close())
	return path
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// hostileKey does what a terminal must not be told to do: set the title, clear
// the screen, begin a line of its own, turn the text around.
const hostileKey = "\x1b]0;owned\x07\x1b[2J\nroot# \u202etxt\u009b31m\xff\x7f"

// assertHarmless: what reaches a terminal is printable text and our own line
// ends.
func assertHarmless(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		printable := r >= ' ' && r < 0x7f || r > 0xa0 && r != 0x202e && r != 0xfffd
		require.True(t, printable || r == '\n' || r == '\t', "%q in %q", r, text)
	}
	assert.NotContains(t, text, "\nroot# ", "a forged line")
}
