package picture

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/internal/inspect"
)

const hostileName = "</title></script><script>document.title = 'owned'</script>\x1b[2J\x00\"'&.pmt"

// space is a made-up file of some chunks of each kind.
func space() *inspect.Space {
	s := &inspect.Space{SizeBytes: 1 << 20, ChunkBytes: 64 << 10, FixedBytes: 1 << 17, Entries: 1000, Problems: 2, BesideWriter: true,
		Stripes: []inspect.StripeShape{{Depth: 1, Segments: 2}, {Depth: 3, Segments: 5, Chains: 1}}, Probes: []int64{900, 90, 10},
		Classes: []inspect.ClassUse{{BlockBytes: 128, Blocks: 100, Room: 512, UsedBytes: 12000}}}
	s.SegmentLoads[4], s.SegmentLoads[6] = 5, 2
	s.RecordSizes[7] = 1000
	for i, kind := range inspect.ChunkKinds {
		for range i + 1 {
			s.Chunks = append(s.Chunks, inspect.ChunkUse{Kind: kind, UsedBytes: int64(i) * 10000, Blocks: i, BlockBytes: 128})
		}
	}
	return s
}

func TestSVGIsWellFormed(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, SVG(&text, hostileName, space()))
	chunks := 0
	decoder := xml.NewDecoder(&text)
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		element, ok := token.(xml.StartElement)
		assert.False(t, ok && element.Name.Local == "script")
		for _, a := range element.Attr {
			if a.Name.Local == "class" {
				chunks++
			}
		}
	}
	assert.Equal(t, 21, chunks)
}

func TestPageNeedsNothingElse(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, Page(&text, hostileName, space()))
	page := text.String()
	assert.NotContains(t, page, "<script>document.title")
	assert.NotContains(t, page, "\x1b")
	assert.Equal(t, 1, strings.Count(page, "<script>"))
	for _, far := range []string{"http:", "https:", "src=", "href=", "url(", "@import"} {
		assert.NotContains(t, page, far)
	}
	assert.Contains(t, page, "line 1: 900 entries, 90.0 %")
}

// TestLargeFilesShareCells: a picture does not grow with the file.
func TestLargeFilesShareCells(t *testing.T) {
	s := space()
	s.Chunks = make([]inspect.ChunkUse, 1_000_000)
	for i := range s.Chunks {
		s.Chunks[i].Kind = inspect.ChunkFree
	}
	s.Chunks[500_000].Kind = inspect.ChunkRecords
	p := newPicture("t", s)
	assert.LessOrEqual(t, len(p.Cells), maxCells)
	shown := 0
	for _, c := range p.Cells {
		if c.Kind == inspect.ChunkRecords {
			shown++
		}
	}
	assert.Equal(t, 1, shown, "what is alone among free chunks is to be seen")
}
