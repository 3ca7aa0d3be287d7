package command

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/inspect"
	"pmemtable/cmd/pmemctl/internal/picture"
	"pmemtable/cmd/pmemctl/internal/safefile"
	"pmemtable/cmd/pmemctl/internal/screen"
)

// mapDocument is what map --json prints.
type mapDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	*inspect.Space
}

func (a *App) newMap() *cobra.Command {
	var (
		asJSON bool
		out    string
	)
	cmd := &cobra.Command{
		Use:   "map [flags] FILE",
		Short: "Draw how a file's space is used",
		Long: `Draw the chunks of a file in their order, by kind and by how full they are, on the
terminal, or with --out as a picture (FILE.svg) or a page (FILE.html) with the
load of the segments, the depth of the stripes, probe lengths, sizes of records,
and what room blocks of each size leave unused. The page is one file, needs no
network, and tells of each chunk when it is pointed at.

On a terminal the letters are coloured blocks, the fuller the denser. Several
chunks share a place if there are many.

r records  R run (one large record)  s segments  d directories  # descriptors  . free`,
		Example: `  pmemctl map debs.pmt
  pmemctl map --out debs.html debs.pmt
  pmemctl map --json debs.pmt | jq .segment_loads`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			draw := map[string]func(io.Writer, string, *inspect.Space) error{".svg": picture.SVG, ".html": picture.Page}[filepath.Ext(out)]
			switch {
			case out != "" && draw == nil:
				return usagef("--out: %q does not end in .svg or .html", out)
			case out != "" && asJSON:
				return usagef("--out and --json exclude each other")
			}
			return withInspected(args[0], func(f *inspect.File) error {
				space, err := f.Space()
				switch {
				case err != nil:
					return err
				case asJSON:
					return a.stdout(false).document(mapDocument{schemaVersion, args[0], space})
				case out != "":
					err := safefile.Write(out, func(w io.Writer) error { return draw(w, args[0], space) })
					if err == nil {
						a.notef("drew %s to %s", args[0], out)
					}
					return err
				}
				return a.printMap(args[0], space)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON document")
	cmd.Flags().StringVarP(&out, "out", "o", "", "a new file, NAME.svg or NAME.html")
	return cmd
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

func (a *App) printMap(file string, s *inspect.Space) error {
	out, style := a.stdout(false), screen.NewStyle(a.IsTerminal(a.Out), a.Getenv)
	columns := max(16, min(120, screen.Width(a.Out)))
	cells := s.Cells(columns * mapRows)
	out.line("file", "%s, %s", file, bytesText(s.SizeBytes))
	out.line("chunks", "%s of %s%s", countText(len(s.Chunks)), bytesText(s.ChunkBytes), perCell(cells))
	_ = out.WriteByte('\n')
	for i, c := range cells {
		_, _ = out.WriteString(style.Block(letters[c.Kind].letter, letters[c.Kind].colour, c.Fill))
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
	return out.Flush()
}

func perCell(cells []inspect.Cell) string {
	if len(cells) == 0 || cells[0].First == cells[0].Last {
		return ""
	}
	return fmt.Sprintf(", %d to a place", cells[0].Last-cells[0].First+1)
}
