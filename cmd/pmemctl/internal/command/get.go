package command

import (
	"context"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

type getOptions struct {
	keyFormat, valueFormat records.Encoding
	raw                    bool
}

func (a *App) newGet() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get [flags] FILE KEY",
		Short: "Print the value of a key",
		Long: `Print the value of a key.

In a pipe or a file the output is the value's bytes and nothing else, not even a
newline at the end. On a terminal control bytes are escaped, so that a value
cannot drive the terminal, and a newline follows; --raw gives the bytes there,
too. A key that is not there gives exit code 1.`,
		Example: `  pmemctl get debs.pmt vim
  pmemctl get --raw debs.pmt vim                 with its line breaks, on a terminal
  pmemctl get debs.pmt -- -dashes-
  pmemctl get --key-format hex cache.pmt 00ff01 > value.bin`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.get(cmd.Context(), o, args[0], args[1])
		},
	}
	flags := cmd.Flags()
	keyFormatFlag(flags, &o.keyFormat)
	valueFormatFlag(flags, &o.valueFormat)
	flags.BoolVar(&o.raw, "raw", false, "do not escape control bytes on a terminal")
	return cmd
}

func (a *App) get(ctx context.Context, o getOptions, file, keyText string) error {
	key, err := decode(o.keyFormat, "key", keyText)
	if err != nil {
		return err
	}
	return withReader(ctx, file, func(t *table.Table) error {
		value, err := t.Get(key)
		if err != nil {
			return keyError(keyText, err)
		}
		out := a.stdout(o.raw)
		out.show(o.valueFormat.Append(nil, value))
		if a.IsTerminal(a.Out) {
			_ = out.WriteByte('\n')
		}
		return out.Flush()
	})
}
