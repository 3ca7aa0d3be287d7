package command

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func TestCreate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new.pmt")
	out := must(t, "create", "--stripes", "3", "--max-size", "1GiB", "--mode", "0640", file)
	assert.Contains(t, out, "created      "+file+"\n")
	assert.Contains(t, out, "survives")
	assert.Equal(t, "0\n", must(t, "count", file))
	if info, err := os.Stat(file); assert.NoError(t, err) && runtime.GOOS != "windows" {
		assert.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	}
	tab, err := table.Open(file, &table.Options{ReadOnly: true})
	require.NoError(t, err)
	defer tab.Close()
	assert.Equal(t, 4, tab.Stats().Stripes, "rounded up")
}

func TestCreateRefusesAnExistingFile(t *testing.T) {
	file := newTable(t, "k", "v")
	fails(t, ExitUsage, "create "+file+": ", "create", file)
	assert.Equal(t, "1\n", must(t, "count", file))
	foreign := writeFile(t, "foreign", "text")
	fails(t, ExitUsage, "exists", "create", foreign)

	fails(t, ExitIO, "no such file or directory", "create", filepath.Join(t.TempDir(), "no", "dir.pmt"))
}
