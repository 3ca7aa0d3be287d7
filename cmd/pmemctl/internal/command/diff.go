package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// The kinds of differences.
const (
	onlyInA = "-"
	onlyInB = "+"
	changed = "~"
)

// diffDocument is what diff --json prints.
type diffDocument struct {
	SchemaVersion   int                  `json:"schema_version"`
	A               string               `json:"a"`
	B               string               `json:"b"`
	Equal           bool                 `json:"equal"`
	Same            int64                `json:"same"`
	OnlyInA         int64                `json:"only_in_a"`
	OnlyInB         int64                `json:"only_in_b"`
	Changed         int64                `json:"changed"`
	MetadataChanged bool                 `json:"metadata_changed"`
	BesideWriter    bool                 `json:"beside_writer"`
	Differences     []differenceDocument `json:"differences"`
	NotListed       int64                `json:"differences_not_listed"`
}

type differenceDocument struct {
	Kind string `json:"kind"` // - only in A, + only in B, ~ with another value
	keyDocument
}

// maxJSONDifferences bounds the list that --json holds in memory.
const maxJSONDifferences = 1_000_000

func diffVerb() verb {
	var limit int64
	return verb{
		usage: "diff A B",
		short: "Compare the entries of two tables",
		long: `Compare the entries of two tables, whatever their stripes, hash seeds and sizes,
and their metadata records. Each key that is only in A is shown behind -, one
that is only in B behind +, and one with another value behind ~; a line that sums
up comes last. The exit code is 1 if there is a difference.

Memory does not grow with the tables. If a process writes one of them meanwhile,
the result is of no single instant.`,
		example: `  pmemctl diff debs.pmt restored.pmt
  pmemctl diff --limit 0 --key-format hex a.pmt b.pmt
  pmemctl diff --json a.pmt b.pmt | jq .changed`,
		keys:  true,
		slow:  true,
		flags: func(flags *pflag.FlagSet) { flags.Int64Var(&limit, "limit", 100, "list so many differences (0: all)") },
		run: func(c *call) error {
			if limit < 0 {
				return usagef("--limit: %d is negative", limit)
			}
			return c.reading(func(ta *table.Table) error {
				return withReader(c.ctx, c.args[1], func(tb *table.Table) error { return c.diff(limit, ta, tb) })
			})
		},
	}
}

func (c *call) diff(limit int64, ta, tb *table.Table) error {
	d := differ{json: c.json, keyFormat: c.keyFormat, limit: limit, out: c.stdout(false)}
	d.SchemaVersion, d.A, d.B, d.Differences = schemaVersion, c.args[0], c.args[1], []differenceDocument{}
	progress := c.progress("comparing", entriesKnown(ta, tb), screen.Items)
	err := progress.Follow(func() error { return d.compare(c.ctx, ta, tb, progress) })
	if err != nil {
		return errors.Join(err, d.out.Flush())
	}
	d.BesideWriter = ta.BesideWriter() || tb.BesideWriter()
	d.Equal = d.OnlyInA+d.OnlyInB+d.Changed == 0 && !d.MetadataChanged
	if c.json {
		err = d.out.document(d.diffDocument)
	} else {
		err = d.summary()
	}
	if err == nil && !d.Equal {
		return &codedError{code: ExitCondition}
	}
	return err
}

// entriesKnown is the number of entries to look at, -1 where a table does not know.
func entriesKnown(tables ...*table.Table) (n int64) {
	for _, t := range tables {
		s := t.Stats()
		if !s.EntriesKnown {
			return -1
		}
		n += s.Entries
	}
	return n
}

// differ compares by looking each entry of one table up in the other: tables of
// different seeds have no order in common, and a sort would take memory.
type differ struct {
	diffDocument
	json      bool
	keyFormat records.Encoding
	limit     int64
	out       *output
	listed    int64
}

func (d *differ) compare(ctx context.Context, ta, tb *table.Table, progress *screen.Progress) error {
	var buffer []byte
	err := entries(ctx, ta, func(key, value []byte) (err error) {
		progress.Add(1)
		buffer, err = tb.AppendGet(buffer[:0], key)
		switch {
		case errors.Is(err, table.ErrNotFound):
			d.OnlyInA++
			return d.list(onlyInA, key)
		case err != nil:
			return fmt.Errorf("%s: %w", d.B, err)
		case !bytes.Equal(value, buffer):
			d.Changed++
			return d.list(changed, key)
		}
		d.Same++
		return nil
	})
	if err != nil {
		return err
	}
	err = entries(ctx, tb, func(key, _ []byte) error {
		progress.Add(1)
		there, err := ta.Has(key)
		if err == nil && !there {
			d.OnlyInB++
			err = d.list(onlyInB, key)
		}
		return err
	})
	if err != nil {
		return err
	}
	metaA, err := ta.Metadata()
	if err != nil {
		return err
	}
	metaB, err := tb.Metadata()
	d.MetadataChanged = !bytes.Equal(metaA, metaB)
	return err
}

// list shows a difference, or keeps it for the document.
func (d *differ) list(kind string, key []byte) error {
	if d.listed++; d.limit > 0 && d.listed > d.limit {
		d.NotListed++
		return nil
	}
	if d.json {
		if d.listed > maxJSONDifferences {
			d.NotListed++
			return nil
		}
		d.Differences = append(d.Differences, differenceDocument{kind, newKeyDocument(key, d.keyFormat)})
		return nil
	}
	_, _ = d.out.WriteString(kind + " ")
	d.out.show(d.keyFormat.Append(nil, key))
	return d.out.WriteByte('\n')
}

func (d *differ) summary() error {
	if d.NotListed > 0 {
		fmt.Fprintf(d.out, "(%s more)\n", countText(d.NotListed))
	}
	if d.MetadataChanged {
		fmt.Fprintln(d.out, "the metadata records differ")
	}
	if d.BesideWriter {
		fmt.Fprintln(d.out, "a process was writing meanwhile: this is of no single instant")
	}
	fmt.Fprintf(d.out, "%s the same, %s with another value, %s only in ", plural64(d.Same, "entry"), countText(d.Changed), countText(d.OnlyInA))
	d.out.show([]byte(d.A))
	fmt.Fprintf(d.out, ", %s only in ", countText(d.OnlyInB))
	d.out.show([]byte(d.B))
	_ = d.out.WriteByte('\n')
	return d.out.Flush()
}
