package command

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/recovery"
	"pmemtable/table"
)

func TestCheckOfACleanFile(t *testing.T) {
	flat, _ := manyEntries(500)
	file := newTable(t, flat...)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	out := must(t, "check", file)
	assert.Contains(t, out, "entries      500, ")
	assert.True(t, strings.HasSuffix(out, "result       clean\n"), out)
	var d checkDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "check", "--json", file)), &d))
	assert.True(t, d.Clean)
	assert.Equal(t, int64(500), d.Entries)
	assert.NotNil(t, d.Problems)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, before, after, "check must not write")
}

// damage changes a byte inside the only place where a marker occurs.
func damage(t *testing.T, file, marker string) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(content), marker))
	content[strings.Index(string(content), marker)] ^= 0x40
	require.NoError(t, os.WriteFile(file, content, 0o600))
}

func TestCheckNamesDamageAndExitsWith3(t *testing.T) {
	file := newTable(t, "k", "a value to be damaged!", "other", "value")
	damage(t, file, "a value to be damaged!")
	r := run(t, "check", file)
	assert.Equal(t, ExitCorrupt, r.code)
	assert.Contains(t, r.out, "PROBLEM      record at offset 0x")
	assert.Regexp(t, `(?m)^result       \d+ problems?$`, r.out)
	assert.Regexp(t, `^pmemctl: check \S+: \d+ problems? found\n$`, r.err)

	r = run(t, "check", "--json", file)
	assert.Equal(t, ExitCorrupt, r.code)
	var d checkDocument
	require.NoError(t, json.Unmarshal([]byte(r.out), &d))
	assert.False(t, d.Clean)
	require.NotEmpty(t, d.Problems)
	assert.Equal(t, "record", d.Problems[0].Where)
	assert.Positive(t, d.Problems[0].Offset)

	fails(t, ExitCorrupt, "corrupt", "get", file, "k")
	assert.Equal(t, "value", must(t, "get", file, "other"))
}

func TestCheckReportOfProblemsThatAreNotListed(t *testing.T) {
	var text strings.Builder
	a := &App{Out: &text, IsTerminal: func(any) bool { return true }}
	out := a.stdout(false)
	report := table.Report{Dropped: 41}
	report.Problems = append(report.Problems, recovery.Problem{Where: "record", What: hostileKey})
	printReport(out, "f", report)
	require.NoError(t, out.Flush())
	assert.Contains(t, text.String(), "42 problems, the first 1 listed")
	assertHarmless(t, text.String())
}
