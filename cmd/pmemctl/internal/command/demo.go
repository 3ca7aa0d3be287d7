package command

import (
	"errors"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/demo"
)

func (a *App) newDemo() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo [flags] [DATA]",
		Short: "Show that kill -9 loses no acknowledged write",
		Long: `Show on this machine that kill -9 loses no acknowledged write.

Several writers in a process of their own load the Debian packages that pmemctl
carries, or DATA (anything that pmemctl import reads), into a scratch table, and
acknowledge each write through a pipe. In the middle the process is killed with
SIGKILL, three times. After each time the table is opened again, every
acknowledged write is compared byte for byte, everything in the table is compared
with what was written, and the file is checked. The last line is the verdict,
PASS or FAIL; the exit code of PASS is 0. Nothing is left behind.`,
		Example: `  pmemctl demo
  pmemctl demo --dir /mnt/pmem                   on another file system
  pmemctl demo debian-packages.jsonl.gz`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Data = args[0]
			}
			if o.Writers < 1 || o.Writers > 256 {
				return usagef("--writers: not between 1 and 256")
			}
			if len(a.Self) == 0 {
				return errNoSelf
			}
			o.Self = append(slices.Clone(a.Self), demoWriterName, "--")
			err := demo.Run(cmd.Context(), o, demo.NewScreen(a.Out, a.IsTerminal(a.Out), a.Getenv))
			if errors.Is(err, demo.ErrFailed) {
				return &codedError{code: ExitCorrupt}
			}
			if code := exitCode(err); code != ExitOK {
				return &codedError{code: code} // the verdict has said why
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", "", "where to put the scratch table (default: the system's temporary directory)")
	flags.BoolVar(&o.Keep, "keep", false, "leave the scratch table there")
	flags.IntVar(&o.Writers, "writers", 4, "number of writing goroutines")
	return cmd
}

// errNoSelf: a process of its own cannot be started.
var errNoSelf = errors.New("the system does not tell where this program lies, which is to be started again")

const demoWriterName = "demo-writer"

// newDemoWriter is the process that the demo kills. Its error goes to stderr,
// which the demo reads.
func (a *App) newDemoWriter() *cobra.Command {
	return &cobra.Command{
		Use:    demoWriterName + " TABLE DATA FROM WRITERS",
		Short:  "The process that the demo kills",
		Hidden: true,
		Args:   arguments(4, 4),
		RunE: func(_ *cobra.Command, args []string) error {
			from, err := strconv.Atoi(args[2])
			if err != nil {
				return usagef("FROM: %w", err)
			}
			writers, err := strconv.Atoi(args[3])
			if err != nil {
				return usagef("WRITERS: %w", err)
			}
			return demo.Write(args[0], args[1], from, writers, a.In, a.Out)
		},
	}
}
