package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
)

// Lookup is the way of one lookup. What it did not come to is nil.
type Lookup struct {
	Hash       Hex    `json:"hash"`
	Seed       Hex    `json:"seed"`
	Stripe     int    `json:"stripe"`
	Stripes    int    `json:"stripes"`
	StripeBits uint   `json:"stripe_bits"`
	Version    uint64 `json:"stripe_version"`

	Root      string     `json:"root"`         // which, and why
	RootAt    Hex        `json:"root_word_at"` // the stripe's word in it
	RootWord  Hex        `json:"root_word"`    // 0: the stripe is empty
	Directory *Directory `json:"directory,omitempty"`
	Tag       Hex        `json:"tag"`
	Home      int        `json:"home_line"`
	Homes     int        `json:"home_lines"` // lines that are the home of some key
	Segments  []*Segment `json:"segments"`
	Log       []Change   `json:"log,omitempty"` // what the log says of the key, which goes over the root
	Found     bool       `json:"found"`
	Damage    string     `json:"damage,omitempty"` // what ended the lookup
}

// Directory is the directory of a stripe, and the word of it that a hash selects.
type Directory struct {
	At       Hex    `json:"at"`
	Depth    uint   `json:"depth"`
	Birth    uint64 `json:"birth_epoch"`
	Index    uint64 `json:"index"`
	WordAt   Hex    `json:"word_at"`
	Word     Hex    `json:"word"`
	Segment  Hex    `json:"segment"`
	Local    uint   `json:"local_depth"`
	TagShift uint   `json:"tag_shift"`
}

// Segment is a segment that a lookup reads, and the lines of it that it does.
type Segment struct {
	At       Hex    `json:"at"`
	Overflow bool   `json:"overflow_segment"`
	Birth    uint64 `json:"birth_epoch"`
	Reach    int    `json:"reach"`
	Prefix   Hex    `json:"prefix"`
	Next     Hex    `json:"next"`
	Lines    []Line `json:"lines"`
}

// Line is a bucket line.
type Line struct {
	Line     int    `json:"line"`
	At       Hex    `json:"at"`
	Overflow bool   `json:"overflow"` // some key that probes it lives further on
	Slots    []Slot `json:"slots"`
}

// Slot is a slot of a line, and what a lookup makes of it.
type Slot struct {
	Slot         int     `json:"slot"`
	Word         Hex     `json:"word"`
	Tag          Hex     `json:"tag"`
	Displacement int     `json:"displacement"`
	InFlight     bool    `json:"in_flight"` // stored, perhaps not yet durable
	Verdict      string  `json:"verdict"`   // one of the constants below
	Record       *Record `json:"record,omitempty"`
}

// Change is a change of the log.
type Change struct {
	Position uint64 `json:"position"` // of its frame, in the log
	FrameAt  Hex    `json:"frame_at"`
	Kind     string `json:"kind"` // "put" or "delete"
	Value    []byte `json:"value_base64,omitempty"`
}

// What a lookup makes of a slot.
const (
	Empty     = "empty"
	OtherTag  = "another tag"
	OtherKey  = "the tag, but another key"
	TheKey    = "the key"
	BadRecord = "damaged"
)

// Record is the record of a slot.
type Record struct {
	At          Hex    `json:"at"`
	Birth       uint64 `json:"birth_epoch"`
	HeaderBytes int    `json:"header_bytes"`
	KeyBytes    int    `json:"key_bytes"`
	ValueBytes  int    `json:"value_bytes"`
	Checksum    Hex    `json:"checksum"`
	Computed    Hex    `json:"computed_checksum"`
	Intact      bool   `json:"intact"`
	Key         []byte `json:"key_base64"`
	Value       []byte `json:"value_base64"`
}

// maxTries bounds how often a lookup beside a writer begins anew.
const maxTries = 1000

var errBusy = errors.New("the table is changing too fast for a reader of another process")

