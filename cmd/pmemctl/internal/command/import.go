package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// importDocument is what import --json prints.
type importDocument struct {
	SchemaVersion int     `json:"schema_version"`
	File          string  `json:"file"`
	Data          string  `json:"data"`
	Imported      int64   `json:"imported"`
	ImportedBytes int64   `json:"imported_bytes"` // of keys and values
	Seconds       float64 `json:"seconds"`
	Entries       int64   `json:"entries"` // that the table holds now
}

type importOptions struct {
	create  bool
	shape   geometry
	format  records.Format
	header  records.HeaderMode
	maxLine sizeFlag
	csvSafe bool
	value   records.Encoding
}

func importVerb() verb {
	o := importOptions{maxLine: records.DefaultMaxLineBytes}
	return verb{
		usage: "import FILE DATA",
		short: "Store entries from JSONL, CSV, TSV or raw",
		long: `Store the entries of DATA, a file or - for standard input, in the table FILE.
Keys that are there get the new value; of equal keys in DATA the last one wins.

The format is found by the name (.jsonl .csv .tsv .raw) or else by the first line,
and gzip by its first bytes:

jsonl  {"key": "...", "value": "..."} on each line; key_base64 and value_base64
       for bytes that are not UTF-8.
csv    RFC 4180, two columns.
tsv    Two columns with a tab between them, no quotes. Inside them \t \n \r \\
       stand for tab, newline, return and backslash, \xHH for a byte; any other
       backslash is an error.
raw    +KEYLENGTH,VALUELENGTH:KEY->VALUE, lengths in bytes, a newline behind each
       and one more at the end, as cdbdump gives it. Only by name or --format.

A first line of csv or tsv that holds the names key and value, in any order, is
a header; key_base64, key_hex, value_base64, value_hex say that a column is
encoded. --header=yes skips a first line with any other names, and --header=no
takes even those as data. Where no name says how a column is encoded, --key-format
and --value-format do.

Nothing is guessed: a line that is malformed ends the import with its number, the
reason and exit code 2. The lines before it stay. The file is synced at the end,
and before an error is reported, not after each entry.`,
		example: `  pmemctl import --create debs.pmt debian-packages.jsonl.gz
  pmemctl import --header=yes cache.pmt names.csv
  pmemctl import --key-format hex --header=no cache.pmt digests.csv
  cdbdump < old.cdb | pmemctl import --create --format raw cache.pmt -
  mysql --batch -e 'select id, body from t' | pmemctl import --format tsv --header=yes cache.pmt -`,
		keys: true,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.BoolVar(&o.create, "create", false, "make FILE if it does not exist")
			o.shape.register(flags)
			formatFlag(flags, &o.format, "form of the input")
			flags.Var(choice[records.HeaderMode]{&o.header, records.ParseHeaderMode, "auto|yes|no"}, "header", "whether csv and tsv begin with column names")
			valueFormatFlag(flags, &o.value)
			flags.BoolVar(&o.csvSafe, "csv-safe", false, "csv and tsv that were written with --csv-safe: the ' before a formula is taken off")
			flags.Var(&o.maxLine, "max-line", "longest line that is accepted; bounds the memory used")
		},
		run: func(c *call) error {
			if !o.create && (c.given("stripes") || c.given("mode")) {
				return usagef("--stripes and --mode are for a new file: they need --create")
			}
			return c.importData(o)
		},
	}
}

func (c *call) importData(o importOptions) error {
	file, data := c.args[0], c.args[1]
	options := table.Options{Durability: table.OnSync, MustExist: !o.create}
	if err := o.shape.apply(&options); err != nil {
		return err
	}
	input, name, totalBytes, err := c.openData(data)
	if err != nil {
		return err
	}
	defer input.Close()
	progress := c.progress("importing", totalBytes, screen.Bytes)
	// The input is looked at before the table is opened: a name mistyped must
	// not leave an empty table behind, nor a slow pipe hold the lock.
	var reader records.Reader
	err = interruptible(c.ctx, func() (err error) {
		reader, err = records.NewReader(progress.Reader(input), records.ReadOptions{
			Format: o.format, Name: data, Header: o.header, MaxLineBytes: int64(o.maxLine),
			KeyEncoding: c.keyFormat, ValueEncoding: o.value, CSVSafe: o.csvSafe,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return with(file, options, func(t *table.Table) error {
		begin := time.Now()
		done, err := pump(c.ctx, reader, t, progress)
		syncErr := t.Sync()
		progress.Done()
		if err != nil {
			return importError(name, done, err, syncErr)
		}
		if syncErr != nil {
			return syncErr
		}
		took := time.Since(begin)
		return c.done(importDocument{schemaVersion, file, data, done.entries, done.bytes, rounded(took.Seconds()), int64(t.Len())},
			"imported %s; %s now holds %s", throughput("entry", done.entries, done.bytes, took), file, plural(t.Len(), "entry"))
	})
}

func importError(name string, done tally, err, syncErr error) error {
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted%w", quiet{err})
	} else {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if syncErr != nil {
		return errors.Join(err, fmt.Errorf("and the sync failed, so that a power loss may undo the %s before it: %w", plural64(done.entries, "entry"), syncErr))
	}
	return fmt.Errorf("%w (%s before it: stored and synced)", err, plural64(done.entries, "entry"))
}

// quiet keeps an error for errors.Is and leaves its text out.
type quiet struct{ err error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.err }

// openData opens the input; totalBytes is -1 where nobody knows it.
func (a *App) openData(data string) (input io.ReadCloser, name string, totalBytes int64, err error) {
	if data == "-" {
		return io.NopCloser(a.In), "standard input", -1, nil
	}
	file, err := os.Open(data)
	if err != nil {
		return nil, data, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "read", Path: data, Err: errors.New("is a directory")}
	}
	if err != nil {
		_ = file.Close()
		return nil, data, 0, err
	}
	if info.Mode().IsRegular() {
		return file, data, info.Size(), nil
	}
	return file, data, -1, nil
}

// notef tells on stderr what a command did, where it has no other output.
func (a *App) notef(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.IsTerminal(a.Err) {
		text = screen.Escape(text)
	}
	fmt.Fprintln(a.Err, text)
}

// throughput says how much was done in what time, and how fast that is.
func throughput(what string, count, bytes int64, took time.Duration) string {
	seconds := max(took.Seconds(), 1e-6)
	text := plural64(count, what)
	if bytes > 0 {
		text += " (" + bytesText(bytes) + ")"
	}
	text += fmt.Sprintf(" in %.2f s, %s/s", seconds, humanize.Comma(int64(float64(count)/seconds)))
	if bytes > 0 {
		text += " (" + bytesText(int64(float64(bytes)/seconds)) + "/s)"
	}
	return text
}

func plural64(n int64, what string) string { return plural(int(n), what) }
