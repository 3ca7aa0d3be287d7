package command

import (
	"fmt"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// countDocument is what count --json prints.
type countDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Entries       int64  `json:"entries"`
}

func countVerb() verb {
	return verb{
		usage: "count FILE",
		short: "Print the number of entries",
		long: `Print the number of entries, exactly, and nothing else. A table that was closed
cleanly knows it; otherwise the entries are counted first.`,
		example: `  pmemctl count debs.pmt
  pmemctl count --json debs.pmt`,
		slow: true,
		run: func(c *call) error {
			return c.reading(func(t *table.Table) error {
				n, err := c.count(t)
				if err != nil {
					return err
				}
				return c.answer(countDocument{schemaVersion, c.args[0], n}, func(out *output) { fmt.Fprintln(out, n) })
			})
		},
	}
}

// count is exact or fails. Len, which has no error, would leave out what it
// cannot read of a damaged table that was not closed.
func (c *call) count(t *table.Table) (n int64, err error) {
	if t.Stats().EntriesKnown {
		return int64(t.Len()), nil
	}
	progress := c.progress("counting", -1, screen.Items)
	err = progress.Follow(func() error {
		return entries(c.ctx, t, func(_, _ []byte) error {
			n++
			progress.Set(n)
			return nil
		})
	})
	return n, err
}
