package table

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Options say how to open a table. The zero value, and nil, open or create one
// with defaults.
type Options struct {
	// Stripes of a table that is created: how many writers can work at the same
	// time; rounded up to a power of two, at most 4096. 0: 64. A table that
	// exists keeps its own.
	Stripes int
	// SegmentSize of a table that is created, in bytes: a power of two from 512 to
	// 16384. 0: 16384. A commit writes a copy of each segment that was changed since
	// the last one: 4096 makes Always and short Intervals cheaper, for tables of up
	// to some 500,000 entries a stripe; in larger ones the directories, which
	// are copied with them, grow to more than what is saved. A table that exists
	// keeps its own.
	SegmentSize int
	// Inline makes a table that is created one of fixed-size entries: every key and
	// every value has eight bytes, and they lie in the bucket lines, without a record
	// and its checksum. Index is the face for it; the methods of Table take keys and
	// values of eight bytes, and give ErrEntrySize for others. It has at least 16
	// stripes. A table that exists keeps its own form.
	Inline bool
	// LogSize of a table that is created, in bytes: a power of two, at least 4096, to
	// which its log may grow. 0: 16 MiB, or a sixteenth of MaxSize; negative: no log. With Always on a page cache a
	// call waits until it is in the log, which is much less to write than a commit, and
	// a commit follows when the log is half full: a larger log makes commits rarer, and
	// an open after a power loss longer, some microseconds an entry. Its room is a hole
	// in the file until it is used. A table that exists keeps its own.
	LogSize int
	// MaxSize bounds the file, in bytes. It costs address space only, and may
	// differ from one open to the next. 0: 64 GiB. Each stripe that has an entry
	// takes at least a segment, so a bound of a few MiB wants few stripes.
	MaxSize int64
	// Durability says when a write counts as done. The zero value is Always.
	Durability Durability
	// Media forces a medium, for tests and benchmarks; the file remembers that.
	// The zero value detects it.
	Media pmem.Media
	// ReadOnly opens an existing table without writing a byte to it.
	ReadOnly bool
	// TrustMedia leaves out the check of a record's checksum when it is read.
	TrustMedia bool
	// MustExist refuses to create a file (fs.ErrNotExist), MustCreate refuses one
	// that exists (fs.ErrExist).
	MustExist, MustCreate bool
	// FileMode of a file that is created. 0: 0600.
	FileMode os.FileMode
	// Logger receives what an operator may want to know: which root an open chose
	// and why, how long marking took, damage, failed syncs, slow operations. Nil:
	// nothing is logged.
	Logger *slog.Logger
	// SlowOperation has Logger receive a warning for every call that changes the
	// table, and every checkpoint, that takes at least as long: with what it waited
	// for, and without keys and values; at most ten a second. Each call then
	// looks at the clock a few times. 0: none.
	SlowOperation time.Duration

	markBeside bool // mark beside the callers, however small the file: for tests
}

// poolOptions are the options of the pool below.
func (o Options) poolOptions() (pmem.Options, error) {
	stripes := 1
	for stripes < o.Stripes {
		stripes *= 2
	}
	if o.Stripes == 0 {
		stripes = 0
	}
	if o.Stripes < 0 || stripes > layout.MaxStripes {
		return pmem.Options{}, fmt.Errorf("stripes: %d are not between 1 and %d", o.Stripes, layout.MaxStripes)
	}
	if o.Inline && stripes > 0 {
		stripes = max(stripes, layout.MinInlineStripes)
	}
	return pmem.Options{
		Geometry:     pmem.Geometry{Stripes: stripes, SegmentBytes: o.SegmentSize, LogBytes: o.LogSize, Inline: o.Inline},
		MaxSizeBytes: o.MaxSize,
		Media:        o.Media,
		ReadOnly:     o.ReadOnly,
		MustExist:    o.MustExist,
		MustCreate:   o.MustCreate,
		FileMode:     o.FileMode,
		Logger:       o.Logger,
	}, nil
}

// Durability says when a write counts as done. See docs/durability.md for what
// each keeps on each medium. On persistent memory all are Always; on tmpfs no
// machine failure is survived by any.
type Durability struct {
	kind     durabilityKind
	interval time.Duration
}

type durabilityKind uint8

const (
	always durabilityKind = iota
	interval
	onSync
)

var (
	// Always: a call is durable against power loss when it returns. Concurrent
	// writers share commits.
	Always = Durability{kind: always}
	// OnSync: kill -9 loses nothing; power loss falls back to the last Sync or Close.
	OnSync = Durability{kind: onSync}
)

// Interval: kill -9 loses nothing; power loss loses at most the last d of writes: the
// table begins to commit when the oldest is d/2 old, and where the medium takes longer
// than that, changes wait rather than leave more than d behind them to be lost. d is at
// least a millisecond.
func Interval(d time.Duration) Durability {
	return Durability{kind: interval, interval: max(d, time.Millisecond)}
}

// String returns "always", "interval=D" or "onsync".
func (d Durability) String() string {
	switch d.kind {
	case interval:
		return "interval=" + d.interval.String()
	case onSync:
		return "onsync"
	}
	return "always"
}

// ParseDurability is the inverse of String.
func ParseDurability(s string) (Durability, error) {
	switch name, rest, value := strings.Cut(strings.ToLower(s), "="); {
	case name == "always" && !value:
		return Always, nil
	case name == "onsync" && !value:
		return OnSync, nil
	case name == "interval":
		d, err := time.ParseDuration(rest)
		if err == nil && d > 0 {
			return Interval(d), nil
		}
	}
	return Always, fmt.Errorf("durability %q is none of always, interval=100ms, onsync", s)
}
