package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

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

func restoreVerb() verb {
	var shape geometry
	return verb{
		usage: "restore STREAM FILE",
		short: "Make a table of a backup",
		long: `Make a table of the stream of pmemctl backup, a file or - for standard input. FILE
must not exist. It appears when all of it is there and durable; of a stream that
was cut off or changed, and of a restore that is interrupted, nothing stays.`,
		example: `  pmemctl restore debs.backup restored.pmt
  zstd -d < debs.backup.zst | pmemctl restore --stripes 256 - restored.pmt`,
		slow:  true,
		flags: shape.register,
		run: func(c *call) error {
			var options table.Options
			if err := shape.apply(&options); err != nil {
				return err
			}
			return c.restore(c.args[0], c.args[1], options)
		},
	}
}

func (c *call) restore(stream, file string, options table.Options) error {
	input, name, totalBytes, err := c.openData(stream)
	if err != nil {
		return err
	}
	defer input.Close()
	begin := time.Now()
	progress := c.progress("restoring", totalBytes, screen.Bytes)
	err = progress.Follow(func() error {
		reader, stop := contextReader(c.ctx, progress.Reader(input))
		defer stop()
		return table.Restore(reader, file, &options)
	})
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	}
	return with(file, table.Options{ReadOnly: true}, func(t *table.Table) error {
		stats := t.Stats()
		return c.done(restoreDocument{schemaVersion, stream, file, stats.Entries, stats.FileSizeBytes},
			"restored %s to %s", throughput("entry", stats.Entries, 0, time.Since(begin)), file)
	})
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
