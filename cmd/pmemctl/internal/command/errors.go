package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"pmemtable/cmd/pmemctl/internal/inspect"
	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// The exit codes are an interface: scripts branch on them.
const (
	ExitOK          = 0
	ExitCondition   = 1 // key not found, or a condition not met
	ExitUsage       = 2 // the command line or the input is wrong
	ExitCorrupt     = 3 // the file is damaged, or not one of ours
	ExitLocked      = 4 // another process holds the file
	ExitIO          = 5 // the operating system refused, or there is no room
	ExitVersion     = 6 // the file is of a version that we do not know
	ExitRepairable  = 7 // the file is damaged, and every entry is intact
	ExitInterrupted = 130
)

// codedError is an error that knows its exit code. Without an err there is
// nothing to print: the command has said it all.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &codedError{ExitUsage, fmt.Errorf(format, args...)}
}

func conditionf(format string, args ...any) error {
	return &codedError{ExitCondition, fmt.Errorf(format, args...)}
}

func flagError(cmd *cobra.Command, err error) error {
	hint := "see " + cmd.CommandPath() + " --help"
	if strings.HasPrefix(err.Error(), "unknown shorthand") {
		hint = "a key or value that begins with a dash goes after --"
	}
	return usagef("%w; %s", err, hint)
}

// exitCode sorts errors by what the caller can do about them. The table's own
// errors come first: a full table met at line 17 is a full table.
func exitCode(err error) int {
	var coded *codedError
	var line *records.LineError
	switch {
	case err == nil, isBrokenPipe(err):
		return ExitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	case errors.Is(err, table.ErrNotFound):
		return ExitCondition
	case errors.Is(err, table.ErrLocked):
		return ExitLocked
	case errors.Is(err, table.ErrVersion):
		return ExitVersion
	case errors.Is(err, table.ErrCorrupt), errors.Is(err, table.ErrNotPool),
		errors.Is(err, table.ErrBadBackup):
		return ExitCorrupt
	case errors.Is(err, table.ErrFull), errors.Is(err, table.ErrPoisoned):
		return ExitIO
	case errors.Is(err, table.ErrTooLarge), errors.Is(err, table.ErrEntrySize), errors.Is(err, inspect.ErrInline), errors.Is(err, fs.ErrExist),
		errors.Is(err, records.ErrCannotSay), errors.Is(err, records.ErrColumnsOnly), errors.As(err, &line):
		return ExitUsage
	}
	return ExitIO
}

// isBrokenPipe: the reader of our output has what it wanted, as head(1) has.
func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || isSystemBrokenPipe(err)
}

// jsonFlag is the flag that every command has.
const jsonFlag = "json"

// errorDocument is what --json makes of an error, in one line on stderr: standard
// output holds answers only, and some commands give one and fail (check).
type errorDocument struct {
	SchemaVersion int         `json:"schema_version"`
	Error         errorReport `json:"error"`
}

type errorReport struct {
	ExitCode int    `json:"exit_code"`
	Kind     string `json:"kind"`
	Command  string `json:"command,omitempty"`
	File     string `json:"file,omitempty"` // the first argument
	Message  string `json:"message"`
}

var kinds = map[int]string{
	ExitCondition: "condition", ExitUsage: "usage", ExitCorrupt: "corruption", ExitLocked: "locked", ExitIO: "io",
	ExitVersion: "version", ExitRepairable: "repairable", ExitInterrupted: "interrupted",
}

// report prints an error as `pmemctl: VERB FILE: reason`, or as a document, and
// returns the exit code. args are the whole command line.
func (a *App) report(cmd *cobra.Command, args []string, err error) int {
	code := exitCode(err)
	var coded *codedError
	if code == ExitOK || errors.As(err, &coded) && coded.err == nil {
		return code
	}
	r := errorReport{ExitCode: code, Kind: kinds[code]}
	if cmd.HasParent() {
		r.Command, r.File = cmd.Name(), cmd.Flags().Arg(0)
	}
	r.Message = reason(err, r.File)
	terminal := a.IsTerminal(a.Err)
	if asksJSON(cmd, args) {
		out := output{bufio.NewWriter(a.Err), terminal}
		out.encode(errorDocument{schemaVersion, r}, "", "\n")
		_ = out.Flush()
		return code
	}
	text := "pmemctl: "
	if r.Command != "" {
		text += r.Command
		if r.File != "" && (coded == nil || coded.code != ExitUsage) {
			text += " " + r.File
		}
		text += ": "
	}
	text += r.Message
	if terminal {
		text = screen.EscapeError(text)
	}
	fmt.Fprintln(a.Err, text)
	return code
}

// asksJSON looks at the words themselves where the error is that they could not be
// understood.
func asksJSON(cmd *cobra.Command, args []string) bool {
	if flag := cmd.Flags().Lookup(jsonFlag); flag != nil && flag.Changed {
		return flag.Value.String() == "true"
	}
	for _, word := range args {
		if word == "--" {
			break
		}
		if word == "--"+jsonFlag {
			return true
		}
	}
	return false
}

// reason is an error's text without what the line says already.
func reason(err error, file string) string {
	if errors.Is(err, context.Canceled) && err.Error() == context.Canceled.Error() {
		return "interrupted"
	}
	text := err.Error()
	for _, known := range []string{"pmemtable: ", "table: ", file + ": "} {
		text = strings.TrimPrefix(text, known)
	}
	var path *fs.PathError
	if errors.As(err, &path) && path.Path == file && strings.HasSuffix(text, path.Error()) {
		text = strings.TrimSuffix(text, path.Error()) + path.Err.Error()
	}
	return text
}
