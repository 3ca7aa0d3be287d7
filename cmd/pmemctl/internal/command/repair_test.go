package command

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRepairOfADamagedFile(t *testing.T) {
	file := newTable(t, "k", "a value to be damaged!", "other", "value")
	dir := t.TempDir()
	whole, salvaged := filepath.Join(dir, "whole"), filepath.Join(dir, "salvaged")
	out := must(t, "repair", file, whole)
	assert.Contains(t, out, "result       nothing was damaged\n")
	assert.Contains(t, must(t, "get", whole, "k"), "a value to be damaged!")

	damage(t, file, "a value to be damaged!")
	r := run(t, "repair", "--json", file, salvaged)
	assert.Equal(t, ExitCorrupt, r.code)
	var d repairDocument
	require.NoError(t, json.Unmarshal([]byte(r.out), &d))
	assert.False(t, d.Complete)
	assert.EqualValues(t, 1, d.Entries)
	assert.NotEmpty(t, d.Problems)
	assert.Contains(t, must(t, "get", salvaged, "other"), "value")
	assert.Contains(t, must(t, "check", salvaged), "clean")

	r = run(t, "repair", file, filepath.Join(dir, "again"))
	assert.Equal(t, ExitCorrupt, r.code)
	assert.Contains(t, r.out, "PROBLEM      slot at offset 0x")
	fails(t, ExitUsage, "exists", "repair", file, salvaged)
	fails(t, ExitUsage, "exclude", "repair", "--reachable", "--everything", file, filepath.Join(dir, "x"))
	fails(t, ExitUsage, "too few", "repair", file)
}
