package command

import (
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

type deleteOptions struct {
	keyFormat, valueFormat records.Encoding
	hasIfValue             bool
	ifValue                string
}

func (a *App) newDelete() *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:   "delete [flags] FILE KEY",
		Short: "Remove a key and its value",
		Long: `Remove a key and its value. The removal is durable when the command returns, as
far as the medium allows (see pmemctl info). A key that is not there, or does
not have the value of --if-value, gives exit code 1.`,
		Example: `  pmemctl delete cache.pmt greeting
  pmemctl delete --if-value done cache.pmt job/17
  pmemctl delete --key-format hex cache.pmt 00ff01
  pmemctl delete cache.pmt -- -dashes-`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.hasIfValue = cmd.Flags().Changed("if-value")
			return a.delete(o, args[0], args[1])
		},
	}
	flags := cmd.Flags()
	keyFormatFlag(flags, &o.keyFormat)
	valueFormatFlag(flags, &o.valueFormat)
	flags.StringVar(&o.ifValue, "if-value", "", "only if the key has this value now (in --value-format)")
	return cmd
}

func (a *App) delete(o deleteOptions, file, keyText string) error {
	key, err := decode(o.keyFormat, "key", keyText)
	if err != nil {
		return err
	}
	old, err := decode(o.valueFormat, "value of --if-value", o.ifValue)
	if err != nil {
		return err
	}
	return withWriter(file, table.Options{}, func(t *table.Table) error {
		// We hold the file's lock: nothing comes between the two calls.
		there, err := t.Has(key)
		switch {
		case err != nil:
			return err
		case !there:
			return keyError(keyText, table.ErrNotFound)
		case !o.hasIfValue:
			return t.Delete(key)
		}
		deleted, err := t.CompareAndDelete(key, old)
		if err == nil && !deleted {
			return conditionf("nothing deleted: key %s does not have that value", quoted(keyText))
		}
		return err
	})
}

// keyError says which key was not found.
func keyError(keyText string, err error) error {
	if exitCode(err) == ExitCondition {
		return conditionf("key %s: not found", quoted(keyText))
	}
	return err
}

// quoted shows a key inside an error. Keys may be 64 KiB long.
func quoted(keyText string) string {
	const most = 60
	if len(keyText) <= most {
		return fmt.Sprintf("%q", keyText)
	}
	end := most
	for end > 0 && !utf8.RuneStart(keyText[end]) {
		end--
	}
	return fmt.Sprintf("%q... (%d bytes)", keyText[:end], len(keyText))
}
