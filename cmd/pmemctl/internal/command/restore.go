package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// restoreDocument is what restore --json prints.
type restoreDocument struct {
	SchemaVersion int    `json:"schema_version"`
	Stream        string `json:"stream"`
	File          string `json:"file"`
	Entries       int64  `json:"entries"`
	FileSizeBytes int64  `json:"file_size_bytes"`
}

func (a *App) newRestore() *cobra.Command {
	var (
		asJSON bool
		shape  geometry
		show   screen.ProgressMode
	)
	cmd := &cobra.Command{
		Use:   "restore [flags] STREAM FILE",
		Short: "Make a table of a backup",
		Long: `Make a table of the stream of pmemctl backup, a file or - for standard input. FILE
must not exist. It appears when all of it is there and durable; of a stream that
was cut off or changed, and of a restore that is interrupted, nothing stays.`,
		Example: `  pmemctl restore debs.backup restored.pmt
  zstd -d < debs.backup.zst | pmemctl restore --stripes 256 - restored.pmt`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var options table.Options
			if err := shape.apply(&options); err != nil {
				return err
			}
			input, name, totalBytes, err := a.openData(args[0])
			if err != nil {
				return err
			}
			defer input.Close()
			begin := time.Now()
			progress := a.progress(show, "restoring", totalBytes, screen.Bytes)
			err = progress.Follow(func() error {
				reader, stop := contextReader(cmd.Context(), progress.Reader(input))
				defer stop()
				return table.Restore(reader, args[1], &options)
			})
			switch {
			case errors.Is(err, context.Canceled):
				return context.Canceled
			case err != nil:
				return fmt.Errorf("%s: %w", name, err)
			}
			return with(args[1], table.Options{ReadOnly: true}, func(t *table.Table) error {
				stats := t.Stats()
				if asJSON {
					return a.stdout(false).document(restoreDocument{schemaVersion, args[0], args[1], stats.Entries, stats.FileSizeBytes})
				}
				a.notef("restored %s to %s", throughput("entry", stats.Entries, 0, time.Since(begin)), args[1])
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON document")
	shape.register(cmd.Flags())
	progressFlag(cmd.Flags(), &show)
	return cmd
}

// contextReader ends with ctx although its source may be stuck in a read of a
// terminal or an empty pipe; that read is left behind.
func contextReader(ctx context.Context, source io.Reader) (reader io.Reader, stop func()) {
	out, in := io.Pipe()
	forget := context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.CopyBuffer(in, source, make([]byte, 256<<10))
		_ = in.CloseWithError(err)
	}()
	return out, func() {
		forget()
		_ = out.Close()
	}
}
