package command

import (
	"fmt"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

// deleteDocument is what delete --json prints.
type deleteDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	keyDocument
}

type deleteOptions struct {
	valueFormat records.Encoding
	ifValue     string
}

func deleteVerb() verb {
	var o deleteOptions
	return verb{
		usage: "delete FILE KEY",
		short: "Remove a key and its value",
		long: `Remove a key and its value. The removal is durable when the command returns, as
far as the medium allows (see pmemctl info). A key that is not there, or does
not have the value of --if-value, gives exit code 1.`,
		example: `  pmemctl delete cache.pmt greeting
  pmemctl delete --if-value done cache.pmt job/17
  pmemctl delete --key-format hex cache.pmt 00ff01
  pmemctl delete cache.pmt -- -dashes-`,
		keys: true,
		flags: func(flags *pflag.FlagSet) {
			valueFormatFlag(flags, &o.valueFormat)
			flags.StringVar(&o.ifValue, "if-value", "", "only if the key has this value now (in --value-format)")
		},
		run: func(c *call) error { return c.delete(o) },
	}
}

func (c *call) delete(o deleteOptions) error {
	key, old, err := c.keyAndOld(o.valueFormat, o.ifValue)
	if err != nil {
		return err
	}
	return withWriter(c.args[0], table.Options{}, func(t *table.Table) error {
		// We hold the file's lock: nothing comes between the two calls.
		there, err := t.Has(key)
		switch {
		case err != nil:
			return err
		case !there:
			return keyError(c.args[1], table.ErrNotFound)
		case c.given("if-value"):
			there, err = t.CompareAndDelete(key, old)
		default:
			err = t.Delete(key)
		}
		switch {
		case err != nil:
			return err
		case !there:
			return conditionf("nothing deleted: key %s does not have that value", quoted(c.args[1]))
		}
		return c.answer(deleteDocument{schemaVersion, c.args[0], newKeyDocument(key, c.keyFormat)}, nil)
	})
}

// keyAndOld are the second argument and the value of --if-value.
func (c *call) keyAndOld(valueFormat records.Encoding, ifValue string) (key, old []byte, err error) {
	if key, err = decode(c.keyFormat, "key", c.args[1]); err != nil {
		return nil, nil, err
	}
	old, err = decode(valueFormat, "value of --if-value", ifValue)
	return key, old, err
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
