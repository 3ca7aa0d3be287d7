// Package picture draws how a file's space is used, as SVG or as a page of HTML that
// needs nothing from anywhere else.
//
// What comes from outside (the name of the file) passes html/template, which knows
// where it stands, and before it screen.Escape: a name can neither run as script nor
// break the XML.
package picture

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"math"

	"github.com/dustin/go-humanize"

	"pmemtable/cmd/pmemctl/internal/inspect"
	"pmemtable/cmd/pmemctl/internal/screen"
)

//go:embed picture.svg.tmpl page.html.tmpl
var files embed.FS

var templates = template.Must(template.ParseFS(files, "*.tmpl"))

// Page writes a page of HTML.
func Page(w io.Writer, file string, s *inspect.Space) error {
	return templates.ExecuteTemplate(w, "page.html.tmpl", newPicture(file, s))
}

// SVG writes a picture.
func SVG(w io.Writer, file string, s *inspect.Space) error {
	if _, err := io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"); err != nil {
		return err
	}
	p := newPicture(file, s)
	p.Alone = true
	return templates.ExecuteTemplate(w, "picture.svg.tmpl", p)
}

// Sizes of the picture, in pixels.
const (
	width      = 960
	margin     = 16
	cellPixels = 12
	columns    = (width - 2*margin) / cellPixels
	maxCells   = columns * 40
	mapTop     = 84
	chartWidth = (width - 2*margin - gap) / 2
	gap        = 24
	barHeight  = 14
	labelWidth = 110
	valueWidth = 90
	chartHead  = 34
)

// colours of the kinds of chunks: those of Okabe and Ito, which most people can tell
// apart.
var colours = map[string]string{
	inspect.ChunkRecords: "#0072b2", inspect.ChunkRun: "#56b4e9", inspect.ChunkSegments: "#e69f00",
	inspect.ChunkDirectories: "#d55e00", inspect.ChunkDescriptors: "#999999", inspect.ChunkFree: "#dddddd",
}

// picture is what the templates draw.
type picture struct {
	Alone         bool // not part of a page
	File          string
	Summary       string
	Note          string
	Width, Height int
	Cells         []cell
	Legend        []legend
	Charts        []chart
}

type cell struct {
	X, Y, Size int
	Colour     string
	Opacity    string
	Kind       string
	Detail     string
}

type legend struct {
	X      int
	Colour string
	Text   string
}

// chart is a histogram of bars that lie one above the other.
type chart struct {
	X, Y  int
	Title string
	Bars  []bar
}

type bar struct {
	Y      int
	Label  string
	Width  string
	Text   string
	Detail string
}

func newPicture(file string, s *inspect.Space) *picture {
	p := &picture{File: screen.Escape(file), Width: width}
	p.Summary = fmt.Sprintf("%s in %s chunks of %s; %s entries in %s segments of %s stripes", bytesText(s.SizeBytes),
		count(int64(len(s.Chunks))), bytesText(s.ChunkBytes), count(s.Entries), count(segments(s)), count(int64(len(s.Stripes))))
	if s.BesideWriter {
		p.Note = "A process was writing meanwhile: this is of no single instant. "
	}
	if s.Problems > 0 {
		p.Note += fmt.Sprintf("Places that are damaged, or changed meanwhile: %s.", count(int64(s.Problems)))
	}
	bottom := p.cells(s)
	p.legend(s)
	p.Height = p.charts(s, bottom+2*margin) + margin
	return p
}

func segments(s *inspect.Space) (n int64) {
	for i := range s.Stripes {
		n += s.Stripes[i].Segments
	}
	return n
}

// cells draws the chunks in the order of the file, and returns where that ends.
func (p *picture) cells(s *inspect.Space) (bottom int) {
	cells := s.Cells(maxCells)
	for i, c := range cells {
		name := fmt.Sprintf("chunk %d", c.First)
		if c.Last > c.First {
			name = fmt.Sprintf("chunks %d to %d, mostly", c.First, c.Last)
		}
		detail := fmt.Sprintf("%s: %s, %.0f %% used, from offset %#x", name, c.Kind, 100*c.Fill, s.FixedBytes+int64(c.First)*s.ChunkBytes)
		if chunk := s.Chunks[c.First]; c.First == c.Last && chunk.BlockBytes > 0 {
			detail += fmt.Sprintf("; %s blocks of %s bytes", count(int64(chunk.Blocks)), count(int64(chunk.BlockBytes)))
		}
		p.Cells = append(p.Cells, cell{
			X: margin + i%columns*cellPixels, Y: mapTop + i/columns*cellPixels, Size: cellPixels - 1,
			Colour: colours[c.Kind], Opacity: fmt.Sprintf("%.2f", opacity(c)), Kind: c.Kind, Detail: detail,
		})
	}
	return mapTop + (len(cells)+columns-1)/columns*cellPixels
}

