package command

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/internal/host"
)

func TestDoctor(t *testing.T) {
	dir := t.TempDir()
	out := must(t, "doctor", dir)
	for _, label := range []string{"path ", "machine ", "medium ", "MAP_SYNC ", "write-back ", "eADR ", "durable put ", "survives ", "  always ", "  onsync "} {
		assert.Contains(t, "\n"+out, "\n"+label)
	}
	assert.Empty(t, names(t, dir), "nothing is left behind")
	file := newTable(t, "k", "v")
	var d doctorDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "doctor", "--json", file)), &d))
	assert.Equal(t, statsOf(t, file).Medium.String(), d.Medium)
	assert.Len(t, d.Survives, 3)
	assert.NotEmpty(t, d.Advice)
	assert.Equal(t, []string{filepath.Base(file)}, names(t, filepath.Dir(file)))
	fails(t, ExitIO, "no such file", "doctor", filepath.Join(dir, "missing"))
}

func TestFolded(t *testing.T) {
	assert.Equal(t, []string{"a bb", "ccccc", "d"}, folded("a bb ccccc d", 5))
	assert.Equal(t, []string{""}, folded("", 5))
}

func TestDoctorsAdvice(t *testing.T) {
	linux := host.Facts{System: "linux/amd64"}
	on := func(fs, options string) host.Facts {
		f := linux
		f.FileSystem, f.MountOptions = fs, options
		return f
	}
	for want, d := range map[string]doctorDocument{
		"No table can be kept here: NFS.":                 {Refused: "NFS", Facts: linux},
		"This is persistent memory":                       {Medium: "dax", FlushComplete: true, Facts: linux},
		"no line needs to be written back":                {Medium: "dax", FlushComplete: true, CachePersistent: true, Facts: linux},
		"Files here lie in memory":                        {Medium: "tmpfs", FlushComplete: true, Facts: linux},
		"huge=within_size":                                {Medium: "tmpfs", FlushComplete: true, Facts: on("tmpfs", "rw")},
		"an ordinary file in the page cache":              {Medium: "page cache", FlushComplete: true, Facts: linux},
		"speak of dax, and yet":                           {Medium: "page cache", FlushComplete: true, Facts: on("ext4", "rw,dax")},
		"btrfs reserves nothing":                          {Medium: "page cache", FlushComplete: true, Facts: on("btrfs", "rw")},
		"never taken for persistent memory":               {Medium: "page cache", Facts: linux},
		"see docs/durability.md for what holds on darwin": {Medium: "page cache", Facts: host.Facts{System: "darwin/arm64"}},
	} {
		assert.Contains(t, strings.Join(advice(d), "\n"), want)
	}
}
