package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMap(t *testing.T) {
	flat, _ := manyEntries(2000)
	file := newTable(t, append(flat, "large", strings.Repeat("v", 200_000))...)
	var d mapDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "map", "--json", file)), &d))
	assert.Equal(t, int64(2001), d.Entries)
	var used, probes int64
	runs := 0
	for _, c := range d.Chunks {
		used += c.UsedBytes
		if c.Kind == "run" {
			runs++
		}
	}
	for _, n := range d.Probes {
		probes += n
	}
	assert.Equal(t, 4, runs)
	assert.Equal(t, d.Entries, probes)
	assert.Zero(t, d.Problems)
	assert.Less(t, used, d.SizeBytes)

	out := must(t, "map", file)
	assert.NotContains(t, out, "\x1b")
	assert.Contains(t, out, "RRRR")
	assert.Regexp(t, `R run +4 chunks +7\d\.\d % used`, out)
	r := world{terminal: true}.run(t, "map", file)
	assert.Equal(t, ExitOK, r.code, r.err)
	assert.Contains(t, r.out, "\x1b[36m█\x1b[0m")
	for line := range strings.Lines(r.out) {
		assert.LessOrEqual(t, strings.Count(line, "\x1b[0m"), 80)
	}

	page := filepath.Join(t.TempDir(), "map.html")
	r = run(t, "map", "--out", page, file)
	require.Equal(t, ExitOK, r.code, r.err)
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Contains(t, string(content), "2,001 entries in ")
	fails(t, ExitUsage, "exists", "map", "--out", page, file)
	fails(t, ExitUsage, ".svg or .html", "map", "--out", page+".png", file)
	svg := filepath.Join(t.TempDir(), "map.svg")
	require.NoError(t, json.Unmarshal([]byte(must(t, "map", "--json", "--out", svg, file)), &d))
	assert.Equal(t, svg, d.Out)
	assert.FileExists(t, svg)
	fails(t, ExitIO, "no such file", "map", file+".missing")
}

// TestMapAgreesWithSurvey: two walks, written apart.
func TestMapAgreesWithSurvey(t *testing.T) {
	flat, _ := manyEntries(9000)
	file := newTable(t, flat...)
	var d mapDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "map", "--json", file)), &d))
	var s statsDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "stats", "--json", file)), &s))
	assert.Equal(t, s.Entries, d.Entries)
	for _, p := range s.ProbeLengths {
		assert.Equal(t, p.Entries, d.Probes[p.Lines-1])
	}
	var blocks, segments int64
	for _, c := range d.Classes {
		blocks += c.Blocks
	}
	for _, stripe := range d.Stripes {
		segments += stripe.Segments
	}
	assert.Equal(t, s.Segments, segments)
	assert.Equal(t, s.Entries+s.Segments+s.Directories, blocks)
}
