package command

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/safefile"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// backupDocument is what backup --json prints.
type backupDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	Stream        string `json:"stream"`
	SizeBytes     int64  `json:"size_bytes"`
}

func (a *App) newBackup() *cobra.Command {
	var (
		asJSON bool
		show   screen.ProgressMode
	)
	cmd := &cobra.Command{
		Use:   "backup [flags] FILE STREAM",
		Short: "Write all of a table as one stream",
		Long: `Write all entries and the metadata record as one stream with checksums, of which
pmemctl restore makes a table again. STREAM is a new file, which appears whole or
not at all and with mode 0600, or - for standard output. The same content gives
the same bytes.

While a process writes FILE the exit code is 4: that process can make a backup
of one instant (Table.Backup), another cannot. pmemctl export lists entries in
any case.`,
		Example: `  pmemctl backup debs.pmt debs.backup
  pmemctl backup debs.pmt - | zstd > debs.backup.zst`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			toStdout := args[1] == "-"
			switch {
			case toStdout && a.IsTerminal(a.Out):
				return usagef("standard output is a terminal, and a backup is no text")
			case toStdout && asJSON:
				return usagef("--json would stand behind the stream on standard output")
			case toStdout:
				return withReader(cmd.Context(), args[0], func(t *table.Table) error {
					return t.Backup(contextWriter{cmd.Context(), a.Out})
				})
			}
			return a.backup(cmd.Context(), args[0], args[1], show, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON document")
	progressFlag(cmd.Flags(), &show)
	return cmd
}

// backup is not done by withReader, which may leave work behind when it is
// interrupted: the file aside must be gone before we are.
func (a *App) backup(ctx context.Context, file, stream string, show screen.ProgressMode, asJSON bool) error {
	return with(file, table.Options{ReadOnly: true}, func(t *table.Table) error {
		begin := time.Now()
		progress := a.progress(show, "backing up", -1, screen.Bytes)
		var written counter
		err := progress.Follow(func() error {
			return safefile.Write(stream, func(w io.Writer) error {
				return t.Backup(io.MultiWriter(contextWriter{ctx, w}, &written, addTo{progress}))
			})
		})
		switch {
		case err != nil:
			return err
		case asJSON:
			return a.stdout(false).document(backupDocument{schemaVersion, file, stream, int64(written)})
		}
		a.notef("wrote %s to %s in %.2f s", bytesText(int64(written)), stream, time.Since(begin).Seconds())
		return nil
	})
}

// contextWriter fails when the user has had enough.
type contextWriter struct {
	ctx context.Context
	io.Writer
}

func (w contextWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(b)
}

// counter counts bytes.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// addTo has progress count bytes.
type addTo struct{ *screen.Progress }

func (p addTo) Write(b []byte) (int, error) {
	p.Add(int64(len(b)))
	return len(b), nil
}
