package pmem

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"strings"

	"pmemtable/internal/layout"
)

// Media is the kind of memory that a pool lies on, which decides how its stores
// become durable.
type Media uint8

const (
	// Auto: find out at open. The zero value.
	Auto Media = iota
	// DAX: persistent memory mapped directly. Forced on a file that is not, the
	// pool flushes and fences as if it were; that serves tests and benchmarks.
	DAX
	// PageCache: an ordinary file. Power loss falls back to the last checkpoint.
	PageCache
	// Tmpfs: shared memory. It survives processes, not the machine.
	Tmpfs
)

// String returns "auto", "dax", "page cache" or "tmpfs".
func (m Media) String() string {
	switch m {
	case Auto:
		return "auto"
	case DAX:
		return "dax"
	case PageCache:
		return "page cache"
	case Tmpfs:
		return "tmpfs"
	}
	return fmt.Sprintf("Media(%d)", uint8(m))
}

// MarshalText implements encoding.TextMarshaler, by String.
func (m Media) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler, by ParseMedia.
func (m *Media) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMedia(string(text))
	return err
}

// ParseMedia is the inverse of String; "pagecache" is understood too.
func ParseMedia(s string) (Media, error) {
	for m := Auto; m <= Tmpfs; m++ {
		if strings.EqualFold(s, m.String()) || strings.EqualFold(s, strings.ReplaceAll(m.String(), " ", "")) {
			return m, nil
		}
	}
	return Auto, fmt.Errorf("medium %q is none of auto, dax, pagecache, tmpfs", s)
}

// Geometry holds the sizes fixed at creation; see DefaultGeometry.
type Geometry = layout.Geometry

// DefaultGeometry is what a pool is created with unless Options say otherwise.
func DefaultGeometry() Geometry { return layout.DefaultGeometry() }

// Session is the record of who had a pool open last.
type Session = layout.Session

// Superblock is a committed root.
type Superblock = layout.Superblock

// Options say how to open a pool. The zero value opens or creates one with
// defaults.
type Options struct {
	// Geometry of a pool that is created; ignored for one that exists. Fields
	// that are zero take the default; negative LogBytes are none.
	Geometry Geometry
	// MaxSizeBytes bounds the file and sets the size of the mapping, which is
	// address space only. 0: 64 GiB, or less where the process may not map as
	// much; 1 GiB on Windows and with the build tag smallmap. It may differ from
	// one open to the next.
	MaxSizeBytes int64
	// Media forces a medium. Auto: detect.
	Media Media
	// ReadOnly opens an existing pool without writing a byte to it.
	ReadOnly bool
	// MustExist refuses to create, MustCreate refuses an existing file.
	MustExist, MustCreate bool
	// FileMode of a file that is created. 0: 0600.
	FileMode os.FileMode
	// Hook, when set, performs every store: for crash tests.
	Hook Hook
	// System replaces system calls that a test wants to fail. Nil: the real ones.
	System System
	// Logger receives what an operator may want to know. Nil: nothing is logged.
	Logger *slog.Logger

	shrinkMap bool // MaxSizeBytes is the default: take less where it cannot be mapped
}

// fill is the one place that fills defaults.
func (o Options) fill() (Options, error) {
	d := DefaultGeometry()
	g := &o.Geometry
	if g.Stripes == 0 {
		g.Stripes = d.Stripes
	}
	if g.ChunkBytes == 0 {
		g.ChunkBytes = d.ChunkBytes
	}
	if g.SegmentBytes == 0 {
		g.SegmentBytes = d.SegmentBytes
	}
	if g.IntentBytes == 0 {
		g.IntentBytes = d.IntentBytes
	}
	if o.MaxSizeBytes == 0 {
		o.MaxSizeBytes, o.shrinkMap = defaultMaxSizeBytes, true
	}
	switch {
	case g.LogBytes == 0:
		g.LogBytes = defaultLogBytes(o.MaxSizeBytes)
	case g.LogBytes < 0:
		g.LogBytes = 0
	}
	if err := g.Validate(); err != nil {
		return o, err
	}
	if o.MaxSizeBytes < 0 || o.MaxSizeBytes > layout.MaxFileBytes {
		return o, fmt.Errorf("maximum size: %d bytes are not between 0 and %d", o.MaxSizeBytes, int64(layout.MaxFileBytes))
	}
	if o.Media > Tmpfs {
		return o, fmt.Errorf("medium: %v is none", o.Media)
	}
	if o.FileMode == 0 {
		o.FileMode = 0o600
	}
	if o.System == nil {
		o.System = realSystem{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// logShare of the largest size that a file may have is what its log gets at most.
const logShare = 16

// defaultLogBytes is the room for the log of a pool that may grow to maxBytes.
func defaultLogBytes(maxBytes int64) int {
	most := min(int64(DefaultGeometry().LogBytes), maxBytes/logShare)
	if most < layout.MinLogBytes {
		return 0
	}
	return 1 << (bits.Len64(uint64(most)) - 1)
}
