package command

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// decoded reads a document strictly: it is one, and has no field that d lacks.
func decoded[T any](t *testing.T, text string) (d T) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d), text)
	require.False(t, decoder.More(), "more than a document: %s", text)
	return d
}

func ptr(text string) *string { return &text }

func TestJSONOfEntries(t *testing.T) {
	file := newTable(t, "k", "v", "\xff", "\x00")
	got := decoded[getDocument](t, must(t, "get", "--json", file, "k"))
	assert.Equal(t, getDocument{1, file, keyDocument{Key: ptr("k")}, valueDocument{Value: ptr("v")}}, got)
	got = decoded[getDocument](t, must(t, "get", "--json", "--key-format", "hex", "--value-format", "base64", file, "ff"))
	assert.Equal(t, getDocument{1, file, keyDocument{KeyHex: ptr("ff")}, valueDocument{ValueBase64: ptr("AA==")}}, got)

	put := decoded[putDocument](t, must(t, "put", "--json", file, "new", "value"))
	assert.Equal(t, putDocument{1, file, keyDocument{Key: ptr("new")}, 5}, put)
	deleted := decoded[deleteDocument](t, must(t, "delete", "--json", file, "new"))
	assert.Equal(t, deleteDocument{1, file, keyDocument{Key: ptr("new")}}, deleted)
	assert.Empty(t, must(t, "put", file, "new", "value"), "nothing is said without --json")

	scan := decoded[scanDocument](t, must(t, "scan", "--json", file))
	assert.Equal(t, scanDocument{1, file, scan.Entries, 3, true, "0"}, scan)
	assert.ElementsMatch(t, []scanEntry{
		{keyDocument{Key: ptr("k")}, valueDocument{Value: ptr("v")}}, {keyDocument{KeyBase64: ptr("/w==")}, valueDocument{Value: ptr("\x00")}},
		{keyDocument{Key: ptr("new")}, valueDocument{Value: ptr("value")}},
	}, scan.Entries)
	page := decoded[scanDocument](t, must(t, "scan", "--json", "--keys-only", "--limit=1", file))
	assert.Len(t, page.Entries, 1)
	assert.Zero(t, page.Entries[0].valueDocument)
	rest := decoded[scanDocument](t, must(t, "scan", "--json", "--cursor", page.NextCursor, file))
	assert.Equal(t, scan.Entries[1:], rest.Entries)
	assert.Empty(t, decoded[scanDocument](t, must(t, "scan", "--json", "--prefix=none", file)).Entries)
}

func TestJSONOfFiles(t *testing.T) {
	dir := t.TempDir()
	file, out := filepath.Join(dir, "t.pmt"), filepath.Join(dir, "t.jsonl")
	created := decoded[createDocument](t, must(t, "create", "--json", "--stripes=2", file))
	assert.Equal(t, createDocument{1, file, 2, created.Medium, created.Survives, "always"}, created)
	data := writeFile(t, "d.jsonl", `{"key":"k","value":"value"}`)
	imported := decoded[importDocument](t, must(t, "import", "--json", file, data))
	assert.Equal(t, importDocument{1, file, data, 1, 6, imported.Seconds, 1}, imported)
	exported := decoded[exportDocument](t, must(t, "export", "--json", "--out", out, file))
	assert.Equal(t, exportDocument{1, file, out, "jsonl", 1, exported.Seconds}, exported)
}

func TestJSONOfTheDemo(t *testing.T) {
	d := decoded[demoDocument](t, demoRun(t, world{}, "--json", "--dir", t.TempDir()).out)
	assert.True(t, d.Passed)
	assert.Equal(t, 4900, d.Entries)
	assert.Equal(t, 3, d.Kills)
	assert.Positive(t, d.SlowestOpen)
	assert.Positive(t, min(d.Puts, d.Gets, int(d.SizeBytes), d.Acknowledged))
	r := run(t, "demo", "--json", filepath.Join(t.TempDir(), "missing"))
	assert.Equal(t, ExitIO, r.code)
	assert.False(t, decoded[demoDocument](t, r.out).Passed)
}

// TestJSONErrors: one shape, whatever fails, and the exit code that there is without
// --json.
func TestJSONErrors(t *testing.T) {
	file, foreign := newTable(t, "k", "v"), writeFile(t, "foreign", strings.Repeat("text\n", 5000))
	held := newTable(t)
	holder, err := table.Open(held, nil)
	require.NoError(t, err)
	defer holder.Close()
	for _, c := range []struct {
		code          int
		kind, command string
		file, message string
		args          []string
	}{
		{ExitCondition, "condition", "get", file, `key "x": not found`, []string{"get", file, "x"}},
		{ExitCondition, "condition", "put", file, `nothing stored: key "k" is there already`, []string{"put", "--if-absent", file, "k", "w"}},
		{ExitUsage, "usage", "get", file, "too few arguments; usage: pmemctl get [flags] FILE KEY", []string{"get", file}},
		{ExitUsage, "usage", "get", "", "unknown flag: --nonsense; see pmemctl get --help", []string{"get", "--nonsense", file}},
		{ExitUsage, "usage", "", "", `unknown command "nonsense"; see pmemctl --help`, []string{"nonsense", file}},
		{ExitUsage, "usage", "export", file, "--json would stand behind the entries on standard output: it needs --out (pmemctl scan --json prints entries)", []string{"export", file}},
		{ExitCorrupt, "corruption", "count", foreign, "not a pmemtable file", []string{"count", foreign}},
		{ExitLocked, "locked", "put", held, "locked", []string{"put", held, "k", "v"}},
		{ExitIO, "io", "get", file + "x", "no such file or directory", []string{"get", file + "x", "k"}},
	} {
		for _, args := range [][]string{append([]string{"--json"}, c.args...), append([]string{c.args[0], "--json"}, c.args[1:]...)} {
			r := run(t, args...)
			assert.Equal(t, c.code, r.code, r.err)
			assert.Empty(t, r.out)
			assert.Equal(t, 1, strings.Count(r.err, "\n"), r.err)
			d := decoded[errorDocument](t, r.err)
			assert.Contains(t, d.Error.Message, c.message)
			assert.Equal(t, errorDocument{1, errorReport{c.code, c.kind, c.command, c.file, d.Error.Message}}, d)
		}
	}
	r := run(t, "get", file, "--", "--json")
	assert.Equal(t, "pmemctl: get "+file+": key \"--json\": not found\n", r.err)
	r = run(t, "get", "--json=false", file, "x")
	assert.Contains(t, r.err, "pmemctl: get ")
	r = world{terminal: true}.run(t, "get", "--json", file, hostileKey)
	assertHarmless(t, r.err)
}
