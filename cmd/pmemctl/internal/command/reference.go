package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/inspect"
)

// Reference is docs/pmemctl.md: all that the commands' help says. A test compares
// the two, and writes the file anew with -update.
func (a *App) Reference() string {
	var text strings.Builder
	root := a.newRoot()
	fmt.Fprintf(&text, `# pmemctl

This page is made from the program's own help, by

    go test ./cmd/pmemctl/internal/command -run Reference -update

%s

%s
`, root.Long, fenced("", root.Example))
	fmt.Fprintf(&text, "\n%s\n\n", strings.TrimSpace(exitCodes))
	text.WriteString(referenceJSON)
	text.WriteString("`pmemctl completion bash|zsh|fish|powershell` prints a script that completes commands,\nflags and their values.\n\n")
	text.WriteString("| command | |\n|---|---|\n")
	for _, cmd := range visible(root) {
		fmt.Fprintf(&text, "| [%s](#%s) | %s |\n", cmd.Name(), cmd.Name(), cmd.Short)
	}
	for _, cmd := range visible(root) {
		fmt.Fprintf(&text, "\n## %s\n\n%s\n\n%s\n\n%s\n", cmd.Name(), fenced("", cmd.UseLine()), fenced("text", cmd.Long), fenced("", cmd.Example))
		if flags := flagTable(cmd); flags != "" {
			fmt.Fprintf(&text, "\n%s", flags)
		}
	}
	return text.String()
}

const referenceJSON = `Every answer of --json is a document with a schema_version; new fields do not change
it. An error is a document, too, in one line on stderr, so that standard output holds
answers only; the exit code is the same as without --json:

    {"schema_version":1,"error":{"exit_code":1,"kind":"condition","command":"get","file":"debs.pmt","message":"key \"x\": not found"}}

kind is condition, usage, corruption, locked, io, version, repairable or interrupted, for
the exit codes 1 to 7 and 130. A command that says with its exit code what its
answer says already, such as diff, adds no error.

`

// visible are the commands that the help lists, but for cobra's own.
func visible(root *cobra.Command) (commands []*cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" && cmd.Name() != "completion" {
			commands = append(commands, cmd)
		}
	}
	return commands
}

func fenced(language, text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		if language == "" { // examples and usage lines are indented in the help
			line = strings.TrimPrefix(line, "  ")
		}
		lines[i] = line
	}
	return "```" + language + "\n" + strings.Join(lines, "\n") + "\n```"
}

func flagTable(cmd *cobra.Command) string {
	var text strings.Builder
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind := f.Value.Type(); kind != "bool" {
			name += " " + kind
		}
		usage := f.Usage
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" && f.DefValue != "0s" {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(&text, "| `%s` | %s |\n", escapedBars(name), escapedBars(usage))
	})
	if text.Len() == 0 {
		return ""
	}
	return "| flag | |\n|---|---|\n" + text.String()
}

// escapedBars keeps a table's columns.
func escapedBars(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// completeValues teaches shell completion the flags whose values have names, and the
// kinds of dump.
func completeValues(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if values := strings.Split(f.Value.Type(), "|"); len(values) > 1 {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
			}
		})
	}
}

// completeKinds completes dump's second argument.
func completeKinds(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveDefault // a file
	}
	var kinds []string
	if len(args) == 1 {
		for _, k := range inspect.Kinds {
			kinds = append(kinds, k.Name+"\taddress: "+k.Address)
		}
	}
	return kinds, cobra.ShellCompDirectiveNoFileComp
}
