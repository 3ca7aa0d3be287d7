// Command pmemctl creates, fills, reads and checks the files of pmemtable.
//
// Its commands are in internal/command, one file for each; this file only
// starts them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"pmemtable/cmd/pmemctl/internal/command"
)

func main() { os.Exit(run(command.NewApp())) }

func run(app *command.App) int {
	// A reader that goes away is told by the failed write, so that a command
	// can finish what it owes the table before it ends.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	return app.Run(ctx, os.Args[1:])
}
