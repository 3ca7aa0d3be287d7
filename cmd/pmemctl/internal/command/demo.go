package command

import (
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/demo"
)

func demoVerb() verb {
	var o demo.Options
	return verb{
		usage: "demo [DATA]",
		short: "Show that kill -9 loses no acknowledged write",
		long: `Show on this machine that kill -9 loses no acknowledged write.

Several writers in a process of their own load the Debian packages that pmemctl
carries, or DATA (anything that pmemctl import reads), into a scratch table, and
acknowledge each write through a pipe. In the middle the process is killed with
SIGKILL, three times. After each time the table is opened again, every
acknowledged write is compared byte for byte, everything in the table is compared
with what was written, and the file is checked. The last line is the verdict,
PASS or FAIL; the exit code of PASS is 0. Nothing is left behind.`,
		example: `  pmemctl demo
  pmemctl demo --dir /mnt/pmem                   on another file system
  pmemctl demo debian-packages.jsonl.gz`,
		flags: func(flags *pflag.FlagSet) {
			flags.StringVar(&o.Dir, "dir", "", "where to put the scratch table (default: the system's temporary directory)")
			flags.BoolVar(&o.Keep, "keep", false, "leave the scratch table there")
			flags.IntVar(&o.Writers, "writers", 4, "number of writing goroutines")
		},
		run: func(c *call) error { return c.demo(o) },
	}
}

// errNoSelf: a process of its own cannot be started.
var errNoSelf = errors.New("the system does not tell where this program lies, which is to be started again")

const demoWriterName = "demo-writer"

// demoDocument is what demo --json prints.
type demoDocument struct {
	SchemaVersion int    `json:"schema_version"`
	Passed        bool   `json:"passed"`
	Failure       string `json:"failure,omitempty"`
	demo.Result
}

func (c *call) demo(o demo.Options) error {
	if len(c.args) == 1 {
		o.Data = c.args[0]
	}
	if o.Writers < 1 || o.Writers > 256 {
		return usagef("--writers: not between 1 and 256")
	}
	result, err := c.runDemo(o)
	code := exitCode(err)
	switch {
	case errors.Is(err, demo.ErrFailed):
		code = ExitCorrupt
	case errors.Is(err, errNoSelf):
		return err
	}
	if c.json {
		d := demoDocument{SchemaVersion: schemaVersion, Passed: err == nil, Result: result}
		if err != nil {
			d.Failure = err.Error()
		}
		if outErr := c.stdout(false).document(d); outErr != nil {
			return outErr
		}
	}
	switch {
	case code == ExitOK:
		return err
	case c.json:
		return &codedError{code, err}
	}
	return &codedError{code: code} // the verdict has said why
}

// runDemo shows the demo, but for --json.
func (c *call) runDemo(o demo.Options) (demo.Result, error) {
	if len(c.Self) == 0 {
		return demo.Result{}, errNoSelf
	}
	shown := c.Out
	if c.json {
		shown = io.Discard
	}
	o.Self = append(slices.Clone(c.Self), demoWriterName, "--")
	return demo.Run(c.ctx, o, demo.NewScreen(shown, c.IsTerminal(shown), c.Getenv))
}

// demoWriterVerb is the process that the demo kills. Its error goes to stderr,
// which the demo reads.
func demoWriterVerb() verb {
	return verb{
		usage:  demoWriterName + " TABLE DATA FROM WRITERS",
		short:  "The process that the demo kills",
		hidden: true,
		run: func(c *call) error {
			from, err := strconv.Atoi(c.args[2])
			if err != nil {
				return usagef("FROM: %w", err)
			}
			writers, err := strconv.Atoi(c.args[3])
			if err != nil {
				return usagef("WRITERS: %w", err)
			}
			return demo.Write(c.args[0], c.args[1], from, writers, c.In, c.Out)
		},
	}
}
