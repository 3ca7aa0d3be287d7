package command

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/demo"
	"pmemtable/cmd/pmemctl/internal/powerloss"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/recovery/crashtest"
)

// crashtestDocument is what crashtest --json prints.
type crashtestDocument struct {
	SchemaVersion int                 `json:"schema_version"`
	Passed        bool                `json:"passed"`
	Failure       string              `json:"failure,omitempty"`
	Seed          uint64              `json:"seed"` // of the first program; the next has the next
	Programs      int                 `json:"programs"`
	PowerLoss     []powerLossDocument `json:"power_loss"`
	Kills         int                 `json:"kills"` // that the table survived
}

// powerLossDocument is what was tried on a kind of medium.
type powerLossDocument struct {
	Medium string `json:"medium"`
	Points int    `json:"points"` // moments at which the power went
	Images int    `json:"images"` // of what that may leave behind
}

type crashtestOptions struct {
	dir             string
	programs, kills int
	seed            uint64
}

func crashtestVerb() verb {
	var o crashtestOptions
	return verb{
		usage: "crashtest [DIR]",
		short: "Crash a scratch table by power loss, simulated, and by kill -9",
		long: `Crash tables on purpose, and look whether all that was acknowledged is there.

First random programs run on a small table in memory, and each is crashed at every
moment that matters: of what was not yet durable any part may be missing, as after
a power loss on a disk, on persistent memory of an amd64 and of an arm64 machine.
Then a process that writes a table in DIR (default: the system's temporary
directory) is killed with SIGKILL, as pmemctl demo does.

The exit code is 3 if something was lost; then --seed repeats the program. Nothing
is left behind.`,
		example: `  pmemctl crashtest
  pmemctl crashtest --programs 100 --kills 10 /mnt/pmem
  pmemctl crashtest --json | jq .passed`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.IntVar(&o.programs, "programs", 10, "random programs that lose power, on each kind of medium")
			flags.IntVar(&o.kills, "kills", 3, "how often the writing process is killed")
			flags.Uint64Var(&o.seed, "seed", 0, "of the first program (default: drawn)")
		},
		run: func(c *call) error {
			if len(c.args) == 1 {
				o.dir = c.args[0]
			}
			switch {
			case o.programs < 0 || o.programs > 1_000_000:
				return usagef("--programs: not between 0 and 1000000")
			case o.kills < 0 || o.kills > 100:
				return usagef("--kills: not between 0 and 100")
			case !c.given("seed"):
				o.seed = rand.Uint64() >> 12 // exact in every reader of JSON
			}
			return c.crashtest(o)
		},
	}
}

func (c *call) crashtest(o crashtestOptions) error {
	out := c.stdout(false)
	d := crashtestDocument{SchemaVersion: schemaVersion, Seed: o.seed, Programs: o.programs, PowerLoss: []powerLossDocument{}}
	err := c.losePower(out, &d, o)
	if err == nil && o.kills > 0 {
		err = c.kill(o)
	}
	if err == nil {
		d.Passed, d.Kills = true, o.kills
	} else if errors.Is(err, context.Canceled) {
		return errors.Join(err, out.Flush())
	} else {
		d.Failure = err.Error()
	}
	if c.json {
		if outErr := out.document(d); outErr != nil {
			return outErr
		}
	}
	var lost *crashtest.Violation
	switch {
	case errors.As(err, &lost), errors.Is(err, demo.ErrFailed) && c.json:
		return &codedError{ExitCorrupt, err}
	case errors.Is(err, demo.ErrFailed):
		return &codedError{code: ExitCorrupt} // the verdict has said why
	case err != nil && len(d.PowerLoss) == len(powerloss.Media) && !c.json:
		return &codedError{code: exitCode(err)}
	}
	return err
}

// losePower runs the programs, and prints a line for each kind of medium.
func (c *call) losePower(out *output, d *crashtestDocument, o crashtestOptions) error {
	if !c.json {
		out.line("power loss", "%s of seed %d on, on each medium", plural(o.programs, "program"), o.seed)
	}
	for _, m := range powerloss.Media {
		var figures crashtest.Figures
		progress := c.progress(m.Name, int64(o.programs), screen.Items)
		err := progress.Follow(func() error {
			for i := range o.programs {
				one, err := powerloss.Run(c.ctx, m, o.seed+uint64(i))
				if err != nil {
					return fmt.Errorf("%s, --seed %d: %w", m.Name, o.seed+uint64(i), err)
				}
				figures.Add(one)
				progress.Add(1)
			}
			return nil
		})
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		d.PowerLoss = append(d.PowerLoss, powerLossDocument{m.Name, figures.Points, figures.Images})
		if !c.json {
			out.line("", "%s: %s at %s, nothing lost", m.Name, plural(figures.Images, "crash image"), plural(figures.Points, "moment"))
		}
	}
	if c.json {
		return nil
	}
	_ = out.WriteByte('\n')
	return out.Flush()
}

// kill runs the demo's rounds, whose last line is the verdict.
func (c *call) kill(o crashtestOptions) error {
	_, err := c.runDemo(demo.Options{Dir: o.dir, Kills: o.kills})
	return err
}
