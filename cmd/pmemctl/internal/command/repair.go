package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/recovery"
	"pmemtable/table"
)

// repairDocument is what repair --json prints.
type repairDocument struct {
	SchemaVersion int               `json:"schema_version"`
	File          string            `json:"file"`
	NewFile       string            `json:"new_file"`
	Complete      bool              `json:"complete"`
	Root          string            `json:"root"`
	Entries       int64             `json:"entries"`
	Reached       int64             `json:"reached"`
	Scanned       int64             `json:"scanned"`
	Older         int64             `json:"older"`
	Ambiguous     int64             `json:"ambiguous"`
	Stale         int64             `json:"stale"`
	LogFrames     int64             `json:"log_frames"`
	LogChanges    int64             `json:"log_changes"`
	Logged        int64             `json:"logged"`
	LogRemoved    int64             `json:"log_removed"`
	Metadata      bool              `json:"metadata"`
	Problems      []problemDocument `json:"problems"`
	Dropped       int64             `json:"problems_not_listed"`
}

func repairVerb() verb {
	var reachable, everything bool
	return verb{
		usage: "repair FILE NEWFILE",
		short: "Salvage what is intact of a damaged file into a new one",
		long: `Salvage every intact entry of a damaged file into a new file, and say what was
damaged and where. FILE is not changed. NEWFILE must not exist, and appears only
when all of it is there.

Where damage cut entries off, their records are looked for in the whole file; of
several of one key the newest counts, and there an entry that was deleted or
overwritten may come back. Where all is intact nothing does. What the log of a file
that was not closed holds goes over what was found. If anything was damaged, the exit
code is 3 although NEWFILE is there. Of a repair that is interrupted nothing stays.`,
		example: `  pmemctl repair debs.pmt salvaged.pmt
  pmemctl repair --reachable debs.pmt salvaged.pmt   nothing deleted comes back`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.BoolVar(&reachable, "reachable", false, "keep only what the root reaches")
			flags.BoolVar(&everything, "everything", false, "look for records everywhere, even if no damage shows")
		},
		run: func(c *call) error {
			var o table.RepairOptions
			switch {
			case reachable && everything:
				return usagef("--reachable and --everything exclude each other")
			case reachable:
				o.Reach = recovery.ReachableOnly
			case everything:
				o.Reach = recovery.Everything
			}
			report, err := c.repair(o)
			if err != nil {
				return err
			}
			err = c.answer(newRepairDocument(c.args, report), func(out *output) { printRepair(out, c.args, report) })
			if n := len(report.Problems) + report.Dropped; n > 0 && err == nil {
				return &codedError{ExitCorrupt, fmt.Errorf("%s found; what is intact is in the new file", plural(n, "problem"))}
			}
			return err
		},
	}
}

func (c *call) repair(o table.RepairOptions) (report table.RepairReport, err error) {
	progress := c.progress("salvaging", -1, screen.Items)
	o.Progress = func(records int) { progress.Add(int64(records)) }
	err = progress.Follow(func() (err error) {
		report, err = table.RepairContext(c.ctx, c.args[0], c.args[1], o)
		return err
	})
	if errors.Is(err, context.Canceled) {
		err = context.Canceled // and not in which step of the work
	}
	return report, err
}

func newRepairDocument(files []string, r table.RepairReport) repairDocument {
	d := repairDocument{
		SchemaVersion: schemaVersion, File: files[0], NewFile: files[1], Complete: r.Complete, Root: r.Root,
		Entries: int64(r.Entries), Reached: int64(r.Reached), Scanned: int64(r.Scanned), Older: int64(r.Older),
		Ambiguous: int64(r.Ambiguous), Stale: int64(r.Stale), LogFrames: int64(r.LogFrames), LogChanges: int64(r.LogChanges),
		Logged: int64(r.Logged), LogRemoved: int64(r.LogRemoved), Metadata: r.Metadata,
		Problems: []problemDocument{}, Dropped: int64(r.Dropped),
	}
	for _, p := range r.Problems {
		d.Problems = append(d.Problems, problemDocument{p.Where, p.Offset, p.What})
	}
	return d
}

func printRepair(out *output, files []string, r table.RepairReport) {
	out.line("repaired", "%s into %s", files[0], files[1])
	out.line("root", "%s", r.Root)
	out.line("entries", "%s; keys %s, values %s", countText(r.Entries), bytesText(r.KeyBytes), bytesText(r.ValueBytes))
	out.line("found", "%s by the root, %s without it", countText(r.Reached), countText(r.Scanned))
	if r.LogFrames > 0 {
		out.line("log", "%s in %s; %s put what was not found or newer, %s left out that they delete", plural(r.LogChanges, "change"),
			plural(r.LogFrames, "frame"), countText(r.Logged), countText(r.LogRemoved))
	}
	if r.Older > 0 {
		out.line("left", "%s of keys that have a newer record, %s of which might be the newer one",
			plural(r.Older, "record"), countText(r.Ambiguous))
	}
	for _, p := range r.Problems {
		out.line("PROBLEM", "%s", p)
	}
	if r.Complete {
		out.line("result", "nothing was damaged")
		return
	}
	out.line("result", "%s, the first %s listed", plural(len(r.Problems)+r.Dropped, "problem"), countText(len(r.Problems)))
}
