package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/records"
	"pmemtable/table"
)

type scanOptions struct {
	rows
	valueFormat records.Encoding
	prefix      string
	limit       uint64
	cursor      string
	keysOnly    bool
}

func scanVerb() verb {
	var o scanOptions
	return verb{
		usage: "scan FILE",
		short: "List entries, all or page by page",
		long: `List entries as lines of key, tab and value, in the table's own order, which is
that of the keys' hashes. --prefix therefore looks at every key.

With --limit the last line, on stderr, is "next cursor: C": --cursor C goes on
from there, and a cursor of 0 says that there was nothing more. Entries that are
there all the time come exactly once, even if others come and go between pages.

On a terminal control bytes are escaped unless --raw is given. In a pipe the
bytes come as they are; where keys or values may hold tabs or newlines use
--key-format and --value-format, or one of the forms of pmemctl export by --format.`,
		example: `  pmemctl scan --prefix lib --keys-only debs.pmt
  pmemctl scan --format csv --csv-safe --prefix lib debs.pmt > libraries.csv
  pmemctl scan --limit 10 debs.pmt
  pmemctl scan --limit 10 --cursor 9007199254740993 debs.pmt
  pmemctl scan --key-format hex --value-format base64 cache.pmt`,
		keys: true,
		flags: func(flags *pflag.FlagSet) {
			valueFormatFlag(flags, &o.valueFormat)
			flags.StringVar(&o.prefix, "prefix", "", "only keys that begin with this (in --key-format)")
			flags.Uint64Var(&o.limit, "limit", 0, "stop after so many entries (0: no limit)")
			flags.StringVar(&o.cursor, "cursor", "0", "go on where an earlier scan with --limit stopped")
			flags.BoolVar(&o.keysOnly, "keys-only", false, "print keys without values")
			rowFormatFlag(flags, &o.format, "text", "form of the output")
			o.register(flags)
		},
		run: func(c *call) error { return c.scan(o) },
	}
}

func (c *call) scan(o scanOptions) error {
	switch err := o.check(); {
	case err != nil:
		return err
	case o.format != records.Auto && (o.keysOnly || c.json):
		return usagef("--format %v is of whole entries, and not for --keys-only or --json", o.format)
	}
	prefix, err := decode(c.keyFormat, "prefix", o.prefix)
	if err != nil {
		return err
	}
	from, err := parsePosition(o.cursor)
	if err != nil {
		return err
	}
	return c.reading(func(t *table.Table) error {
		s := scanner{o: o, prefix: prefix}
		end := c.lister(&s)
		next, err := s.run(c.ctx, t, from)
		err = errors.Join(err, end(next, err == nil))
		if err == nil && o.limit > 0 && !c.json {
			fmt.Fprintf(c.Err, "next cursor: %s\n", next)
		}
		return err
	})
}

// lister sets how s prints; end must be called last.
func (c *call) lister(s *scanner) (end func(next position, complete bool) error) {
	o := s.o
	if o.format != records.Auto {
		w := c.writer(o.rows, c.keyFormat, o.valueFormat)
		s.print = w.Write
		return func(_ position, complete bool) error {
			if !complete {
				return nil // the end that some formats have is not to be there
			}
			return w.Flush()
		}
	}
	out := c.stdout(o.unescaped)
	if c.json {
		list := scanList{out: out}
		list.begin(c.args[0])
		s.print = func(key, value []byte) error { return list.add(newScanEntry(key, value, c.keyFormat, o)) }
		return list.end
	}
	s.print = func(key, value []byte) error { return printEntry(out, key, value, c.keyFormat, o) }
	return func(position, bool) error { return out.Flush() }
}

func printEntry(out *output, key, value []byte, keyFormat records.Encoding, o scanOptions) error {
	out.show(keyFormat.Append(nil, key))
	if !o.keysOnly {
		_ = out.WriteByte('\t')
		out.show(o.valueFormat.Append(nil, value))
	}
	return out.WriteByte('\n')
}

// position is a place in a scan. The table's cursors lie between the batches
// that its Scan hands out; a page may end inside one. Such a position is the
// cursor of the batch and a digest of the last key that was printed, rather
// than a count of entries, which would drift when an entry comes or goes.
type position struct {
	cursor uint64
	after  string // digest of a key; empty at the begin of a batch
}

func (p position) String() string {
	if p.after == "" {
		return strconv.FormatUint(p.cursor, 10)
	}
	return strconv.FormatUint(p.cursor, 10) + ":" + p.after
}

const digestLength = 16

func parsePosition(text string) (p position, err error) {
	number, after, found := strings.Cut(text, ":")
	p.cursor, err = strconv.ParseUint(number, 10, 64)
	if err != nil || found && len(after) != digestLength {
		return p, usagef("--cursor: %q is not what a scan printed as its next cursor", text)
	}
	p.after = after
	return p, nil
}

func digest(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:digestLength/2])
}

type scanner struct {
	o       scanOptions
	prefix  []byte
	print   func(key, value []byte) error
	printed uint64
	last    string // digest of the key printed last
}

// run prints from a position on and returns where it stopped; the zero
// position is the end.
func (s *scanner) run(ctx context.Context, t *table.Table, from position) (position, error) {
	for {
		if err := ctx.Err(); err != nil {
			return from, err
		}
		next, err := s.batch(t, from)
		switch {
		case errors.Is(err, errStop):
			return position{from.cursor, s.last}, nil
		case err != nil:
			return from, err
		case next == 0 || s.full():
			return position{cursor: next}, nil
		}
		from = position{cursor: next}
	}
}

func (s *scanner) full() bool { return s.o.limit > 0 && s.printed >= s.o.limit }

// batch prints one batch, or the part of it that is after from. If the key
// that the position names has gone meanwhile, the batch comes whole: an entry
// twice is better than an entry never.
func (s *scanner) batch(t *table.Table, from position) (next uint64, err error) {
	skipping := from.after != ""
	next, err = t.Scan(from.cursor, func(key, value []byte) error {
		if skipping {
			skipping = digest(key) != from.after
			return nil
		}
		return s.entry(key, value)
	})
	if err == nil && skipping {
		return t.Scan(from.cursor, s.entry)
	}
	return next, err
}

// entry returns errStop at the first entry beyond the limit, so that a page
// which ends with the table is known to be the last one.
func (s *scanner) entry(key, value []byte) error {
	if !bytes.HasPrefix(key, s.prefix) {
		return nil
	}
	if s.full() {
		return errStop
	}
	s.printed++
	if s.full() {
		s.last = digest(key)
	}
	return s.print(key, value)
}