// Lookup looks a key up, as the table would, and keeps what it sees on the way. An
// error is one of opening, or that a writer is too busy; damage is part of the
// answer.
func (f *File) Lookup(key []byte) (*Lookup, error) {
	for range maxTries {
		if f.view == nil {
			return nil, f.viewErr
		}
		l := f.newLookup(key)
		err := f.pool.Guard(func() error { return f.follow(l, key) })
		if !f.pool.BesideWriter() {
			l.note(errors.Join(err, f.pool.Guard(func() error { return f.followLog(l, key) })))
			return l, nil
		}
		// The writer may have changed what was being read.
		if f.version(l.Stripe) == l.Version {
			l.note(err)
			return l, nil
		}
		f.pool.Refresh()
		f.view, f.viewErr = recovery.OpenView(f.pool)
	}
	return nil, errBusy
}

func (l *Lookup) note(err error) {
	if err != nil {
		l.Damage = err.Error()
	}
}

func (f *File) newLookup(key []byte) *Lookup {
	g, hash := f.geometry, f.hash(key)
	l := &Lookup{
		Hash: Hex(hash), Seed: Hex(f.pool.Header().HashSeed), Stripes: g.Stripes, StripeBits: g.StripeBits(),
		Stripe: layout.StripeOf(hash, g.StripeBits()), Root: f.view.Decision.Why,
		Home: layout.HomeLine(hash, g.Lines()), Homes: g.Lines() - (layout.WindowLines - 1), Segments: []*Segment{},
	}
	l.Version = f.version(l.Stripe)
	return l
}

// follow goes the way of table.find. Its error says where damage ended it.
func (f *File) follow(l *Lookup, key []byte) error {
	p, hash, bits := f.pool, uint64(l.Hash), f.geometry.StripeBits()
	at := f.view.StripeRoots + uint64(l.Stripe)*layout.WordBytes
	root := f.load(at)
	l.RootAt, l.RootWord = Hex(at), Hex(root)
	if root == 0 {
		return nil
	}
	dir, depth, ok := layout.DecodeStripeRoot(root)
	if !ok || p.Bytes(dir, layout.DirectoryBytes(depth)) == nil {
		return p.Corrupt("stripe root", at, "%#x is no stripe root", root)
	}
	h, ok := layout.DecodeDirectory(p.Load(dir), p.Load(dir+layout.WordBytes), dir)
	d := &Directory{At: Hex(dir), Depth: depth, Birth: h.Birth, Index: layout.DirectoryIndex(hash, bits, depth)}
	l.Directory = d
	if !ok || h.Stripe != l.Stripe || h.Depth != depth {
		return p.Corrupt("directory", dir, "its header is damaged or another's")
	}
	wordAt := dir + layout.DirectoryHeaderBytes + d.Index*layout.WordBytes
	word := f.load(wordAt)
	segment, local, shift, ok := layout.DecodeDirectoryWord(word)
	d.WordAt, d.Word, d.Segment, d.Local, d.TagShift = Hex(wordAt), Hex(word), Hex(segment), local, shift
	if !ok || local > depth || segment == 0 {
		return p.Corrupt("directory word", wordAt, "%#x is no directory word", word)
	}
	l.Tag = Hex(layout.Tag(hash, bits, shift))
	want := layout.SegmentHeader{Stripe: l.Stripe, Depth: local, TagShift: shift, Prefix: d.Index >> (depth - local)}
	for range recovery.MaxChain {
		more, next, err := f.segment(l, segment, want, key)
		if err != nil || !more || next == 0 {
			return err
		}
		segment, want.Overflow = next, true
	}
	return p.Corrupt("segment", segment, "its chain of overflow segments does not end")
}

// followLog looks for the key in a log that nobody has taken up yet.
func (f *File) followLog(l *Lookup, key []byte) error {
	d := &f.view.Decision
	return recovery.ReadLog(f.pool, d.Log, d.LogEnd, func(position uint64, changes []recovery.LogChange) error {
		for i := range changes {
			c := &changes[i]
			if c.Kind == layout.LogMetadata || !bytes.Equal(c.Key, key) {
				continue
			}
			l.Found = c.Kind == layout.LogPut
			l.Log = append(l.Log, Change{position, Hex(f.geometry.Regions().Log + position%d.Log.RingBytes), changeKinds[c.Kind], c.Record.Value})
		}
		return nil
	})
}

var changeKinds = map[layout.LogKind]string{layout.LogPut: "put", layout.LogDelete: "delete", layout.LogMetadata: "metadata"}

