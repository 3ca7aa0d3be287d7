package command

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	assert.Equal(t, 1, d.SchemaVersion)
	assert.Equal(t, file, d.File)
	assert.Equal(t, int64(1), *d.Entries)
	assert.Positive(t, d.FileSizeBytes)
	assert.Len(t, d.UUID, 32)
	assert.NotEmpty(t, d.Survives)
}
