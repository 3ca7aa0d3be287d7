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

func TestCheckWorkers(t *testing.T) {
	file := newTable(t, "a", "1", "b", "2")
	want := must(t, "check", file)
	assert.Equal(t, want, must(t, "check", "--workers=1", file))
	assert.Equal(t, want, must(t, "check", "--workers=9", file))
	fails(t, ExitUsage, "--workers", "check", "--workers=-1", file)
	fails(t, ExitUsage, "--workers", "check", "--workers=5000", file)
}

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
	printReport(out, "f", recovery.LevelFull, report)
	require.NoError(t, out.Flush())
	assert.Contains(t, text.String(), "42 problems, the first 1 listed")
	assertHarmless(t, text.String())
}

func TestCheckLevels(t *testing.T) {
	file := newTable(t, "k", "a value to be damaged!", "other", "value")
	damage(t, file, "a value to be damaged!")
	for level, code := range map[string]int{"header": ExitOK, "structure": ExitOK, "checksum": ExitCorrupt, "full": ExitCorrupt} {
		r := run(t, "check", "--json", "--level", level, file)
		assert.Equal(t, code, r.code, level)
		var d checkDocument
		require.NoError(t, json.Unmarshal([]byte(r.out), &d))
		assert.Equal(t, level, d.Level)
		assert.Equal(t, code == ExitOK, d.Clean)
		assert.False(t, d.Repairable)
		text := run(t, "check", "--level", level, file)
		assert.Contains(t, text.out, "structure    ")
	}
	assert.Contains(t, must(t, "check", "--level", "structure", file), "2, the block of each verified")
	assert.Regexp(t, `the heads of [12] director(y|ies)\nresult       clean\n`, must(t, "check", "--level", "header", file))
	r := run(t, "check", "--progress=plain", file)
	assert.Contains(t, r.err, "checking: 50 %, 1 of 2\n")
	fails(t, ExitUsage, "header, structure, checksum or full", "check", "--level=deep", file)
}

// A count that is wrong, and nothing else, costs no entry.
func TestCheckOfARepairableFileExitsWith7(t *testing.T) {
	file := newTable(t, "k", "v", "l", "w")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, wrongCounts(t, content), 0o600))
	r := run(t, "check", "--json", file)
	assert.Equal(t, ExitRepairable, r.code, r.err)
	assert.Contains(t, r.out, `"repairable": true`)
	assert.Contains(t, run(t, "check", file).out, "PROBLEM      superblock at offset 0x0: stripe 0 has ")
	repaired := file + ".repaired"
	r = run(t, "repair", file, repaired)
	assert.Contains(t, r.out, "2; keys 2 B, values 2 B", r.err)
	assert.Equal(t, "2\n", must(t, "count", repaired))
	assert.Contains(t, must(t, "check", repaired), "clean")
}
