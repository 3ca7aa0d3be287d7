package command

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/inspect"
	"pmemtable/cmd/pmemctl/internal/picture"
	"pmemtable/cmd/pmemctl/internal/safefile"
	"pmemtable/cmd/pmemctl/internal/screen"
)

// mapDocument is what map --json prints.
type mapDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Out           string `json:"out,omitempty"` // the picture that was drawn
	*inspect.Space
}

func mapVerb() verb {
	var out string
	return verb{
		usage: "map FILE",
		short: "Draw how a file's space is used",
		long: `Draw the chunks of a file in their order, by kind and by how full they are, on the
terminal, or with --out as a picture (FILE.svg) or a page (FILE.html) with the
load of the segments, the depth of the stripes, probe lengths, sizes of records,
and what room blocks of each size leave unused. The page is one file, needs no
network, and tells of each chunk when it is pointed at.

On a terminal the letters are coloured blocks, the fuller the denser. Several
chunks share a place if there are many.

r records  R run (one large record)  s segments  d directories  # descriptors  . free`,
		example: `  pmemctl map debs.pmt
  pmemctl map --out debs.html debs.pmt
  pmemctl map --json debs.pmt | jq .segment_loads`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.StringVarP(&out, "out", "o", "", "a new file, NAME.svg or NAME.html")
		},
		run: func(c *call) error {
			draw := map[string]func(io.Writer, string, *inspect.Space) error{".svg": picture.SVG, ".html": picture.Page}[filepath.Ext(out)]
			if out != "" && draw == nil {
				return usagef("--out: %q does not end in .svg or .html", out)
			}
			file := c.args[0]
			return withInspected(file, func(f *inspect.File) error {
				progress := c.progress("looking", 100, screen.Items)
				var space *inspect.Space
				err := progress.Follow(func() (err error) {
					space, err = f.Space(func(stripe, stripes int) { progress.Set(int64(100 * stripe / stripes)) })
					return err
				})
				if err != nil {
					return err
				}
				d := mapDocument{schemaVersion, file, out, space}
				if out == "" {
					return c.answer(d, func(text *output) { c.printMap(text, file, space) })
				}
				err = safefile.Write(out, func(w io.Writer) error { return draw(w, file, space) })
				if err != nil {
					return err
				}
				return c.done(d, "drew %s to %s", file, out)
			})
		},
	}
}

// letters are the kinds of chunks where there is no colour, with the colour where
// there is.
var letters = map[string]struct {
	letter, colour string
}{
	inspect.ChunkRecords: {"r", "34"}, inspect.ChunkRun: {"R", "36"}, inspect.ChunkSegments: {"s", "33"},
	inspect.ChunkDirectories: {"d", "31"}, inspect.ChunkDescriptors: {"#", "37"}, inspect.ChunkFree: {".", "90"},
}

const mapRows = 24

func (c *call) printMap(out *output, file string, s *inspect.Space) {
	style := screen.NewStyle(c.IsTerminal(c.Out), c.Getenv)
	columns := max(16, min(120, screen.Width(c.Out)))
	cells := s.Cells(columns * mapRows)
	out.line("file", "%s, %s", file, bytesText(s.SizeBytes))
	out.line("chunks", "%s of %s%s", countText(len(s.Chunks)), bytesText(s.ChunkBytes), perCell(cells))
	_ = out.WriteByte('\n')
	for i, cell := range cells {
		_, _ = out.WriteString(style.Block(letters[cell.Kind].letter, letters[cell.Kind].colour, cell.Fill))
		if i%columns == columns-1 || i == len(cells)-1 {
			_ = out.WriteByte('\n')
		}
	}
	_ = out.WriteByte('\n')
	count, used := map[string]int64{}, map[string]int64{}
	for i := range s.Chunks {
		count[s.Chunks[i].Kind]++
		used[s.Chunks[i].Kind] += s.Chunks[i].UsedBytes
	}
	for _, kind := range inspect.ChunkKinds {
		fmt.Fprintf(out, "%s %-12s %12s chunks  %7s used\n", style.Block(letters[kind].letter, letters[kind].colour, 1), kind,
			countText(count[kind]), percent(ratio(used[kind], count[kind]*s.ChunkBytes)))
	}
	if s.BesideWriter {
		fmt.Fprintln(out, "a process was writing meanwhile: this is of no single instant")
	}
	if s.Problems > 0 {
		fmt.Fprintf(out, "places that are damaged, or changed meanwhile: %s\n", countText(s.Problems))
	}
}

func perCell(cells []inspect.Cell) string {
	if len(cells) == 0 || cells[0].First == cells[0].Last {
		return ""
	}
	return fmt.Sprintf(", %d to a place", cells[0].Last-cells[0].First+1)
}
