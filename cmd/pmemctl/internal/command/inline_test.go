package command

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// TestInlineTable: what reads and writes entries works on a table of inline ones, and
// what shows bucket lines says that it cannot.
func TestInlineTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "index.pmt")
	x, err := table.OpenIndex(file, nil)
	require.NoError(t, err)
	require.NoError(t, x.Put(1, 2))
	require.NoError(t, x.Close())
	assert.Contains(t, must(t, "info", file), "inline")
	assert.Contains(t, must(t, "info", "--json", file), `"inline": true`)
	key, value := "0100000000000000", "0200000000000000"
	assert.Equal(t, value, strings.TrimSpace(must(t, "get", "--key-format", "hex", "--value-format", "hex", file, key)))
	must(t, "put", "--key-format", "hex", "--value-format", "hex", file, "0300000000000000", value)
	assert.Contains(t, must(t, "scan", "--key-format", "hex", "--value-format", "hex", file), "0300000000000000")
	must(t, "check", file)
	must(t, "stats", file)
	assert.Equal(t, "2", strings.TrimSpace(must(t, "count", file)))
	for _, args := range [][]string{{"explain", file, "a"}, {"dump", file, "header"}, {"map", file}} {
		fails(t, ExitUsage, "inline", args...)
	}
	fails(t, ExitUsage, "not the size of the table's entries", "put", file, "short", "value")
	repaired := filepath.Join(t.TempDir(), "repaired.pmt")
	must(t, "repair", file, repaired)
	x, err = table.OpenIndex(repaired, nil)
	require.NoError(t, err)
	require.Equal(t, 2, x.Len())
	require.NoError(t, x.Close())
}
