package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

// putDocument is what put --json prints.
type putDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	keyDocument
	ValueBytes int64 `json:"value_bytes"`
}

type putOptions struct {
	valueFormat records.Encoding
	valueFile   string
	ifAbsent    bool
	ifValue     string
}

func putVerb() verb {
	var o putOptions
	return verb{
		usage: "put FILE KEY [VALUE]",
		short: "Store a value under a key",
		long: `Store a value under a key. The value is the third argument, or comes from
standard input when that is a single -, or from --value-file. It is durable when
the command returns, as far as the medium allows (see pmemctl info).

With --if-absent or --if-value the value is stored only on that condition; when
it is not met nothing changes and the exit code is 1.`,
		example: `  pmemctl put cache.pmt greeting hello
  date | pmemctl put cache.pmt now -
  pmemctl put --value-file logo.png cache.pmt logo
  pmemctl put --if-value 41 cache.pmt counter 42
  pmemctl put cache.pmt -- -key -value`,
		keys: true,
		flags: func(flags *pflag.FlagSet) {
			valueFormatFlag(flags, &o.valueFormat)
			flags.StringVar(&o.valueFile, "value-file", "", "take the value from this file")
			flags.BoolVar(&o.ifAbsent, "if-absent", false, "only if the key is not there")
			flags.StringVar(&o.ifValue, "if-value", "", "only if the key has this value now (in --value-format)")
		},
		run: func(c *call) error { return c.put(o) },
	}
}

func (c *call) put(o putOptions) error {
	hasIfValue := c.given("if-value")
	if o.ifAbsent && hasIfValue {
		return usagef("both --if-absent and --if-value: a key cannot be absent and have a value")
	}
	key, old, err := c.keyAndOld(o.valueFormat, o.ifValue)
	if err != nil {
		return err
	}
	value, err := c.putValue(o)
	if err != nil {
		return err
	}
	return withWriter(c.args[0], table.Options{}, func(t *table.Table) error {
		stored := true
		var err error
		switch {
		case o.ifAbsent:
			stored, err = t.PutIfAbsent(key, value)
		case hasIfValue:
			stored, err = t.CompareAndSwap(key, old, value)
		default:
			err = t.Put(key, value)
		}
		switch {
		case err != nil:
			return err
		case !stored && o.ifAbsent:
			return conditionf("nothing stored: key %s is there already", quoted(c.args[1]))
		case !stored:
			return conditionf("nothing stored: key %s does not have that value", quoted(c.args[1]))
		}
		return c.answer(putDocument{schemaVersion, c.args[0], newKeyDocument(key, c.keyFormat), int64(len(value))}, nil)
	})
}

// putValue is the value from wherever the command line says. It is complete
// before the table is opened: a slow pipe must not hold the lock.
func (c *call) putValue(o putOptions) ([]byte, error) {
	args := c.args[2:]
	switch {
	case o.valueFile != "" && len(args) > 0:
		return nil, usagef("both --value-file and a value on the command line")
	case o.valueFile == "" && len(args) == 0:
		return nil, usagef("no value: give one, or - for standard input, or --value-file")
	case o.valueFile != "":
		file, err := os.Open(o.valueFile)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return readValue(c.ctx, o.valueFormat, file)
	case args[0] == "-":
		return readValue(c.ctx, o.valueFormat, c.In)
	}
	return decode(o.valueFormat, "value", args[0])
}

// maxValueBytes is what the table takes. Reading stops there, not when memory
// is full.
const maxValueBytes = 1 << 30

func readValue(ctx context.Context, e records.Encoding, input io.Reader) (value []byte, err error) {
	limit := int64(maxValueBytes)
	if e != records.UTF8 {
		limit = 2*limit + 2 // two digits a byte, and a line end
	}
	text, err := readUpTo(ctx, input, limit)
	if err != nil || e == records.UTF8 {
		return text, err
	}
	// Tools that write hex or base64 end it with a newline, which is no part
	// of it.
	value, err = e.AppendDecoded(nil, bytes.TrimRight(text, "\r\n"))
	if err != nil {
		return nil, usagef("the value is %w", err)
	}
	return value, nil
}

func readUpTo(ctx context.Context, input io.Reader, limit int64) ([]byte, error) {
	var text []byte
	err := interruptible(ctx, func() (err error) {
		text, err = io.ReadAll(io.LimitReader(input, limit+1))
		return err
	})
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err // text may still be written to
	case err != nil:
		return nil, fmt.Errorf("reading the value: %w", err)
	case int64(len(text)) > limit:
		return nil, fmt.Errorf("the value: %w", table.ErrTooLarge)
	}
	return text, nil
}
