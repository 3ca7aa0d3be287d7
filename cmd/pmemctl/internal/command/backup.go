package command

import (
	"context"
	"io"
	"time"

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

func backupVerb() verb {
	return verb{
		usage: "backup FILE STREAM",
		short: "Write all of a table as one stream",
		long: `Write all entries and the metadata record as one stream with checksums, of which
pmemctl restore makes a table again. STREAM is a new file, which appears whole or
not at all and with mode 0600, or - for standard output. The same content gives
the same bytes.

While a process writes FILE the exit code is 4: that process can make a backup
of one instant (Table.Backup), another cannot. pmemctl export lists entries in
any case.`,
		example: `  pmemctl backup debs.pmt debs.backup
  pmemctl backup debs.pmt - | zstd > debs.backup.zst`,
		slow: true,
		run: func(c *call) error {
			toStdout := c.args[1] == "-"
			switch {
			case toStdout && c.IsTerminal(c.Out):
				return usagef("standard output is a terminal, and a backup is no text")
			case toStdout && c.json:
				return usagef("--json would stand behind the stream on standard output")
			case toStdout:
				return c.reading(func(t *table.Table) error { return t.Backup(contextWriter{c.ctx, c.Out}) })
			}
			return c.backup(c.args[0], c.args[1])
		},
	}
}

// backup is not done by withReader, which may leave work behind when it is
// interrupted: the file aside must be gone before we are.
func (c *call) backup(file, stream string) error {
	return with(file, table.Options{ReadOnly: true}, func(t *table.Table) error {
		begin := time.Now()
		progress := c.progress("backing up", -1, screen.Bytes)
		var written counter
		err := progress.Follow(func() error {
			return safefile.Write(stream, func(w io.Writer) error {
				return t.Backup(io.MultiWriter(contextWriter{c.ctx, w}, &written, addTo{progress}))
			})
		})
		if err != nil {
			return err
		}
		return c.done(backupDocument{schemaVersion, file, stream, int64(written)},
			"wrote %s to %s in %.2f s", bytesText(int64(written)), stream, time.Since(begin).Seconds())
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
