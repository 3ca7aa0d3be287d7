package command

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExplain(t *testing.T) {
	file := newTable(t, "k", "a value", hostileKey, hostileKey)
	out := must(t, "explain", file, "k")
	for _, label := range []string{"key ", "hash ", "stripe ", "root ", "directory ", "word ", "segment ", "home line ", "  slot 0 ", "  record ", "result "} {
		assert.Contains(t, "\n"+out, "\n"+label)
	}
	assert.Contains(t, out, `    value    "a value"`)
	assert.Contains(t, out, "result       found, after 1 line and 1 record\n")
	var d struct {
		SchemaVersion int `json:"schema_version"`
		Key           string
		Found         bool
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "explain", "--json", file, "k")), &d))
	assert.Equal(t, 1, d.SchemaVersion)
	assert.Equal(t, "k", d.Key)
	assert.True(t, d.Found)

	r := run(t, "explain", file, "absent")
	assert.Equal(t, ExitCondition, r.code)
	assert.Empty(t, r.err)
	assert.Regexp(t, `result       not there`, r.out)
	assert.Contains(t, run(t, "explain", newTable(t), "k").out, "the stripe is empty")
	r = world{terminal: true}.run(t, "explain", file, hostileKey)
	assert.Equal(t, ExitOK, r.code)
	assertHarmless(t, r.out)

	damage(t, file, "a value")
	r = run(t, "explain", file, "k")
	assert.Equal(t, ExitCorrupt, r.code)
	assert.Contains(t, r.out, "WRONG, computed")
	fails(t, ExitUsage, "hexadecimal", "explain", "--key-format=hex", file, "xyz")
	fails(t, ExitUsage, "the longest has 65535", "explain", file, string(make([]byte, 70000)))
	fails(t, ExitIO, "no such file", "explain", file+".missing", "k")
}

func TestDump(t *testing.T) {
	file := newTable(t, "k", "a value", hostileKey, hostileKey)
	out := must(t, "dump", file, "header")
	assert.Contains(t, out, "header       at 0x0, 4,096 bytes: intact\n")
	assert.Contains(t, out, "0x30          02 00 00 00              stripes: 2\n")
	assert.Contains(t, must(t, "dump", file, "stripe", "1"), "of the committed root: closed in order\n")
	at := regexp.MustCompile(`  record     at (0x[0-9a-f]+)`).FindStringSubmatch(must(t, "explain", file, "k"))
	require.Len(t, at, 2)
	assert.Regexp(t, `value: 7 bytes\n`, must(t, "dump", file, "record", at[1]))
	var d dumpDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "dump", "--json", file, "control")), &d))
	assert.Equal(t, "control", d.Kind)

	at = regexp.MustCompile(`  record     at (0x[0-9a-f]+)`).FindStringSubmatch(must(t, "explain", file, hostileKey))
	r := world{terminal: true}.run(t, "dump", "--all", file, "record", at[1])
	assert.Equal(t, ExitOK, r.code)
	assertHarmless(t, r.out)
	r = run(t, "dump", file, "segment", "0x1000")
	assert.Equal(t, ExitCorrupt, r.code)
	assert.Contains(t, r.out, "DAMAGED, or none")
	fails(t, ExitUsage, "unknown kind", "dump", file, "moon")
	fails(t, ExitUsage, "needs an address: 0 or 1", "dump", file, "superblock")
	fails(t, ExitUsage, "it has no address", "dump", file, "header", "1")
	fails(t, ExitUsage, "0 and 1", "dump", file, "superblock", "2")
	fails(t, ExitUsage, "no number", "dump", file, "chunk", "x")
	fails(t, ExitIO, "no such file", "dump", file+".missing", "header")
}
