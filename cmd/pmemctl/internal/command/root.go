// Package command holds the commands of pmemctl, one file for each.
//
// They share three habits. What only reads opens the file read-only, so that
// looking never changes or creates anything. Whatever comes out of a table
// passes package screen on its way to a terminal. And every error ends as one
// line on stderr, text or JSON, and one of the exit codes of errors.go.
package command

import (
	"context"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/screen"
)

// App is the world that the commands run in. Tests build worlds of buffers.
type App struct {
	In         io.Reader
	Out, Err   io.Writer
	IsTerminal func(stream any) bool
	Getenv     func(name string) string
	// Self are the words that start this program again, for commands that work with
	// a process of their own.
	Self []string
}

// NewApp is the world of the process.
func NewApp() *App {
	a := &App{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, IsTerminal: screen.IsTerminal, Getenv: os.Getenv}
	if self, err := os.Executable(); err == nil {
		a.Self = []string{self}
	}
	return a
}

// Run runs one command line, reports its error, and returns the exit code.
func (a *App) Run(ctx context.Context, args []string) int {
	root := a.newRoot()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, args, err)
}

func (a *App) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pmemctl VERB [flags] FILE [arguments]",
		Short: "Create, fill, read and check pmemtable files",
		Long: `pmemctl works on the files of pmemtable, a hash table in a memory-mapped file.

A command line is always VERB [flags] FILE [arguments], and -- ends the flags,
for keys that begin with a dash. Commands that only read open the file
read-only: they create and change nothing.`,
		Example: `  pmemctl demo                                  see it survive kill -9
  pmemctl import --create debs.pmt debs.jsonl.gz
  pmemctl get debs.pmt vim
  pmemctl export debs.pmt | sort > debs.jsonl
  pmemctl check debs.pmt`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "see pmemctl --help"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("unknown command %q; %s", args[0], hint)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(a.Err)
			if err := cmd.Help(); err != nil {
				return err
			}
			return &codedError{code: ExitUsage}
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.Flags().Bool(jsonFlag, false, "") // so that it may stand before the verb, and is known where there is none
	_ = root.Flags().MarkHidden(jsonFlag)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpTemplate(helpTemplate)
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title + ":"})
		for _, v := range g.verbs {
			cmd := a.command(v)
			cmd.GroupID = g.title
			root.AddCommand(cmd)
		}
	}
	completeValues(root)
	return root
}

// group is a part of the list of commands.
type group struct {
	title string
	verbs []verb
}

func groups() []group {
	return []group{
		{"Store and read", []verb{createVerb(), importVerb(), exportVerb(), getVerb(), putVerb(), deleteVerb(), scanVerb(), countVerb()}},
		{"Look", []verb{infoVerb(), statsVerb(), topVerb(), keysVerb(), diffVerb(), mapVerb(), explainVerb(), dumpVerb(), doctorVerb()}},
		{"Keep in order", []verb{checkVerb(), repairVerb(), compactVerb(), backupVerb(), restoreVerb()}},
		{"Try", []verb{demoVerb(), crashtestVerb(), benchVerb(), demoWriterVerb()}},
	}
}

const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}{{.UsageString}}{{end}}` + exitCodes

const exitCodes = `
Exit codes: 0 ok, 1 key not found or condition not met, 2 usage, 3 corruption,
4 locked, 5 I/O, 6 unsupported version, 7 damaged but every entry intact,
130 interrupted.
`

// version is what the go command knows about the build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version + " " + info.GoVersion
	}
	return "unknown"
}
