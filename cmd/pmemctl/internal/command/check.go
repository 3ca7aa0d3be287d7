package command

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/recovery"
	"pmemtable/table"
)

// checkDocument is what check --json prints.
type checkDocument struct {
	SchemaVersion  int               `json:"schema_version"`
	File           string            `json:"file"`
	Level          string            `json:"level"`
	Clean          bool              `json:"clean"`
	Repairable     bool              `json:"repairable"` // not clean, and every entry is intact
	Entries        int64             `json:"entries"`
	KeyBytes       int64             `json:"key_bytes"`
	ValueBytes     int64             `json:"value_bytes"`
	Segments       int64             `json:"segments"`
	Directories    int64             `json:"directories"`
	Chains         int64             `json:"chains"`
	Chunks         int64             `json:"chunks"`
	FreeChunks     int64             `json:"free_chunks"`
	ReachableBytes int64             `json:"reachable_bytes"`
	FreeBytes      int64             `json:"free_bytes"`
	Log            *pendingDocument  `json:"pending_log"` // null: there is none
	Problems       []problemDocument `json:"problems"`
	Dropped        int64             `json:"problems_not_listed"`
}

type problemDocument struct {
	Where  string `json:"where"`
	Offset uint64 `json:"offset"`
	What   string `json:"what"`
}

// maxCheckWorkers is as many as there can be stripes.
const maxCheckWorkers = maxStripes

func checkVerb() verb {
	o := table.CheckOptions{Level: recovery.LevelFull}
	return verb{
		usage: "check FILE",
		short: "Verify everything in a file",
		long: `Verify everything in a file and write nothing. Problems are listed with their place
in the file, and the exit code is 3, or 7 if every entry is intact and only the
counts of entries are wrong: then pmemctl repair loses nothing.

--level says how deep to look, each level being part of those behind it:

header     the fixed parts, and the head of each stripe's tree; in no time
structure  all directories, segments and slots: that they are whole, that no block
           is referred to twice, and that the counts are right
checksum   that the checksum of every record is right
full       that each record lies where a lookup of its key finds it, and that no
           key is there twice

At every level the frames of a log are verified that the next open takes up.

Stripes are checked in parallel; what is reported does not depend on --workers.
While a process writes the file the exit code is 4: only that process can check it
(Table.Check).`,
		example: `  pmemctl check debs.pmt
  pmemctl check --level structure debs.pmt
  pmemctl check --json debs.pmt | jq .problems`,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.Var(choice[recovery.Level]{&o.Level, recovery.ParseLevel, "header|structure|checksum|full"}, "level", "how deep to look")
			flags.IntVar(&o.Workers, "workers", 0, "goroutines that check (0: as many as processors)")
		},
		run: func(c *call) error {
			switch {
			case o.Workers < 0 || o.Workers > maxCheckWorkers:
				return usagef("--workers: not between 0 and %d", maxCheckWorkers)
			case o.Workers == 0:
				o.Workers = runtime.GOMAXPROCS(0)
			}
			return c.reading(func(t *table.Table) error { return c.check(t, o) })
		},
	}
}

func (c *call) check(t *table.Table, o table.CheckOptions) error {
	progress := c.progress("checking", entriesKnown(t), screen.Items)
	o.Progress = func(entries int) { progress.Add(int64(entries)) }
	var report table.Report
	err := progress.Follow(func() (err error) {
		report, err = t.CheckWith(c.ctx, o)
		return err
	})
	if err != nil && !errors.Is(err, table.ErrCorrupt) {
		return err
	}
	err = errors.Join(c.answer(newCheckDocument(c.args[0], o.Level, report, err == nil),
		func(out *output) { printReport(out, c.args[0], o.Level, report) }), err)
	if n := len(report.Problems) + report.Dropped; n > 0 {
		code := ExitCorrupt
		if repairable(report) {
			code = ExitRepairable
		}
		return &codedError{code, fmt.Errorf("%s found", plural(n, "problem"))}
	}
	return err
}

// repairable tells whether no problem touches an entry. Counts are compared only
// where all else is in order.
func repairable(r table.Report) bool {
	for _, p := range r.Problems {
		if p.Where != "superblock" {
			return false
		}
	}
	return len(r.Problems) > 0
}

func newCheckDocument(file string, level recovery.Level, r table.Report, clean bool) checkDocument {
	d := checkDocument{
		SchemaVersion: schemaVersion, File: file, Level: level.String(), Clean: clean, Repairable: repairable(r),
		Entries: int64(r.Entries), KeyBytes: int64(r.KeyBytes), ValueBytes: int64(r.ValueBytes),
		Segments: int64(r.Segments), Directories: int64(r.Directories), Chains: int64(r.Chains),
		Chunks: int64(r.Chunks), FreeChunks: int64(r.FreeChunks),
		ReachableBytes: int64(r.ReachableBytes), FreeBytes: int64(r.FreeBytes), Log: newPendingDocument(r.Log),
		Problems: []problemDocument{}, Dropped: int64(r.Dropped),
	}
	for _, p := range r.Problems {
		d.Problems = append(d.Problems, problemDocument{p.Where, p.Offset, p.What})
	}
	return d
}

// verified says what a level looks at of each entry.
var verified = map[recovery.Level]string{
	recovery.LevelStructure: "the block of each",
	recovery.LevelChecksum:  "the checksum of each",
	recovery.LevelFull:      "checksum and place of each",
}

func printReport(out *output, file string, level recovery.Level, r table.Report) {
	out.line("checked", "%s", file)
	printPending(out, r.Log)
	if level == recovery.LevelHeader {
		out.line("structure", "the heads of %s", plural(r.Directories, "directory"))
		printProblems(out, r)
		return
	}
	out.line("entries", "%s, %s verified; keys %s, values %s",
		countText(r.Entries), verified[level], bytesText(r.KeyBytes), bytesText(r.ValueBytes))
	out.line("structure", "%s, %s, %d of them overflow", plural(r.Directories, "directory"), plural(r.Segments, "segment"), r.Chains)
	out.line("space", "%s, %s of them free; %s reached, %s free",
		plural(r.Chunks, "chunk"), countText(r.FreeChunks), bytesText(r.ReachableBytes), bytesText(r.FreeBytes))
	printProblems(out, r)
}

func printProblems(out *output, r table.Report) {
	for _, p := range r.Problems {
		out.line("PROBLEM", "%s", p)
	}
	switch n := len(r.Problems) + r.Dropped; {
	case n == 0:
		out.line("result", "clean")
	case r.Dropped > 0:
		out.line("result", "%s, the first %s listed", plural(n, "problem"), countText(len(r.Problems)))
	default:
		out.line("result", "%s", plural(n, "problem"))
	}
}

func plural(n int, what string) string {
	switch {
	case n == 1:
	case what[len(what)-1] == 'y':
		what = what[:len(what)-1] + "ies"
	default:
		what += "s"
	}
	return countText(n) + " " + what
}
