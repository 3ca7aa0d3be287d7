package recovery

import (
	"context"
	"errors"
	"fmt"

	"pmemtable/pmem"
)

// Level says how deep a check looks. Each level includes those before it; the
// zero value is LevelFull.
type Level uint8

// The levels.
const (
	// LevelHeader reads beside the fixed parts, which opening has checked, the stripe
	// roots and the header of every directory: its time does not grow with the table.
	LevelHeader Level = iota + 1
	// LevelStructure reads all directories, segments and slots, and of the records
	// their headers: that every block is whole and referred to once, and the counts.
	LevelStructure
	// LevelChecksum reads every record, too, and verifies its checksum.
	LevelChecksum
	// LevelFull hashes every key, too: that a lookup finds it, and that none is
	// there twice.
	LevelFull
)

var levelNames = [...]string{"full", "header", "structure", "checksum", "full"}

// String returns "header", "structure", "checksum" or "full".
func (l Level) String() string { return levelNames[min(l, LevelFull)] }

// ParseLevel is the inverse of String.
func ParseLevel(text string) (Level, error) {
	for l := LevelHeader; l <= LevelFull; l++ {
		if l.String() == text {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown level %q: header, structure, checksum or full", text)
}

// CheckOptions say how a check goes. The zero value is a full check of all that
// the roots say.
type CheckOptions struct {
	Level Level
	// Workers are the goroutines that check stripes. 0: half as many as processors, so
	// that the table can serve meanwhile. What is reported does not depend on it.
	Workers int
	// Counts are the entries per stripe that there should be, nil if not known.
	Counts []uint64
	// Hash of the keys. nil: KeyHash.
	Hash Hash
	// Overlay holds the words of a batch that a crash cut off, for a read-only open.
	Overlay *map[uint64]uint64
	// Progress, if set, is told how many entries were looked at since it was told
	// before. Several goroutines call it.
	Progress func(entries int)
}

// CheckWith is Check as the options say. The error is ctx's: then the report is of
// a part.
func CheckWith(ctx context.Context, p *pmem.Pool, roots Roots, o CheckOptions) (Report, error) {
	c := checked(ctx, p, roots, o)
	if c.level > LevelHeader {
		c.compareCounts(o.Counts)
	}
	return c.Report, ctx.Err()
}

// errShallow ends the walk of a stripe at its directory's header.
var errShallow = errors.New("deep enough")
