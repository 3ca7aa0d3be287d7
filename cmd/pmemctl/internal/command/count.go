package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"pmemtable/table"
)

// countDocument is what count --json prints.
type countDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Entries       int64  `json:"entries"`
}

func (a *App) newCount() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "count [flags] FILE",
		Short: "Print the number of entries",
		Long: `Print the number of entries, exactly, and nothing else. A table that was closed
cleanly knows it; otherwise the entries are counted first.`,
		Example: `  pmemctl count debs.pmt
  pmemctl count --json debs.pmt`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withReader(cmd.Context(), args[0], func(t *table.Table) error {
				n, err := count(cmd.Context(), t)
				if err != nil {
					return err
				}
				out := a.stdout(false)
				if asJSON {
					return out.document(countDocument{schemaVersion, args[0], n})
				}
				fmt.Fprintln(out, n)
				return out.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON document")
	return cmd
}

// count is exact or fails. Len, which has no error, would leave out what it
// cannot read of a damaged table that was not closed.
func count(ctx context.Context, t *table.Table) (n int64, err error) {
	if t.Stats().EntriesKnown {
		return int64(t.Len()), nil
	}
	err = entries(ctx, t, func(_, _ []byte) error {
		n++
		return nil
	})
	return n, err
}
