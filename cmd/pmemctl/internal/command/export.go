package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/safefile"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// exportDocument is what export --json prints.
type exportDocument struct {
	SchemaVersion int     `json:"schema_version"`
	File          string  `json:"file"`
	Out           string  `json:"out"`
	Format        string  `json:"format"`
	Entries       int64   `json:"entries"`
	Seconds       float64 `json:"seconds"`
}

type exportOptions struct {
	rows
	out                    string
	keyFormat, valueFormat columnFormat
}

// columnFormat is an encoding, or the choice of one by what the table holds.
type columnFormat string

func (c columnFormat) String() string { return string(c) }

func parseColumnFormat(text string) (columnFormat, error) {
	if text != "auto" {
		if _, err := records.ParseEncoding(text); err != nil {
			return "", fmt.Errorf("unknown format %q: auto, utf8, hex or base64", text)
		}
	}
	return columnFormat(text), nil
}

func exportVerb() verb {
	o := exportOptions{rows: rows{format: records.JSONL}, keyFormat: "auto", valueFormat: "auto"}
	return verb{
		usage: "export FILE",
		short: "Write all entries as JSONL, CSV, TSV or raw",
		long: `Write all entries, in no particular order, so that pmemctl import gives back the same
set, byte for byte.

jsonl  {"key": "...", "value": "..."} on each line. What is not UTF-8 travels as
       key_base64 or value_base64, each side by itself.
csv    RFC 4180, with a header. CSV has no way to write some bytes (invalid
       UTF-8, and \r\n, which readers change). If the table holds any, the whole
       column is in base64 and is called key_base64 or value_base64.
tsv    A tab between key and value, with a header. Inside them \t \n \r \\ stand
       for tab, newline, return and backslash, and \xHH for any other byte that
       is not printable text.
raw    +KEYLENGTH,VALUELENGTH:KEY->VALUE, bytes as they are and lengths in bytes, a
       newline behind each and one more at the end: what cdbmake takes.

--csv-safe is for files that a spreadsheet opens, which takes some cells for formulas:
before a cell of csv or tsv that begins with = + - @ tab, CR or LF it puts a single
quote, and around every cell of csv double ones. pmemctl import --csv-safe takes
the single quotes off again.

With --out the file appears whole or not at all, with mode 0600, and an existing
one is refused. On a terminal control bytes are escaped; that is still the same
JSON or TSV, but CSV and raw for eyes only.`,
		example: `  pmemctl export debs.pmt | sort > debs.jsonl
  pmemctl export --out debs.jsonl debs.pmt
  pmemctl export --format csv --value-format hex cache.pmt
  pmemctl export --format csv --csv-safe --out for-people.csv cache.pmt
  pmemctl export --format raw cache.pmt | cdbmake cache.cdb cache.tmp`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.StringVarP(&o.out, "out", "o", "", "write a new file instead of stdout")
			formatFlag(flags, &o.format, "form of the output")
			column := "how %s are written in csv and tsv (auto: utf8, or base64 where csv needs it)"
			flags.Var(choice[columnFormat]{&o.keyFormat, parseColumnFormat, "auto|utf8|hex|base64"}, "key-format", fmt.Sprintf(column, "keys"))
			flags.Var(choice[columnFormat]{&o.valueFormat, parseColumnFormat, "auto|utf8|hex|base64"}, "value-format", fmt.Sprintf(column, "values"))
			o.register(flags)
		},
		run: func(c *call) error { return c.export(o) },
	}
}

func (c *call) export(o exportOptions) error {
	if o.format == records.Auto {
		o.format = records.JSONL
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.format != records.CSV && o.format != records.TSV && (o.keyFormat != "auto" || o.valueFormat != "auto") {
		return usagef("--key-format and --value-format are for csv and tsv: jsonl says line by line what is base64, raw has bytes")
	}
	toStdout := o.out == "" || o.out == "-"
	switch {
	case toStdout && c.json:
		return usagef("--json would stand behind the entries on standard output: it needs --out (pmemctl scan --json prints entries)")
	case toStdout:
		if c.IsTerminal(c.Out) && c.show == screen.ProgressAuto {
			c.show = screen.ProgressNone // a bar would stand among the entries
		}
		return c.reading(func(t *table.Table) error {
			_, err := c.exportTo(c.Out, t, o, c.IsTerminal(c.Out) && !o.unescaped)
			return err
		})
	}
	// Not by withReader, which may leave work behind when it is interrupted:
	// the file aside must be gone before we are.
	return with(c.args[0], table.Options{ReadOnly: true}, func(t *table.Table) error {
		begin := time.Now()
		var count int64
		err := safefile.Write(o.out, func(w io.Writer) (err error) {
			count, err = c.exportTo(w, t, o, false)
			return err
		})
		if err != nil {
			return err
		}
		took := time.Since(begin)
		return c.done(exportDocument{schemaVersion, c.args[0], o.out, o.format.String(), count, rounded(took.Seconds())},
			"exported %s to %s", throughput("entry", count, 0, took), o.out)
	})
}

func (c *call) exportTo(w io.Writer, t *table.Table, o exportOptions, terminal bool) (count int64, err error) {
	progress := c.progress("exporting", entriesKnown(t), screen.Items)
	err = progress.Follow(func() error {
		key, value, err := columnEncodings(c.ctx, t, o)
		if err != nil {
			return err
		}
		writer := records.NewWriter(w, o.options(key, value, terminal))
		err = entries(c.ctx, t, func(key, value []byte) error {
			count++
			progress.Set(count)
			return writer.Write(key, value)
		})
		if err != nil {
			return err
		}
		return writer.Flush()
	})
	return count, err
}

// columnEncodings settles what auto means. For CSV that takes a walk over the
// table before the first line is written: the header must tell what the last
// row needs.
func columnEncodings(ctx context.Context, t *table.Table, o exportOptions) (key, value records.Encoding, err error) {
	if o.keyFormat != "auto" {
		key, _ = records.ParseEncoding(string(o.keyFormat))
	}
	if o.valueFormat != "auto" {
		value, _ = records.ParseEncoding(string(o.valueFormat))
	}
	if o.format != records.CSV || o.keyFormat != "auto" && o.valueFormat != "auto" {
		return key, value, nil
	}
	err = entries(ctx, t, func(k, v []byte) error {
		if o.keyFormat == "auto" && !records.CSVCanSay(k) {
			key = records.Base64
		}
		if o.valueFormat == "auto" && !records.CSVCanSay(v) {
			value = records.Base64
		}
		return nil
	})
	return key, value, err
}
