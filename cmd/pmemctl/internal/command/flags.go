package command

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// choice is a flag whose values have names.
type choice[T fmt.Stringer] struct {
	target *T
	parse  func(string) (T, error)
	kind   string
}

func (c choice[T]) String() string {
	if c.target == nil {
		return ""
	}
	return (*c.target).String()
}

func (c choice[T]) Set(text string) (err error) {
	*c.target, err = c.parse(text)
	return err
}

func (c choice[T]) Type() string { return c.kind }

func keyFormatFlag(flags *pflag.FlagSet, target *records.Encoding) {
	flags.Var(choice[records.Encoding]{target, records.ParseEncoding, "utf8|hex|base64"}, "key-format",
		"how keys are written (utf8: the bytes as they are)")
}

func valueFormatFlag(flags *pflag.FlagSet, target *records.Encoding) {
	flags.Var(choice[records.Encoding]{target, records.ParseEncoding, "utf8|hex|base64"}, "value-format",
		"how values are written (utf8: the bytes as they are)")
}

func formatFlag(flags *pflag.FlagSet, target *records.Format, usage string) {
	flags.Var(choice[records.Format]{target, records.ParseFormat, "jsonl|csv|tsv|raw"}, "format", usage)
}

// rows are the flags of the commands that print entries in one of the forms that
// pmemctl import reads.
type rows struct {
	format            records.Format // Auto: the command's own form
	noHeader, csvSafe bool
	unescaped         bool
}

func (r *rows) register(flags *pflag.FlagSet) {
	flags.BoolVar(&r.noHeader, "no-header", false, "csv and tsv without a line of column names")
	csvSafeFlag(flags, &r.csvSafe)
	flags.BoolVar(&r.unescaped, "raw", false, "do not escape control bytes on a terminal")
}

func csvSafeFlag(flags *pflag.FlagSet, target *bool) {
	flags.BoolVar(target, "csv-safe", false, "csv and tsv without formulas: a cell that begins like one (= + - @ tab CR LF) has ' before it")
}

// check refuses flags that the format has no use for.
func (r *rows) check() error {
	if r.format != records.CSV && r.format != records.TSV && (r.noHeader || r.csvSafe) {
		return usagef("--no-header and --csv-safe are for --format csv and tsv")
	}
	return nil
}

// writer writes entries to stdout.
func (c *call) writer(r rows, key, value records.Encoding) records.Writer {
	return records.NewWriter(c.Out, r.options(key, value, c.IsTerminal(c.Out) && !r.unescaped))
}

func (r *rows) options(key, value records.Encoding, terminal bool) records.WriteOptions {
	return records.WriteOptions{Format: r.format, NoHeader: r.noHeader, CSVSafe: r.csvSafe, Terminal: terminal,
		KeyEncoding: key, ValueEncoding: value}
}

// rowFormatFlag has, beside the forms that pmemctl import reads, the command's own.
func rowFormatFlag(flags *pflag.FlagSet, target *records.Format, own, usage string) {
	flags.Var(rowFormat{target, own}, "format", usage)
}

// rowFormat is a choice in which records.Auto has another name.
type rowFormat struct {
	target *records.Format
	own    string
}

func (f rowFormat) String() string {
	if f.target == nil || *f.target == records.Auto {
		return f.own
	}
	return f.target.String()
}

func (f rowFormat) Set(text string) (err error) {
	if text == f.own {
		*f.target = records.Auto
		return nil
	}
	*f.target, err = records.ParseFormat(text)
	return err
}

func (f rowFormat) Type() string {
	if f.own == records.Raw.String() {
		return "raw|jsonl|csv|tsv"
	}
	return f.own + "|jsonl|csv|tsv|raw"
}

func progressFlag(flags *pflag.FlagSet, target *screen.ProgressMode) {
	*target = screen.ProgressAuto
	flags.Var(choice[screen.ProgressMode]{target, screen.ParseProgressMode, "auto|plain|json|none"}, "progress",
		"how progress is told on stderr (auto: a bar on a terminal)")
}

// decode is for keys and values that stand on the command line.
func decode(e records.Encoding, what, text string) ([]byte, error) {
	b, err := e.AppendDecoded(nil, []byte(text))
	if err != nil {
		return nil, usagef("the %s is %w", what, err)
	}
	return b, nil
}

// sizeFlag is a number of bytes, as 65536, 64KiB or 64GB.
type sizeFlag int64

func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return humanize.IBytes(uint64(*s))
}

func (s *sizeFlag) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return fmt.Errorf("not a size in bytes, such as 1000000, 512MiB or 64GiB")
	}
	*s = sizeFlag(n)
	return nil
}

func (s *sizeFlag) Type() string { return "size" }

// modeFlag holds permission bits in octal.
type modeFlag fs.FileMode

func (m *modeFlag) String() string { return fmt.Sprintf("%04o", uint32(*m)) }

func (m *modeFlag) Set(text string) error {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 || n&0o600 != 0o600 {
		return fmt.Errorf("not an octal file mode that lets its owner read and write, such as 0600 or 0640")
	}
	*m = modeFlag(n)
	return nil
}

func (m *modeFlag) Type() string { return "mode" }

// maxStripes is the library's bound. It checks it, too, but only we can say
// that it was the command line that was wrong.
const maxStripes = 4096

// geometry holds the flags that shape a file at its creation.
type geometry struct {
	stripes int
	maxSize sizeFlag
	mode    modeFlag
}

func (g *geometry) register(flags *pflag.FlagSet) {
	g.mode = 0o600
	flags.IntVar(&g.stripes, "stripes", 0, "number of independently locked parts, rounded up to a power of two (0: the default)")
	flags.Var(&g.maxSize, "max-size", "how large this command lets the file grow; the file does not remember it (default 64GiB)")
	flags.Var(&g.mode, "mode", "permissions of the new file, in octal")
}

func (g *geometry) apply(o *table.Options) error {
	if g.stripes < 0 || g.stripes > maxStripes {
		return usagef("--stripes: not between 0 and %d", maxStripes)
	}
	o.Stripes, o.MaxSize, o.FileMode = g.stripes, int64(g.maxSize), fs.FileMode(g.mode)
	return nil
}
