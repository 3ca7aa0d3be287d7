package command

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/spf13/cobra"

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

// bigKeyDocument names an entry; a key that is not UTF-8 comes as base64.
type bigKeyDocument struct {
	Key        *string `json:"key,omitempty"`
	KeyBase64  *string `json:"key_base64,omitempty"`
	KeyBytes   int64   `json:"key_bytes"`
	ValueBytes int64   `json:"value_bytes"`
}

type keysOptions struct {
	keyFormat         records.Encoding
	biggest           int
	histogram, asJSON bool
	show              screen.ProgressMode
}

// maxBiggest bounds what the keys that are kept may take of memory.
const maxBiggest = 1_000_000

func (a *App) newKeys() *cobra.Command {
	o := keysOptions{}
	cmd := &cobra.Command{
		Use:   "keys [flags] FILE",
		Short: "Show which entries are the biggest, and how sizes are spread",
		Long: `Show the entries of the biggest keys and values together, the biggest first, and
with --histogram how the sizes of keys and of values are spread. That reads every
entry. pmemctl scan --keys-only lists all keys.`,
		Example: `  pmemctl keys debs.pmt
  pmemctl keys --biggest 3 --histogram debs.pmt
  pmemctl keys --biggest 100 --json debs.pmt | jq -r '.biggest[].key'`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.biggest < 0 || o.biggest > maxBiggest {
				return usagef("--biggest: not between 0 and %d", maxBiggest)
			}
			return withReader(cmd.Context(), args[0], func(t *table.Table) error {
				return a.keys(cmd.Context(), o, args[0], t)
			})
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.biggest, "biggest", 10, "how many of the biggest entries")
	flags.BoolVar(&o.histogram, "histogram", false, "how the sizes of keys and values are spread")
	flags.BoolVar(&o.asJSON, "json", false, "print a JSON document")
	keyFormatFlag(flags, &o.keyFormat)
	progressFlag(flags, &o.show)
	return cmd
}

func (a *App) keys(ctx context.Context, o keysOptions, file string, t *table.Table) error {
	keys, values := newSizes(), newSizes()
	var kept biggest
	count := int64(0)
	progress := a.progress(o.show, "reading", entriesKnown(t), screen.Items)
	err := progress.Follow(func() error {
		return entries(ctx, t, func(key, value []byte) error {
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
	d := keysDocument{SchemaVersion: schemaVersion, File: file, Entries: count, Biggest: []bigKeyDocument{}}
	if o.histogram {
		k, v := keys.document(), values.document()
		d.KeySizes, d.ValueSizes = &k, &v
	}
	out := a.stdout(false)
	if o.asJSON {
		for _, b := range kept {
			d.Biggest = append(d.Biggest, b.document())
		}
		return out.document(d)
	}
	return printKeys(out, d, kept, o.keyFormat)
}

// bigKey is an entry's key, and how long its value is.
type bigKey struct {
	key        []byte
	valueBytes int64
}

func (b bigKey) sizeBytes() int64 { return int64(len(b.key)) + b.valueBytes }

func (b bigKey) document() bigKeyDocument {
	d := bigKeyDocument{KeyBytes: int64(len(b.key)), ValueBytes: b.valueBytes}
	if utf8.Valid(b.key) {
		text := string(b.key)
		d.Key = &text
		return d
	}
	text := base64.StdEncoding.EncodeToString(b.key)
	d.KeyBase64 = &text
	return d
}

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

func printKeys(out *output, d keysDocument, kept biggest, format records.Encoding) error {
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
	return out.Flush()
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
