package command

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func TestDiff(t *testing.T) {
	a := newTable(t, "same", "1", "changed", "old", "gone", "x", "\xff", "binary")
	b := newTable(t, "same", "1", "changed", "new", "come", "y")
	r := run(t, "diff", a, b)
	assert.Equal(t, ExitCondition, r.code)
	assert.Empty(t, r.err)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	assert.Equal(t, fmt.Sprintf("1 entry the same, 1 with another value, 2 only in %s, 1 only in %s", a, b), lines[4])
	slices.Sort(lines[:4])
	assert.Equal(t, []string{"+ come", "- gone", "- \xff", "~ changed"}, lines[:4])

	r = run(t, "diff", "--json", a, b)
	assert.Equal(t, ExitCondition, r.code)
	var d diffDocument
	require.NoError(t, json.Unmarshal([]byte(r.out), &d))
	require.Len(t, d.Differences, 4)
	d.Differences = nil
	assert.Equal(t, diffDocument{SchemaVersion: 1, A: a, B: b, Same: 1, OnlyInA: 2, OnlyInB: 1, Changed: 1}, d)
	assert.Contains(t, r.out, `"key_base64": "/w=="`)

	r = run(t, "diff", "--limit", "1", "--key-format", "hex", a, b)
	assert.Equal(t, ExitCondition, r.code)
	assert.Contains(t, r.out, "(3 more)\n")
	assert.Contains(t, must(t, "diff", a, a), "4 entries the same")
	fails(t, ExitUsage, "--limit", "diff", "--limit", "-1", a, b)
	fails(t, ExitIO, "no such file", "diff", a, b+".missing")
	r = world{terminal: true}.run(t, "diff", newTable(t, hostileKey, ""), b)
	assert.Equal(t, ExitCondition, r.code)
	assertHarmless(t, r.out)
}

// TestDiffOfOtherGeometry: seeds, stripes and the order of entries differ.
func TestDiffOfOtherGeometry(t *testing.T) {
	flat, _ := manyEntries(2000)
	a, b := newTable(t, flat...), newTable(t)+".wide"
	tab, err := table.Open(b, &table.Options{Stripes: 64, Durability: table.OnSync})
	require.NoError(t, err)
	for i := len(flat) - 2; i >= 0; i -= 2 {
		require.NoError(t, tab.Put([]byte(flat[i]), []byte(flat[i+1])))
	}
	require.NoError(t, tab.Close())
	assert.Contains(t, must(t, "diff", a, b), "2,000 entries the same, 0 with another value")

	tab, err = table.Open(b, nil)
	require.NoError(t, err)
	batch := table.NewBatch()
	batch.SetMetadata([]byte("m"))
	require.NoError(t, tab.Apply(batch))
	require.NoError(t, tab.Close())
	r := run(t, "diff", a, b)
	assert.Equal(t, ExitCondition, r.code)
	assert.True(t, strings.HasPrefix(r.out, "the metadata records differ\n2,000 entries the same"), r.out)
}
