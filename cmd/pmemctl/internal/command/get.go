package command

import (
	"errors"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

// getDocument is what get --json prints.
type getDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	keyDocument
	valueDocument
}

type getOptions struct {
	rows
	valueFormat records.Encoding
}

func getVerb() verb {
	var o getOptions
	return verb{
		usage: "get FILE KEY",
		short: "Print the value of a key",
		long: `Print the value of a key.

The form is raw: in a pipe or a file the value's bytes and nothing else, not even a
newline at the end. On a terminal control bytes are escaped, so that a value cannot
drive the terminal, and a newline follows; --raw, or --format raw, gives the bytes
there, too. With --format jsonl, csv or tsv the entry comes as pmemctl export writes
it. A key that is not there gives exit code 1.`,
		example: `  pmemctl get debs.pmt vim
  pmemctl get --raw debs.pmt vim                 with its line breaks, on a terminal
  pmemctl get --format jsonl debs.pmt vim >> some.jsonl
  pmemctl get debs.pmt -- -dashes-
  pmemctl get --key-format hex cache.pmt 00ff01 > value.bin`,
		keys: true,
		flags: func(flags *pflag.FlagSet) {
			valueFormatFlag(flags, &o.valueFormat)
			rowFormatFlag(flags, &o.format, records.Raw.String(), "form of the output")
			o.register(flags)
		},
		run: func(c *call) error { return c.get(o) },
	}
}

func (c *call) get(o getOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	key, err := decode(c.keyFormat, "key", c.args[1])
	if err != nil {
		return err
	}
	return c.reading(func(t *table.Table) error {
		value, err := t.Get(key)
		if err != nil {
			return keyError(c.args[1], err)
		}
		if c.json {
			return c.stdout(false).document(getDocument{schemaVersion, c.args[0], newKeyDocument(key, c.keyFormat), newValueDocument(value, o.valueFormat)})
		}
		if o.format != records.Auto {
			w := c.writer(o.rows, c.keyFormat, o.valueFormat)
			return errors.Join(w.Write(key, value), w.Flush())
		}
		out := c.stdout(o.unescaped || c.given("format"))
		out.show(o.valueFormat.Append(nil, value))
		if c.IsTerminal(c.Out) {
			_ = out.WriteByte('\n')
		}
		return out.Flush()
	})
}
