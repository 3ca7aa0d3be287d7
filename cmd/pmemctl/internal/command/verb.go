package command

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// verb declares a command: what is its own. What all have in common (how arguments
// are counted, --json, how errors are told) is in command and call.
type verb struct {
	usage                string // the name, and the arguments; those in brackets may be left out
	short, long, example string
	keys                 bool // it takes or prints keys: --key-format
	slow                 bool // it may take long: --progress
	hidden               bool // it is for this program itself, and has no flags
	flags                func(flags *pflag.FlagSet)
	complete             cobra.CompletionFunc
	run                  func(c *call) error
}

// call is one run of a command.
type call struct {
	*App
	ctx       context.Context
	args      []string
	given     func(flag string) bool
	json      bool
	keyFormat records.Encoding
	show      screen.ProgressMode
}

func (a *App) command(v verb) *cobra.Command {
	c := &call{App: a}
	name, arguments, _ := strings.Cut(v.usage, " ")
	cmd := &cobra.Command{
		Use: strings.TrimSpace(name + " [flags] " + arguments), Short: v.short, Long: v.long, Example: v.example,
		Hidden: v.hidden, DisableFlagsInUseLine: true,
		Args: countArguments(arguments), ValidArgsFunction: v.complete,
		RunE: func(cmd *cobra.Command, args []string) error {
			c.ctx, c.args, c.given = cmd.Context(), args, cmd.Flags().Changed
			return v.run(c)
		},
	}
	flags := cmd.Flags()
	if !v.hidden {
		flags.BoolVar(&c.json, jsonFlag, false, "print a JSON document, also of an error")
	}
	if v.keys {
		keyFormatFlag(flags, &c.keyFormat)
	}
	if v.slow {
		progressFlag(flags, &c.show)
	}
	if v.flags != nil {
		v.flags(flags)
	}
	return cmd
}

// countArguments refuses a command line with fewer or more arguments than the
// usage names.
func countArguments(usage string) cobra.PositionalArgs {
	words := strings.Fields(usage)
	most, least := len(words), 0
	for _, word := range words {
		if !strings.HasPrefix(word, "[") {
			least++
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("too few arguments; usage: %s", cmd.UseLine())
		case len(args) > most:
			return usagef("too many arguments; usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// answer prints what a command found out: a document with --json, else text; nil
// for what says nothing when all is well.
func (c *call) answer(document any, text func(out *output)) error {
	out := c.stdout(false)
	if c.json {
		return out.document(document)
	}
	if text != nil {
		text(out)
	}
	return out.Flush()
}

// done tells what a command did whose standard output is, or may be, something
// else: a document with --json, else a line on stderr.
func (c *call) done(document any, format string, args ...any) error {
	if c.json {
		return c.stdout(false).document(document)
	}
	c.notef(format, args...)
	return nil
}

// reading runs fn on the table that the first argument names, opened read-only.
func (c *call) reading(fn func(t *table.Table) error) error { return withReader(c.ctx, c.args[0], fn) }

// progress shows how far a slow command is.
func (c *call) progress(what string, total int64, unit screen.Unit) *screen.Progress {
	return screen.NewProgress(c.Err, c.IsTerminal(c.Err), c.show, what, total, unit)
}
