package command

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/safefile"
	"pmemtable/table"
)

type exportOptions struct {
	out                    string
	format                 records.Format
	keyFormat, valueFormat columnFormat
	noHeader, raw          bool
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

func (a *App) newExport() *cobra.Command {
	o := exportOptions{format: records.JSONL, keyFormat: "auto", valueFormat: "auto"}
	cmd := &cobra.Command{
		Use:   "export [flags] FILE",
		Short: "Write all entries as JSONL, CSV or TSV",
		Long: `Write all entries as text, in no particular order, so that pmemctl import gives
back the same set, byte for byte.

jsonl  {"key": "...", "value": "..."} on each line. What is not UTF-8 travels as
       key_base64 or value_base64, each side by itself.
csv    RFC 4180, with a header. CSV has no way to write some bytes (invalid
       UTF-8, and \r\n, which readers change). If the table holds any, the whole
       column is in base64 and is called key_base64 or value_base64.
tsv    A tab between key and value, with a header. Inside them \t \n \r \\ stand
       for tab, newline, return and backslash, and \xHH for any other byte that
       is not printable text.

With --out the file appears whole or not at all, with mode 0600, and an existing
one is refused. On a terminal control bytes are escaped; that is still the same
JSON or TSV, but CSV for eyes only.`,
		Example: `  pmemctl export debs.pmt | sort > debs.jsonl
  pmemctl export --out debs.jsonl debs.pmt
  pmemctl export --format csv --value-format hex cache.pmt`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.export(cmd.Context(), o, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.out, "out", "o", "", "write a new file instead of stdout")
	formatFlag(flags, &o.format, "form of the output")
	column := "how %s are written in csv and tsv (auto: utf8, or base64 where csv needs it)"
	flags.Var(choice[columnFormat]{&o.keyFormat, parseColumnFormat, "auto|utf8|hex|base64"}, "key-format", fmt.Sprintf(column, "keys"))
	flags.Var(choice[columnFormat]{&o.valueFormat, parseColumnFormat, "auto|utf8|hex|base64"}, "value-format", fmt.Sprintf(column, "values"))
	flags.BoolVar(&o.noHeader, "no-header", false, "csv and tsv without a line of column names")
	flags.BoolVar(&o.raw, "raw", false, "do not escape control bytes on a terminal")
	return cmd
}

func (a *App) export(ctx context.Context, o exportOptions, file string) error {
	if o.format == records.Auto {
		o.format = records.JSONL
	}
	if o.format == records.JSONL && (o.noHeader || o.keyFormat != "auto" || o.valueFormat != "auto") {
		return usagef("--no-header, --key-format and --value-format are for csv and tsv: jsonl says line by line what is base64")
	}
	if o.out == "" || o.out == "-" {
		return withReader(ctx, file, func(t *table.Table) error {
			_, err := exportTo(ctx, t, a.Out, o, a.IsTerminal(a.Out) && !o.raw)
			return err
		})
	}
	// Not by withReader, which may leave work behind when it is interrupted:
	// the file aside must be gone before we are.
	return with(file, table.Options{ReadOnly: true}, func(t *table.Table) error {
		begin := time.Now()
		var count int64
		err := safefile.Write(o.out, func(w io.Writer) (err error) {
			count, err = exportTo(ctx, t, w, o, false)
			return err
		})
		if err == nil {
			a.notef("exported %s to %s", throughput("entry", count, 0, time.Since(begin)), o.out)
		}
		return err
	})
}

func exportTo(ctx context.Context, t *table.Table, w io.Writer, o exportOptions, terminal bool) (count int64, err error) {
	options := records.WriteOptions{Format: o.format, NoHeader: o.noHeader, Terminal: terminal}
	if o.format != records.JSONL {
		if options.KeyEncoding, options.ValueEncoding, err = columnEncodings(ctx, t, o); err != nil {
			return 0, err
		}
	}
	writer := records.NewWriter(w, options)
	err = entries(ctx, t, func(key, value []byte) error {
		count++
		return writer.Write(key, value)
	})
	if err != nil {
		return count, err
	}
	return count, writer.Flush()
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
