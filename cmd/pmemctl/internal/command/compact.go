package command

import (
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// compactDocument is what compact --json prints.
type compactDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	BeforeBytes   int64  `json:"before_bytes"`
	AfterBytes    int64  `json:"after_bytes"`
	Entries       int64  `json:"entries"`
}

func compactVerb() verb {
	return verb{
		usage: "compact FILE",
		short: "Give the space of deleted entries back to the file system",
		long: `Merge sparse segments, move what lies at the end of the file to free room before
it, and cut the file off. This writes to FILE, and takes its lock: while a process
has it open for writing, the exit code is 4. While others read it, it keeps its
size.

Each step is an ordinary change of the table: interrupted or killed in the middle,
the table is whole, and not as small as it could be.`,
		example: `  pmemctl compact debs.pmt
  pmemctl compact --json debs.pmt | jq '.before_bytes - .after_bytes'`,
		slow: true,
		run: func(c *call) error {
			d := compactDocument{SchemaVersion: schemaVersion, File: c.args[0]}
			err := withWriter(d.File, table.Options{Durability: table.OnSync}, func(t *table.Table) error {
				d.BeforeBytes = t.Stats().FileSizeBytes
				progress := c.progress("compacting", 100, screen.Items)
				err := progress.Follow(func() error {
					return t.CompactWith(c.ctx, table.CompactOptions{Progress: func(share float64) { progress.Set(int64(100 * share)) }})
				})
				if err != nil {
					return err
				}
				stats := t.Stats()
				d.AfterBytes, d.Entries = stats.FileSizeBytes, stats.Entries
				return nil
			})
			if err != nil {
				return err
			}
			return c.answer(d, func(out *output) {
				out.line("compacted", "%s", d.File)
				out.line("size", "%s, before %s", bytesText(d.AfterBytes), bytesText(d.BeforeBytes))
			})
		},
	}
}
