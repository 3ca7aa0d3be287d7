package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

func statsOf(t *testing.T, file string) table.Stats {
	t.Helper()
	tab, err := table.Open(file, &table.Options{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, tab.Close()) }()
	return tab.Stats()
}

func TestInfo(t *testing.T) {
	file := newTable(t, "k", "v")
	out := must(t, "info", file)
	for _, label := range []string{"file ", "uuid ", "format ", "entries      1\n", "size ", "geometry ", "medium ", "survives ", "session ", "epochs "} {
		assert.Contains(t, out, label)
	}
	var d infoDocument
	decoder := json.NewDecoder(bytes.NewReader([]byte(must(t, "info", "--json", file))))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	assert.Equal(t, 2, d.SchemaVersion)
	assert.Equal(t, file, d.File)
	assert.Equal(t, int64(1), *d.Entries)
	assert.Positive(t, d.FileSizeBytes)
	assert.Len(t, d.UUID, 32)
	// All three are told, not only that of the open, and as of the medium here.
	s := statsOf(t, file)
	require.Len(t, d.Survives, 3)
	for i, name := range []string{"always", "interval=1s", "onsync"} {
		assert.Equal(t, name, d.Survives[i].Durability)
		durability, err := table.ParseDurability(name)
		require.NoError(t, err)
		assert.Equal(t, s.SurvivesWith(durability), d.Survives[i].Survives)
		name, _, _ = strings.Cut(name, "=")
		assert.Contains(t, out, fmt.Sprintf("\n  %-11s%s\n", name, d.Survives[i].Survives))
	}
	if s.Medium == pmem.PageCache {
		assert.NotEqual(t, d.Survives[0].Survives, d.Survives[1].Survives)
		assert.NotEqual(t, d.Survives[1].Survives, d.Survives[2].Survives)
	}
}