// opacity shows the fill, and leaves a chunk that holds little to be seen.
func opacity(c inspect.Cell) float64 {
	if c.Kind == inspect.ChunkFree {
		return 1
	}
	return 0.25 + 0.75*min(1, c.Fill)
}

func (p *picture) legend(s *inspect.Space) {
	chunks := map[string]int64{}
	for i := range s.Chunks {
		chunks[s.Chunks[i].Kind]++
	}
	for i, kind := range inspect.ChunkKinds {
		p.Legend = append(p.Legend, legend{margin + i*(width-2*margin)/len(inspect.ChunkKinds), colours[kind],
			fmt.Sprintf("%s %s", kind, count(chunks[kind]))})
	}
}

// charts draws the histograms in two columns, and returns where they end.
func (p *picture) charts(s *inspect.Space, top int) (bottom int) {
	ends := [2]int{top, top}
	add := func(title string, unit string, labels []string, values []int64) {
		column := 0
		if ends[1] < ends[0] {
			column = 1
		}
		c := newChart(margin+column*(chartWidth+gap), ends[column], title, unit, labels, values)
		if len(c.Bars) == 0 {
			return
		}
		p.Charts = append(p.Charts, c)
		ends[column] += chartHead + len(c.Bars)*(barHeight+3) + gap
	}
	var labels []string
	for i := range s.SegmentLoads {
		labels = append(labels, fmt.Sprintf("%d to %d %%", i*10, i*10+10))
	}
	add("Segments by load", "segments", labels, s.SegmentLoads[:])
	labels, values := depths(s)
	add("Stripes by depth", "stripes", labels, values)
	labels = nil
	for i := range s.Probes {
		labels = append(labels, fmt.Sprintf("line %d", i+1))
	}
	add("Entries by the line a lookup finds them in", "entries", labels, s.Probes)
	labels = nil
	for i := range s.RecordSizes {
		labels = append(labels, "to "+bytesText(1<<i-1))
	}
	add("Records by size", "records", labels, s.RecordSizes[:])
	labels, values = fragmentation(s)
	add("Room in blocks that is not used, by block size", "bytes", labels, values)
	return max(ends[0], ends[1])
}

func depths(s *inspect.Space) (labels []string, values []int64) {
	for i := range s.Stripes {
		for uint(len(values)) <= s.Stripes[i].Depth {
			labels = append(labels, fmt.Sprintf("depth %d", len(values)))
			values = append(values, 0)
		}
		values[s.Stripes[i].Depth]++
	}
	return labels, values
}

// fragmentation is what the chunks of each block size have room for and do not hold.
func fragmentation(s *inspect.Space) (labels []string, values []int64) {
	byBlock := map[int64]inspect.ClassUse{}
	for _, c := range s.Classes {
		byBlock[c.BlockBytes] = c
	}
	for _, size := range s.BlockSizes() {
		c := byBlock[size]
		labels = append(labels, count(size)+" B")
		values = append(values, c.Room*c.BlockBytes-c.UsedBytes)
	}
	return labels, values
}

func newChart(x, y int, title, unit string, labels []string, values []int64) chart {
	c := chart{X: x, Y: y, Title: title}
	first, last, most, total := len(values), -1, int64(0), int64(0)
	for i, v := range values {
		if v > 0 {
			first, last = min(first, i), i
			most, total = max(most, v), total+v
		}
	}
	for i := first; i <= last; i++ {
		share := float64(values[i]) / float64(total)
		text := count(values[i])
		if unit == "bytes" {
			text = bytesText(values[i])
		}
		c.Bars = append(c.Bars, bar{
			Y: chartHead + len(c.Bars)*(barHeight+3), Label: labels[i], Text: text,
			Width:  fmt.Sprintf("%.1f", math.Max(0, float64(chartWidth-labelWidth-valueWidth)*float64(values[i])/float64(most))),
			Detail: fmt.Sprintf("%s: %s %s, %.1f %%", labels[i], count(values[i]), unit, 100*share),
		})
	}
	return c
}

func count(n int64) string { return humanize.Comma(n) }

func bytesText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
