package command

import (
	"errors"
	"fmt"

	"pmemtable/cmd/pmemctl/internal/inspect"
	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/internal/layout"
)

// explainDocument is what explain --json prints.
type explainDocument struct {
	SchemaVersion int    `json:"schema_version"`
	File          string `json:"file"`
	keyDocument
	*inspect.Lookup
}

func explainVerb() verb {
	return verb{
		usage: "explain FILE KEY",
		short: "Show the way of one lookup through the file",
		long: `Show step by step how a lookup finds a key, or finds that it is not there: its
hash, the stripe, the directory word, the segment, the home line, each slot that
is compared, and the record with its checksum and the epoch of its birth. Each
object comes with its offset, for pmemctl dump. docs/format.md draws them. What a log
says of the key that the next open takes up comes last, and counts.

The exit code is 1 if the key is not there, and 3 if damage ends the lookup.`,
		example: `  pmemctl explain debs.pmt bash
  pmemctl explain --json --key-format hex cache.pmt 00ff`,
		keys: true,
		run: func(c *call) error {
			key, err := decode(c.keyFormat, "key", c.args[1])
			if err != nil {
				return err
			}
			if len(key) > layout.MaxKeyBytes {
				return usagef("a key of %d bytes; the longest has %d", len(key), layout.MaxKeyBytes)
			}
			return withInspected(c.args[0], func(f *inspect.File) error {
				l, err := f.Lookup(key)
				if err != nil {
					return err
				}
				return c.printLookup(key, l)
			})
		},
	}
}

func withInspected(path string, fn func(f *inspect.File) error) error {
	f, err := inspect.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(fn(f), f.Close())
}

func (c *call) printLookup(key []byte, l *inspect.Lookup) error {
	d := explainDocument{schemaVersion, c.args[0], newKeyDocument(key, c.keyFormat), l}
	err := c.answer(d, func(out *output) { printWay(out, previewAs(c.keyFormat, key), l) })
	switch {
	case err != nil:
		return err
	case l.Damage != "":
		return &codedError{ExitCorrupt, errors.New(l.Damage)}
	case !l.Found:
		return &codedError{code: ExitCondition}
	}
	return nil
}

func printWay(out *output, key string, l *inspect.Lookup) {
	out.quotedLine("key", "%s", key)
	out.line("hash", "%v (xxh3 with the table's seed %v)", l.Hash, l.Seed)
	out.line("stripe", "%d of %d: the top %d bits; version %d", l.Stripe, l.Stripes, l.StripeBits, l.Version)
	out.line("root", "%s", l.Root)
	if l.RootWord == 0 {
		out.line("stripe root", "at %v: 0, the stripe is empty", l.RootAt)
	} else {
		out.line("stripe root", "at %v: %v", l.RootAt, l.RootWord)
	}
	if d := l.Directory; d != nil {
		out.line("directory", "at %v: depth %d, born in epoch %d", d.At, d.Depth, d.Birth)
		out.line("word", "%d at %v (the next %s): segment at %v, local depth %d, tag shift %d", d.Index, d.WordAt,
			plural(int(d.Depth), "bit"), d.Segment, d.Local, d.TagShift)
	}
	lines, compared := 0, 0
	for _, s := range l.Segments {
		printSegment(out, l, s)
		for _, line := range s.Lines {
			lines++
			for _, slot := range line.Slots {
				if slot.Record != nil {
					compared++
				}
			}
		}
	}
	for _, c := range l.Log {
		out.line("log", "frame at %v (position %d), behind the root: %s", c.FrameAt, c.Position, c.Kind)
		if c.Kind == "put" {
			out.quotedLine("  value", "%s", preview(c.Value))
		}
	}
	switch {
	case l.Damage != "":
		out.line("result", "DAMAGED: %s", l.Damage)
	case len(l.Log) > 0:
		out.line("result", "%s by the log, which the next open takes up", yes(l.Found, "put", "removed"))
	case l.Found:
		out.line("result", "found, after %s and %s", plural(lines, "line"), plural(compared, "record"))
	case l.RootWord == 0:
		out.line("result", "not there")
	default:
		out.line("result", "not there, after %s and %s", plural(lines, "line"), plural(compared, "record"))
	}
}

func printSegment(out *output, l *inspect.Lookup, s *inspect.Segment) {
	if s.Overflow {
		out.line("overflow", "segment at %v, born in epoch %d: any line may hold the key", s.At, s.Birth)
	} else {
		out.line("segment", "at %v: prefix %v, born in epoch %d; %d slots of a window may fill before it splits", s.At, s.Prefix, s.Birth, s.Reach)
		out.line("home line", "%d of %d; the tag is %v", l.Home, l.Homes, l.Tag)
	}
	for _, line := range s.Lines {
		overflow := "no overflow: a lookup ends here"
		if line.Overflow {
			overflow = "overflow: a lookup goes on"
		}
		out.line(fmt.Sprintf("line %d", line.Line), "at %v; %s", line.At, overflow)
		for _, slot := range line.Slots {
			printSlot(out, &slot)
		}
	}
	if s.Next != 0 {
		out.line("next", "overflow segment at %v", s.Next)
	}
}

func printSlot(out *output, s *inspect.Slot) {
	label := fmt.Sprintf("  slot %d", s.Slot)
	if s.Verdict == inspect.Empty {
		out.line(label, "empty")
		return
	}
	pending := ""
	if s.InFlight {
		pending = ", not yet durable"
	}
	out.line(label, "%#016x: %s (%v)%s", uint64(s.Word), s.Verdict, s.Tag, pending)
	if r := s.Record; r != nil {
		if r.Key == nil {
			out.line("  record", "at %v: does not fit into the file", r.At)
			return
		}
		intact := "right"
		if !r.Intact {
			intact = fmt.Sprintf("WRONG, computed %v", r.Computed)
		}
		out.line("  record", "at %v: header of %d, key of %d, value of %d bytes; born in epoch %d; checksum %v %s",
			r.At, r.HeaderBytes, r.KeyBytes, r.ValueBytes, r.Birth, r.Checksum, intact)
		out.quotedLine("    key", "%s", preview(r.Key))
		out.quotedLine("    value", "%s", preview(r.Value))
	}
}

// previewBytes of a key or a value are shown where it is not what was asked for.
const previewBytes = 48

func preview(b []byte) string {
	if len(b) <= previewBytes {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%q… (%s bytes)", b[:previewBytes], countText(len(b)))
}

// previewAs shows a key as the user wrote it.
func previewAs(e records.Encoding, key []byte) string {
	if e == records.UTF8 {
		return preview(key)
	}
	return fmt.Sprintf("%s, which is %s", preview(e.Append(nil, key)), preview(key))
}
