// Package inspect reads the parts of a pmemtable file and says what they mean: the
// way of one lookup, and single objects byte by byte. It is for people who want to
// understand the format, or a damaged file; nothing else needs it.
//
// It reads through the pool, so every offset is checked before it is followed, and
// trusts nothing: what is wrong with an object is part of what is said about it.
package inspect

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
)

// File is a file under inspection.
type File struct {
	pool     *pmem.Pool
	view     *recovery.View // nil if no root can be chosen
	viewErr  error
	geometry layout.Geometry
	hash     recovery.Hash
}

// ErrInline: the entries of a table lie in its bucket lines, of which nothing here
// knows what they mean.
var ErrInline = errors.New("the table's entries are inline, and only tables with records can be inspected " +
	"(info, stats, check, get, scan, export and repair know both)")

// Open opens a file read-only. One whose fixed parts are damaged is opened as far
// as that can be done, while no process has it open for writing. ErrInline for a table
// of inline entries.
func Open(path string) (*File, error) {
	f, err := openAny(path)
	if err == nil && f.geometry.Inline {
		return nil, errors.Join(&os.PathError{Op: "inspect", Path: path, Err: ErrInline}, f.Close())
	}
	return f, err
}

func openAny(path string) (*File, error) {
	p, err := pmem.Open(path, pmem.Options{ReadOnly: true})
	if errors.Is(err, pmem.ErrCorrupt) {
		var openErr error
		if p, _, openErr = pmem.OpenDamaged(path, pmem.Options{}); openErr != nil {
			return nil, err
		}
		return &File{pool: p, viewErr: err, geometry: p.Geometry(), hash: recovery.KeyHash(p)}, nil
	}
	if err != nil {
		return nil, err
	}
	f := &File{pool: p, geometry: p.Geometry(), hash: recovery.KeyHash(p)}
	f.viewErr = p.Guard(func() error {
		return p.Settled(func() (err error) {
			f.view, err = recovery.OpenView(p)
			return err
		})
	})
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.pool.Close() }

// Hex is a word or an offset; as text it is hexadecimal.
type Hex uint64

func (h Hex) String() string { return fmt.Sprintf("%#x", uint64(h)) }

// MarshalText keeps JSON readers that know only floating point from rounding it.
func (h Hex) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is its inverse.
func (h *Hex) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 0, 64)
	*h = Hex(n)
	return err
}

// load reads a word as the table sees it: as a batch would have left it that a crash
// cut off.
func (f *File) load(at uint64) uint64 {
	if f.view != nil {
		if word, ok := f.view.Overlay[at]; ok {
			return word
		}
	}
	return f.pool.Load(at)
}

func (f *File) version(stripe int) uint64 {
	return f.pool.Load(f.geometry.Regions().Versions + uint64(stripe)*layout.LineBytes)
}