// segment looks into one segment. more tells that the key may be in the next.
func (f *File) segment(l *Lookup, at uint64, want layout.SegmentHeader, key []byte) (more bool, next uint64, err error) {
	h, err := recovery.ReadSegment(f.pool, at, want)
	s := &Segment{At: Hex(at), Overflow: h.Overflow, Birth: h.Birth, Reach: h.Reach, Prefix: Hex(h.Prefix)}
	l.Segments = append(l.Segments, s)
	if err != nil {
		return false, 0, err
	}
	next, ok := layout.DecodeSegmentLink(f.load(at + layout.SegmentNext))
	if !ok {
		return false, 0, f.pool.Corrupt("segment", at, "its link to an overflow segment is damaged")
	}
	s.Next = Hex(next)
	first, end := l.Home, l.Home+layout.WindowLines
	if want.Overflow {
		first, end = 0, f.geometry.Lines()
	}
	for n := first; n < end; n++ {
		line := Line{Line: n, At: Hex(at + layout.LineBytes*uint64(n+1))}
		line.Overflow = f.load(uint64(line.At))&layout.SlotOverflow != 0
		for i := range layout.SlotsPerLine {
			slot := f.slot(l, uint64(line.At), i, key)
			line.Slots = append(line.Slots, slot)
			if l.Found = slot.Verdict == TheKey; l.Found || slot.Verdict == BadRecord {
				s.Lines = append(s.Lines, line)
				return false, 0, f.damageOf(&slot)
			}
		}
		s.Lines = append(s.Lines, line)
		if !line.Overflow {
			return false, 0, nil
		}
	}
	return true, next, nil
}

func (f *File) slot(l *Lookup, line uint64, i int, key []byte) Slot {
	word := f.load(line + uint64(i)*layout.WordBytes)
	s := Slot{Slot: i, Word: Hex(word), Tag: Hex(word & layout.SlotTagMask),
		InFlight:     slices.Contains(recovery.InFlight(f.pool, l.Stripe), line+uint64(i)*layout.WordBytes),
		Displacement: layout.SlotDisplacement(word)}
	switch {
	case word&layout.SlotLinkMask == 0:
		s.Verdict = Empty
		return s
	case s.Tag != l.Tag:
		s.Verdict = OtherTag
		return s
	}
	s.Record = f.record(layout.SlotRecord(word))
	switch {
	case s.Record.Key == nil:
		s.Verdict = BadRecord
	case !bytes.Equal(s.Record.Key, key):
		s.Verdict = OtherKey
	case s.Record.Intact:
		s.Verdict = TheKey
	default:
		s.Verdict = BadRecord
	}
	return s
}

// record copies the record at an offset. Its Key is nil if it does not fit the file.
func (f *File) record(at uint64) *Record {
	r := &Record{At: Hex(at)}
	head := f.pool.Speculative(at, layout.MaxRecordHeaderBytes)
	if head == nil || at < f.geometry.Regions().Arena {
		return r
	}
	shape := layout.DecodeRecord(head)
	r.Birth, r.HeaderBytes, r.KeyBytes, r.ValueBytes = shape.Birth, shape.HeaderSize, shape.KeySize, shape.ValueSize
	if shape.ValueSize > layout.MaxValueBytes {
		return r
	}
	b := bytes.Clone(f.pool.Speculative(at, shape.Size()))
	if b == nil {
		return r
	}
	r.Checksum, r.Computed = Hex(binary.LittleEndian.Uint32(b)), Hex(layout.RecordChecksum(b))
	r.Intact = r.Checksum == r.Computed
	end := shape.HeaderSize + shape.KeySize
	r.Key, r.Value = b[shape.HeaderSize:end:end], b[end:]
	return r
}

// damageOf says what is wrong with the record of a slot, if something is.
func (f *File) damageOf(s *Slot) error {
	switch r := s.Record; {
	case s.Verdict != BadRecord:
		return nil
	case r.Key == nil:
		return f.pool.Corrupt("record", uint64(r.At), "it does not fit into the file")
	default:
		return f.pool.Corrupt("record", uint64(r.At), "%s", fmt.Sprintf("its checksum is %v, computed %v", r.Checksum, r.Computed))
	}
}
