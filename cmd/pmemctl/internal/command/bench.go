package command

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/cmd/pmemctl/internal/taste"
)

// benchDocument is what bench --json prints.
type benchDocument struct {
	SchemaVersion int            `json:"schema_version"`
	Entries       int            `json:"entries"`
	ValueBytes    int            `json:"value_bytes"`
	Figures       []taste.Figure `json:"figures"`
}

// Bounds of what bench takes of memory and disk.
const (
	minBenchEntries = 1000
	maxBenchEntries = 100_000_000
	maxBenchValue   = 64 << 10
)

func benchVerb() verb {
	o := taste.Options{Entries: 1_000_000, ValueBytes: 100, For: 3 * time.Second}
	return verb{
		usage: "bench [DIR]",
		short: "Measure a table on this machine, for half a minute",
		long: `Measure a scratch table in DIR (default: the system's temporary directory): puts,
gets, gets of absent keys, a mix, and puts that are durable when they return, one
at a time and sharing commits. Keys have 16 bytes.

Beside them stands the floor: two dependent reads of memory of that size, without
which no lookup finds a value, and a write and sync of a plain file, without which
no put is durable on a disk. What is measured is this machine, now, with all that runs on it;
bench/ in the source measures thoroughly, and beside other stores.`,
		example: `  pmemctl bench
  pmemctl bench --entries 100000 --for 500ms /mnt/pmem
  pmemctl bench --json | jq '.figures[] | {name, mean_ns}'`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.IntVar(&o.Entries, "entries", o.Entries, "entries of the table")
			flags.IntVar(&o.ValueBytes, "value-size", o.ValueBytes, "bytes of each value")
			flags.IntVar(&o.Goroutines, "goroutines", 0, "goroutines that work at once (0: as many as processors)")
			flags.DurationVar(&o.For, "for", o.For, "how long each figure is measured")
		},
		run: func(c *call) error { return c.bench(o) },
	}
}

func printBench(out *output, o taste.Options, figures []taste.Figure) {
	out.line("table", "%s of 16 + %s bytes", plural(o.Entries, "entry"), countText(o.ValueBytes))
	fmt.Fprintf(out, "\n%-32s %4s %12s %9s %9s %9s %9s\n", "", "by", "per second", "mean", "half", "99 %", "x floor")
	for _, f := range figures {
		half, most, floor := "", "", ""
		if f.P50Ns > 0 {
			half, most = nanoseconds(float64(f.P50Ns)), nanoseconds(float64(f.P99Ns))
		}
		if f.TimesFloor > 0 {
			floor = fmt.Sprintf("%.2f", f.TimesFloor)
		}
		row := fmt.Sprintf("%-32s %4d %12s %9s %9s %9s %9s", f.Name, f.Goroutines, number(f.PerSecond), nanoseconds(f.MeanNs), half, most, floor)
		fmt.Fprintln(out, strings.TrimRight(row, " "))
	}
}

// nanoseconds shows three digits.
func nanoseconds(ns float64) string {
	switch {
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	case ns < 1e9:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	}
	return fmt.Sprintf("%.3g s", ns/1e9)
}

func (c *call) bench(o taste.Options) error {
	if len(c.args) == 1 {
		o.Dir = c.args[0]
	}
	if o.Goroutines == 0 {
		o.Goroutines = runtime.GOMAXPROCS(0)
	}
	switch {
	case o.Entries < minBenchEntries || o.Entries > maxBenchEntries:
		return usagef("--entries: not between %d and %d", minBenchEntries, maxBenchEntries)
	case o.ValueBytes < 0 || o.ValueBytes > maxBenchValue:
		return usagef("--value-size: not between 0 and %d", maxBenchValue)
	case o.For < time.Millisecond || o.For > time.Hour:
		return usagef("--for: not between 1ms and 1h")
	case o.Goroutines < 1 || o.Goroutines > 1024:
		return usagef("--goroutines: not between 1 and 1024")
	}
	progress := c.progress("measuring", taste.Figures, screen.Items)
	begun := int64(0)
	o.Began = func(name string) {
		progress.Step(name)
		progress.Set(begun)
		begun++
	}
	var figures []taste.Figure
	err := progress.Follow(func() (err error) {
		figures, err = taste.Run(c.ctx, o)
		if err == nil {
			progress.Set(taste.Figures)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.answer(benchDocument{schemaVersion, o.Entries, o.ValueBytes, figures}, func(out *output) { printBench(out, o, figures) })
}
