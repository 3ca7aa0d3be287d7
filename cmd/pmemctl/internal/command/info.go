package command

import (
	"strings"
	"time"

	"pmemtable/table"
)

// infoDocument is what info --json prints.
type infoDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	UUID          string `json:"uuid"`
	FormatVersion int    `json:"format_version"`
	Medium        string `json:"medium"`
	Forced        bool   `json:"medium_forced"`
	// Survives says for each durability what an acknowledged write survives on this
	// medium, whatever the durability of those who write.
	Survives         []survivesDocument `json:"survives"`
	FlushMethod      string             `json:"flush_method"`
	Entries          *int64             `json:"entries"` // null while they are being counted
	Stripes          int                `json:"stripes"`
	ChunkSizeBytes   int64              `json:"chunk_size_bytes"`
	SegmentSizeBytes int64              `json:"segment_size_bytes"`
	FileSizeBytes    int64              `json:"file_size_bytes"`
	Epoch            uint64             `json:"epoch"`
	CommittedEpoch   uint64             `json:"committed_epoch"`
	CommitSequence   uint64             `json:"commit_sequence"`
	Generation       uint64             `json:"generation"`
	LogSizeBytes     int64              `json:"log_size_bytes"` // of its ring, 0 while there is none
	LogUsedBytes     int64              `json:"log_used_bytes"`
	PendingLog       *pendingDocument   `json:"pending_log"` // null: there is none
	OpenedFrom       string             `json:"opened_from"`
	OpenNanoseconds  int64              `json:"open_ns"`
	Damage           string             `json:"damage,omitempty"`
	Inline           bool               `json:"inline,omitempty"`
}

type survivesDocument struct {
	Durability string `json:"durability"`
	Survives   string `json:"survives"`
}

// infoSchemaVersion: in version 1 survives was of one durability, that of the open.
const infoSchemaVersion = 2

// durabilities are those that a writer can choose from; the interval is an example.
var durabilities = []table.Durability{table.Always, table.Interval(time.Second), table.OnSync}

func infoVerb() verb {
	return verb{
		usage: "info FILE",
		short: "Show what a file is and which failures it survives",
		long: `Show a table's identity, geometry and size, the medium that it lies on, which
failures an acknowledged write survives there with each durability that a writer
can choose, and where the last session left it.`,
		example: `  pmemctl info debs.pmt
  pmemctl info --json debs.pmt`,
		run: func(c *call) error {
			return c.reading(func(t *table.Table) error {
				s := t.Stats()
				return c.answer(newInfoDocument(c.args[0], s), func(out *output) { printInfo(out, c.args[0], s) })
			})
		},
	}
}

func newInfoDocument(file string, s table.Stats) infoDocument {
	d := infoDocument{
		SchemaVersion: infoSchemaVersion, File: file, UUID: s.UUID, FormatVersion: s.FormatVersion,
		Medium: s.Medium.String(), Forced: s.Forced, FlushMethod: s.FlushMethod,
		Stripes: s.Stripes, ChunkSizeBytes: s.ChunkSizeBytes, SegmentSizeBytes: s.SegmentSizeBytes,
		FileSizeBytes: s.FileSizeBytes,
		Epoch:         s.Epoch, CommittedEpoch: s.CommittedEpoch, CommitSequence: s.CommitSequence, Generation: s.Generation,
		LogSizeBytes: s.LogSizeBytes, LogUsedBytes: s.LogUsedBytes, PendingLog: newPendingDocument(s.LogPending),
		OpenedFrom: s.OpenedFrom, OpenNanoseconds: s.OpenDuration.Nanoseconds(), Damage: s.Damage, Inline: s.Inline,
	}
	for _, durability := range durabilities {
		d.Survives = append(d.Survives, survivesDocument{durability.String(), s.SurvivesWith(durability)})
	}
	if s.EntriesKnown {
		d.Entries = &s.Entries
	}
	return d
}

func printInfo(out *output, file string, s table.Stats) {
	out.line("file", "%s", file)
	out.line("uuid", "%s", s.UUID)
	out.line("format", "version %d", s.FormatVersion)
	if s.EntriesKnown {
		out.line("entries", "%s", countText(s.Entries))
	} else {
		out.line("entries", "not counted at the last closing, if there was one (pmemctl count does it)")
	}
	if s.Inline {
		out.line("form", "inline: keys and values of eight bytes, in the bucket lines")
	}
	out.line("size", "%s", bytesText(s.FileSizeBytes))
	out.line("geometry", "%s, chunks of %s, segments of %s", plural(s.Stripes, "stripe"), bytesText(s.ChunkSizeBytes), bytesText(s.SegmentSizeBytes))
	medium := s.Medium.String()
	if s.Forced {
		medium += " (forced, not detected)"
	}
	if s.FlushMethod != "none" {
		medium += ", written back by " + s.FlushMethod
	}
	out.line("medium", "%s", medium)
	out.line("survives", "what a write survives once it is acknowledged depends on how its writer opens the table:")
	for _, durability := range durabilities {
		name, _, _ := strings.Cut(durability.String(), "=")
		out.line("  "+name, "%s", s.SurvivesWith(durability))
	}
	out.line("session", "generation %d; opened from %s in %s", s.Generation, s.OpenedFrom, s.OpenDuration.Round(time.Microsecond))
	out.line("epochs", "working %d, committed %d (commit %d)", s.Epoch, s.CommittedEpoch, s.CommitSequence)
	if s.LogSizeBytes > 0 && s.LogPending.Generation == 0 {
		out.line("log", "ring of %s, %s in use", bytesText(s.LogSizeBytes), bytesText(s.LogUsedBytes))
	}
	printPending(out, s.LogPending)
	if s.Damage != "" {
		out.line("damage", "%s", s.Damage)
	}
}
