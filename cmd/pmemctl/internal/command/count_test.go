package command

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func TestCount(t *testing.T) {
	flat, _ := manyEntries(1234)
	file := newTable(t, flat...)
	assert.Equal(t, "1234\n", must(t, "count", file))
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(must(t, "count", "--json", file)), &document))
	assert.Equal(t, map[string]any{"schema_version": 1.0, "file": file, "entries": 1234.0}, document)
}

// A copy of a table that is open is one that was not closed.
func TestCountOfATableThatWasNotClosed(t *testing.T) {
	file := newTable(t)
	tab, err := table.Open(file, &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	for i := range 300 {
		require.NoError(t, tab.Put(fmt.Append(nil, i), fmt.Append(nil, "a value to be damaged! ", i)))
	}
	require.NoError(t, tab.Sync())
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, tab.Close())

	unclosed := writeFile(t, "copy", string(content))
	assert.Equal(t, "300\n", must(t, "count", unclosed))
	damage(t, unclosed, "a value to be damaged! 217")
	fails(t, ExitCorrupt, "corrupt", "count", unclosed)
}
