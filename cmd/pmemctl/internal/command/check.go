package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"pmemtable/table"
)

// checkDocument is what check --json prints.
type checkDocument struct {
	SchemaVersion  int               `json:"schema_version"`
	File           string            `json:"file"`
	Clean          bool              `json:"clean"`
	Entries        int64             `json:"entries"`
	KeyBytes       int64             `json:"key_bytes"`
	ValueBytes     int64             `json:"value_bytes"`
	Segments       int64             `json:"segments"`
	Directories    int64             `json:"directories"`
	Chains         int64             `json:"chains"`
	Chunks         int64             `json:"chunks"`
	FreeChunks     int64             `json:"free_chunks"`
	ReachableBytes int64             `json:"reachable_bytes"`
	FreeBytes      int64             `json:"free_bytes"`
	Problems       []problemDocument `json:"problems"`
	Dropped        int64             `json:"problems_not_listed"`
}

type problemDocument struct {
	Where  string `json:"where"`
	Offset uint64 `json:"offset"`
	What   string `json:"what"`
}

func (a *App) newCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [flags] FILE",
		Short: "Verify everything in a file",
		Long: `Verify everything in a file and write nothing: that the structure is whole and
every part of it is reached once, that each record lies where its hash says, and
that checksums and counts agree. Problems are listed with their place in the
file, and the exit code is 3.`,
		Example: `  pmemctl check debs.pmt
  pmemctl check --json debs.pmt | jq .problems`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withReader(cmd.Context(), args[0], func(t *table.Table) error {
				report, err := t.Check()
				if err != nil && !errors.Is(err, table.ErrCorrupt) {
					return err
				}
				out := a.stdout(false)
				if asJSON {
					err = errors.Join(out.document(newCheckDocument(args[0], report, err == nil)), err)
				} else {
					printReport(out, args[0], report)
					err = errors.Join(out.Flush(), err)
				}
				if n := len(report.Problems) + report.Dropped; n > 0 {
					return &codedError{ExitCorrupt, fmt.Errorf("%s found", plural(n, "problem"))}
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON document")
	return cmd
}

func newCheckDocument(file string, r table.Report, clean bool) checkDocument {
	d := checkDocument{
		SchemaVersion: schemaVersion, File: file, Clean: clean,
		Entries: int64(r.Entries), KeyBytes: int64(r.KeyBytes), ValueBytes: int64(r.ValueBytes),
		Segments: int64(r.Segments), Directories: int64(r.Directories), Chains: int64(r.Chains),
		Chunks: int64(r.Chunks), FreeChunks: int64(r.FreeChunks),
		ReachableBytes: int64(r.ReachableBytes), FreeBytes: int64(r.FreeBytes),
		Problems: []problemDocument{}, Dropped: int64(r.Dropped),
	}
	for _, p := range r.Problems {
		d.Problems = append(d.Problems, problemDocument{p.Where, p.Offset, p.What})
	}
	return d
}

func printReport(out *output, file string, r table.Report) {
	out.line("checked", "%s", file)
	out.line("entries", "%s, checksum and place of each verified; keys %s, values %s",
		countText(r.Entries), bytesText(r.KeyBytes), bytesText(r.ValueBytes))
	out.line("structure", "%s, %s, %d of them overflow", plural(r.Directories, "directory"), plural(r.Segments, "segment"), r.Chains)
	out.line("space", "%s, %s of them free; %s reached, %s free",
		plural(r.Chunks, "chunk"), countText(r.FreeChunks), bytesText(r.ReachableBytes), bytesText(r.FreeBytes))
	for _, p := range r.Problems {
		out.line("PROBLEM", "%s", p)
	}
	switch n := len(r.Problems) + r.Dropped; {
	case n == 0:
		out.line("result", "clean")
	case r.Dropped > 0:
		out.line("result", "%s, the first %s listed", plural(n, "problem"), countText(len(r.Problems)))
	default:
		out.line("result", "%s", plural(n, "problem"))
	}
}

func plural(n int, what string) string {
	switch {
	case n == 1:
	case what[len(what)-1] == 'y':
		what = what[:len(what)-1] + "ies"
	default:
		what += "s"
	}
	return countText(n) + " " + what
}
