package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/inspect"
)

// dumpDocument is what dump --json prints.
type dumpDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	*inspect.Object
}

func dumpVerb() verb {
	var all bool
	return verb{
		usage: "dump FILE KIND [ADDRESS]",
		short: "Show an object of the file, bytes beside their meaning",
		long: `Show an object of the file: each run of bytes with its offset, beside what it
means. docs/format.md draws the objects; pmemctl explain finds those of a key.

header, control          the page
session, superblock      0 or 1: which of the two
log                      the frames behind the newest commit, and their changes
stripe                   its number: its root, and the directory
segment, line, record    the offset, decimal or as 0x1f00
chunk                    its number: its descriptor, and what its blocks look like

What is damaged is shown as it is, and the exit code is 3. Of long fields the
first bytes are shown, unless --all is given.`,
		example: `  pmemctl dump debs.pmt superblock 0
  pmemctl dump debs.pmt stripe 12
  pmemctl dump --all debs.pmt record 0x195c00
  pmemctl dump --json debs.pmt chunk 3`,
		complete: completeKinds,
		flags:    func(flags *pflag.FlagSet) { flags.BoolVar(&all, "all", false, "show all bytes of long fields") },
		run: func(c *call) error {
			address, err := dumpAddress(c.args)
			if err != nil {
				return err
			}
			return withInspected(c.args[0], func(f *inspect.File) error {
				o, err := f.Dump(c.args[1], address)
				var none *inspect.ErrAddress
				if errors.As(err, &none) {
					return usagef("%s: %w", strings.Join(c.args[1:], " "), err)
				}
				if err != nil {
					return err
				}
				err = c.answer(dumpDocument{schemaVersion, c.args[0], o}, func(out *output) { printObject(out, o, all) })
				if err == nil && !o.Intact {
					return &codedError{ExitCorrupt, fmt.Errorf("the %s at offset %v is damaged, or none", o.Kind, o.At)}
				}
				return err
			})
		},
	}
}

// dumpAddress looks at KIND and ADDRESS before the file is opened.
func dumpAddress(args []string) (string, error) {
	names := make([]string, len(inspect.Kinds))
	for i, k := range inspect.Kinds {
		names[i] = k.Name
	}
	i := slices.Index(names, args[1])
	switch {
	case i < 0:
		return "", usagef("unknown kind %q: %s", args[1], strings.Join(names, ", "))
	case len(args) == 2 && inspect.Kinds[i].Address != "none":
		return "", usagef("%s needs an address: %s", args[1], inspect.Kinds[i].Address)
	case len(args) == 3 && inspect.Kinds[i].Address == "none":
		return "", usagef("there is one %s: it has no address", args[1])
	case len(args) == 3:
		return args[2], nil
	}
	return "", nil
}

// dumpBytes stand in a line; of a field that is longer, as many lines are shown
// unless all are asked for.
const (
	dumpBytes = 16
	dumpLines = 4
)

func printObject(out *output, o *inspect.Object, all bool) {
	state := "intact"
	if !o.Intact {
		state = "DAMAGED, or none"
	}
	out.line(o.Kind, "at %v, %s: %s", o.At, plural(o.SizeBytes, "byte"), state)
	for _, note := range o.Notes {
		out.line("", "%s", note)
	}
	fmt.Fprintf(out, "\n%-12s  %-*s  %s\n", "offset", 3*8-1, "bytes", "meaning")
	for _, f := range o.Fields {
		printField(out, f, all)
	}
}

func printField(out *output, f inspect.Field, all bool) {
	if len(f.Bytes) <= 8 {
		fmt.Fprintf(out, "%-12v  %-*s  ", f.At, 3*8-1, spaced(f.Bytes))
		out.show([]byte(named(f)))
		_ = out.WriteByte('\n')
		return
	}
	fmt.Fprintf(out, "%-12v  %-*s  ", f.At, 3*8-1, "")
	out.show([]byte(named(f)))
	_ = out.WriteByte('\n')
	for i := 0; i < len(f.Bytes); i += dumpBytes {
		if i == dumpLines*dumpBytes && !all {
			fmt.Fprintf(out, "%-12s  … %s more\n", "", plural(len(f.Bytes)-i, "byte"))
			return
		}
		row := f.Bytes[i:min(i+dumpBytes, len(f.Bytes))]
		fmt.Fprintf(out, "%-12v    %-*s  %s\n", f.At+inspect.Hex(i), 3*dumpBytes-1, spaced(row), printable(row))
	}
}

func named(f inspect.Field) string {
	if f.Name == "" {
		return f.Meaning
	}
	return f.Name + ": " + f.Meaning
}

func spaced(b []byte) string { return fmt.Sprintf("% x", b) }

// printable is ASCII with a dot for what draws no mark.
func printable(b []byte) string {
	text := slices.Clone(b)
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = '.'
		}
	}
	return string(text)
}
