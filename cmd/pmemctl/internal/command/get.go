package command

import (
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
	valueFormat records.Encoding
	raw         bool
}

func getVerb() verb {
	var o getOptions
	return verb{
		usage: "get FILE KEY",
		short: "Print the value of a key",
		long: `Print the value of a key.

In a pipe or a file the output is the value's bytes and nothing else, not even a
newline at the end. On a terminal control bytes are escaped, so that a value
cannot drive the terminal, and a newline follows; --raw gives the bytes there,
too. A key that is not there gives exit code 1.`,
		example: `  pmemctl get debs.pmt vim
  pmemctl get --raw debs.pmt vim                 with its line breaks, on a terminal
  pmemctl get debs.pmt -- -dashes-
  pmemctl get --key-format hex cache.pmt 00ff01 > value.bin`,
		keys: true,
		flags: func(flags *pflag.FlagSet) {
			valueFormatFlag(flags, &o.valueFormat)
			flags.BoolVar(&o.raw, "raw", false, "do not escape control bytes on a terminal")
		},
		run: func(c *call) error { return c.get(o) },
	}
}

func (c *call) get(o getOptions) error {
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
		out := c.stdout(o.raw)
		out.show(o.valueFormat.Append(nil, value))
		if c.IsTerminal(c.Out) {
			_ = out.WriteByte('\n')
		}
		return out.Flush()
	})
}
