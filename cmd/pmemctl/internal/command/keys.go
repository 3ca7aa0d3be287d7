package command

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"slices"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// keysDocument is what keys --json prints.
type keysDocument struct {
	SchemaVersion int                 `json:"schema_version"`
	File          string              `json:"file"`
	Entries       int64               `json:"entries"`
	Biggest       []bigKeyDocument    `json:"biggest"`
	KeySizes      *valueSizesDocument `json:"key_sizes,omitempty"` // with --histogram, as all that follow
	ValueSizes    *valueSizesDocument `json:"value_sizes,omitempty"`
}

// bigKeyDocument names an entry.
type bigKeyDocument struct {
	keyDocument
	KeyBytes   int64 `json:"key_bytes"`
	ValueBytes int64 `json:"value_bytes"`
}

type keysOptions struct {
	biggest   int
	histogram bool
}

// maxBiggest bounds what the keys that are kept may take of memory.
const maxBiggest = 1_000_000

func keysVerb() verb {
	var o keysOptions
	return verb{
		usage: "keys FILE",
		short: "Show which entries are the biggest, and how sizes are spread",
		long: `Show the entries of the biggest keys and values together, the biggest first, and
with --histogram how the sizes of keys and of values are spread. That reads every
entry. pmemctl scan --keys-only lists all keys.`,
		example: `  pmemctl keys debs.pmt
  pmemctl keys --biggest 3 --histogram debs.pmt
  pmemctl keys --biggest 100 --json debs.pmt | jq -r '.biggest[].key'`,
		keys: true,
		slow: true,
		flags: func(flags *pflag.FlagSet) {
			flags.IntVar(&o.biggest, "biggest", 10, "how many of the biggest entries")
			flags.BoolVar(&o.histogram, "histogram", false, "how the sizes of keys and values are spread")
		},
		run: func(c *call) error {
			if o.biggest < 0 || o.biggest > maxBiggest {
				return usagef("--biggest: not between 0 and %d", maxBiggest)
			}
			return c.reading(func(t *table.Table) error { return c.keys(o, t) })
		},
	}
}

func (c *call) keys(o keysOptions, t *table.Table) error {
	keys, values := newSizes(), newSizes()
	var kept biggest
	count := int64(0)
	progress := c.progress("reading", entriesKnown(t), screen.Items)
	err := progress.Follow(func() error {
		return entries(c.ctx, t, func(key, value []byte) error {
			progress.Add(1)
			count++
			keys.add(int64(len(key)))
			values.add(int64(len(value)))
			kept.offer(key, int64(len(value)), o.biggest)
			return nil
		})
	})
	if err != nil {
		return err
	}
	slices.SortFunc(kept, func(a, b bigKey) int { return -compareBig(a, b) })
	d := keysDocument{SchemaVersion: schemaVersion, File: c.args[0], Entries: count, Biggest: []bigKeyDocument{}}
	if o.histogram {
		k, v := keys.document(), values.document()
		d.KeySizes, d.ValueSizes = &k, &v
	}
	for _, b := range kept {
		d.Biggest = append(d.Biggest, bigKeyDocument{newKeyDocument(b.key, c.keyFormat), int64(len(b.key)), b.valueBytes})
	}
	return c.answer(d, func(out *output) { printKeys(out, d, kept, c.keyFormat) })
}

// bigKey is an entry's key, and how long its value is.
type bigKey struct {
	key        []byte
	valueBytes int64
}

func (b bigKey) sizeBytes() int64 { return int64(len(b.key)) + b.valueBytes }

// compareBig orders by size and then, so that the answer does not depend on the
// table's order, by key.
func compareBig(a, b bigKey) int {
	return cmp.Or(cmp.Compare(a.sizeBytes(), b.sizeBytes()), bytes.Compare(b.key, a.key))
}

// biggest is a heap with the smallest of those that are kept on top.
type biggest []bigKey

func (h biggest) Len() int           { return len(h) }
func (h biggest) Less(i, j int) bool { return compareBig(h[i], h[j]) < 0 }
func (h biggest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *biggest) Push(x any)        { *h = append(*h, x.(bigKey)) }
func (h *biggest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// offer keeps an entry if it is among the n biggest.
func (h *biggest) offer(key []byte, valueBytes int64, n int) {
	b := bigKey{key, valueBytes}
	switch {
	case len(*h) < n:
		b.key = bytes.Clone(key)
		heap.Push(h, b)
	case n > 0 && compareBig((*h)[0], b) < 0:
		b.key = bytes.Clone(key)
		(*h)[0] = b
		heap.Fix(h, 0)
	}
}

func printKeys(out *output, d keysDocument, kept biggest, format records.Encoding) {
	out.line("file", "%s", d.File)
	out.line("entries", "%s", countText(d.Entries))
	if len(kept) > 0 {
		fmt.Fprintf(out, "\n%12s %12s  %s\n", "value", "key", "biggest entries")
	}
	for _, b := range kept {
		fmt.Fprintf(out, "%12s %12s  ", countText(b.valueBytes)+" B", countText(len(b.key))+" B")
		out.show(format.Append(nil, b.key))
		_ = out.WriteByte('\n')
	}
	printSizes(out, "key sizes", d.KeySizes, d.Entries)
	printSizes(out, "value sizes", d.ValueSizes, d.Entries)
}

// printSizes prints a histogram of sizes, nothing for nil.
func printSizes(out *output, label string, v *valueSizesDocument, entries int64) {
	if v == nil {
		return
	}
	fmt.Fprintf(out, "\n%-11s  mean %s, half up to %s, 90 %% up to %s, 99 %% up to %s, largest %s\n", label,
		bytesText(int64(math.Round(v.MeanBytes))), bytesText(v.P50Bytes), bytesText(v.P90Bytes), bytesText(v.P99Bytes), bytesText(v.MaxBytes))
	for _, b := range v.Buckets {
		fmt.Fprintf(out, "%12s %12s  %7s  %s\n", "to "+bytesText(b.ToBytes), countText(b.Entries), percent(ratio(b.Entries, entries)), bar(b.Entries, entries))
	}
}
