package command

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func TestCompactGivesSpaceBack(t *testing.T) {
	file := newTable(t)
	tab, err := table.Open(file, &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	value := []byte(strings.Repeat("v", 5000))
	for i := range 2000 {
		require.NoError(t, tab.Put(fmt.Append(nil, i), value))
	}
	for i := range 1950 {
		require.NoError(t, tab.Delete(fmt.Append(nil, i)))
	}
	require.NoError(t, tab.Close())
	var d compactDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "compact", "--json", file)), &d))
	assert.Less(t, d.AfterBytes, d.BeforeBytes/2)
	assert.Equal(t, int64(50), d.Entries)
	assert.Contains(t, must(t, "check", file), "clean")
	assert.Regexp(t, `compacted    \S+\nsize         [0-9.]+ KiB, before [0-9.]+ KiB\n$`, must(t, "compact", file))
	fails(t, ExitIO, "no such file", "compact", file+".missing")
}

func TestCompactInterrupted(t *testing.T) {
	file := newTable(t, "a", "1")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	r := world{}.runContext(t, ctx, "compact", file)
	assert.Equal(t, ExitInterrupted, r.code, r.err)
	assert.Contains(t, r.err, "interrupted")
	assert.Contains(t, must(t, "check", file), "clean")
	assert.Equal(t, "1\n", must(t, "count", file))
}
