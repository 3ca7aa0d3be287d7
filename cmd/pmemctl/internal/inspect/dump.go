package inspect

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// Object is a part of the file, byte by byte.
type Object struct {
	Kind      string   `json:"kind"`
	At        Hex      `json:"at"`
	SizeBytes int      `json:"size_bytes"`
	Intact    bool     `json:"intact"` // as far as the object alone tells
	Fields    []Field  `json:"fields"`
	Notes     []string `json:"notes,omitempty"` // what no bytes of it say
}

// Field is a run of bytes and what they mean.
type Field struct {
	At      Hex    `json:"at"`
	Bytes   []byte `json:"bytes_base64"`
	Name    string `json:"name"`
	Meaning string `json:"meaning"`
}

// Kinds are the kinds of objects, with what their address is.
var Kinds = []struct{ Name, Address string }{
	{"header", "none"},
	{"session", "0 or 1"},
	{"control", "none"},
	{"superblock", "0 or 1"},
	{"log", "none"},
	{"stripe", "its number"},
	{"segment", "its offset"},
	{"line", "its offset"},
	{"record", "its offset"},
	{"chunk", "its number"},
}

// ErrAddress: the file has no such object.
type ErrAddress struct{ Reason string }

func (e *ErrAddress) Error() string { return e.Reason }

func addressf(format string, args ...any) error { return &ErrAddress{fmt.Sprintf(format, args...)} }

// Dump describes an object. The address is a number as Kinds says, or an offset,
// decimal or with 0x.
func (f *File) Dump(kind, address string) (o *Object, err error) {
	n, err := strconv.ParseUint(address, 0, 64)
	if err != nil && address != "" {
		return nil, addressf("%q is no number", address)
	}
	err = f.pool.Guard(func() error {
		o, err = f.dump(kind, n)
		return err
	})
	return o, err
}

func (f *File) dump(kind string, n uint64) (*Object, error) {
	r := f.geometry.Regions()
	switch kind {
	case "header":
		return f.header()
	case "control":
		return f.control(r.Control)
	case "session", "superblock":
		if n > 1 {
			return nil, addressf("there are two, 0 and 1")
		}
		if kind == "session" {
			return f.session(r.Session[n])
		}
		return f.superblock(r.Superblock[n])
	case "log":
		return f.log()
	case "stripe":
		if n >= uint64(f.geometry.Stripes) {
			return nil, addressf("the stripes are 0 to %d", f.geometry.Stripes-1)
		}
		return f.stripe(int(n))
	case "segment":
		return f.segmentAt(n)
	case "line":
		return f.line(n)
	case "record":
		return f.recordAt(n)
	case "chunk":
		return f.chunk(n)
	}
	return nil, addressf("there is no object of kind %q", kind)
}

// object reads the bytes of an object.
func (f *File) object(kind string, at uint64, sizeBytes int) (*cursor, error) {
	b := f.pool.Speculative(at, sizeBytes)
	if b == nil {
		return nil, addressf("offset %#x and the %d bytes behind it are not in the file, which has %d", at, sizeBytes, f.pool.SizeBytes())
	}
	return &cursor{Object: &Object{Kind: kind, At: Hex(at), SizeBytes: sizeBytes, Fields: []Field{}}, b: append([]byte(nil), b...)}, nil
}

// cursor goes through the bytes of an object.
type cursor struct {
	*Object
	b    []byte
	next int
}

// take makes the next n bytes a field.
func (c *cursor) take(n int, name, format string, args ...any) {
	c.Fields = append(c.Fields, Field{c.At + Hex(c.next), c.b[c.next : c.next+n], name, fmt.Sprintf(format, args...)})
	c.next += n
}

func (c *cursor) word() uint64   { return binary.LittleEndian.Uint64(c.b[c.next:]) }
func (c *cursor) half() uint32   { return binary.LittleEndian.Uint32(c.b[c.next:]) }
func (c *cursor) skipTo(off int) { c.next = off }

// number makes the next word or half word a field that means its value.
func (c *cursor) number(n int, name string) uint64 {
	v := uint64(0)
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(c.b[c.next+i])
	}
	c.take(n, name, "%d", v)
	return v
}

func (c *cursor) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

func rightOrWrong(right bool) string {
	if right {
		return "right"
	}
	return "WRONG"
}

func (f *File) header() (*Object, error) {
	c, err := f.object("header", 0, layout.PageBytes)
	if err != nil {
		return nil, err
	}
	h, damage := layout.DecodeHeader(c.b)
	c.Intact = damage == nil
	c.take(8, "magic", "%q", c.b[:8])
	c.take(4, "byte order mark", "%#x", c.half())
	c.number(4, "format version")
	c.take(8, "features", "%#x", c.word())
	c.take(16, "uuid", "%x", c.b[c.next:c.next+16])
	c.take(8, "hash seed", "%#x", c.word())
	c.number(4, "stripes")
	c.number(4, "chunk bytes")
	c.number(4, "segment bytes")
	c.number(4, "intent bytes")
	c.take(8, "created", "%s", time.Unix(int64(c.word()), 0).UTC().Format(time.RFC3339))
	c.number(4, "log bytes")
	c.skipTo(layout.PageBytes - 4)
	c.take(4, "CRC32C", "of all before it; %s", rightOrWrong(damage == nil))
	if damage != nil {
		c.note("%v", damage)
		return c.Object, nil
	}
	r := h.Geometry().Regions()
	c.note("session %#x and %#x, control page %#x, intent %#x, versions %#x, counters %#x", r.Session[0], r.Session[1], r.Control, r.Intent, r.Versions, r.Counters)
	c.note("root areas %#x and %#x, superblock %#x and %#x, log %#x, chunks from %#x on", r.Root[0], r.Root[1], r.Superblock[0], r.Superblock[1], r.Log, r.Arena)
	return c.Object, nil
}

func (f *File) session(at uint64) (*Object, error) {
	c, err := f.object("session", at, layout.PageBytes)
	if err != nil {
		return nil, err
	}
	_, c.Intact = layout.DecodeSession(c.b)
	c.number(8, "sequence")
	c.number(8, "generation")
	c.take(16, "boot id", "%x", c.b[c.next:c.next+16])
	c.number(8, "inode")
	c.number(8, "device")
	c.take(12, "birth", "%s", time.Unix(int64(c.word()), int64(binary.LittleEndian.Uint32(c.b[c.next+8:]))).UTC().Format(time.RFC3339Nano))
	c.number(4, "pid")
	medium := [...]pmem.Media{pmem.Auto, pmem.DAX, pmem.PageCache, pmem.Tmpfs}[min(c.b[c.next], 3)]
	c.take(1, "medium", "%d: %v", c.b[c.next], medium)
	c.number(1, "forced")
	c.number(1, "clean")
	c.number(1, "poisoned")
	c.number(1, "replaying")
	c.skipTo(c.next + 3)
	c.number(8, "last good sequence")
	c.number(8, "floor")
	c.number(8, "log end")
	c.skipTo(layout.PageBytes - 4)
	c.take(4, "CRC32C", "of all before it; %s", rightOrWrong(c.Intact))
	return c.Object, nil
}

func (f *File) control(at uint64) (*Object, error) {
	c, err := f.object("control", at, layout.PageBytes)
	if err != nil {
		return nil, err
	}
	r := f.geometry.Regions()
	c.skipTo(layout.ControlRoot)
	root := c.word()
	c.Intact = root == r.Root[0] || root == r.Root[1]
	area := "neither root area"
	for i, a := range r.Root {
		if root == a {
			area = fmt.Sprintf("root area %c", 'A'+i)
		}
	}
	c.take(8, "working root", "%#x: %s", root, area)
	c.skipTo(layout.ControlEpoch)
	c.number(8, "epoch")
	c.skipTo(layout.ControlSize)
	c.number(8, "published size")
	c.skipTo(layout.ControlGeneration)
	c.number(8, "generation")
	c.skipTo(layout.ControlReplaying)
	c.number(8, "replaying")
	return c.Object, nil
}

func (f *File) superblock(at uint64) (*Object, error) {
	g := f.geometry
	c, err := f.object("superblock", at, g.SuperblockBytes())
	if err != nil {
		return nil, err
	}
	s, ok := layout.DecodeSuperblock(g, c.b)
	c.Intact = ok
	c.number(8, "sequence")
	c.number(8, "epoch")
	c.take(8, "metadata", "%s", link("record", c.word()))
	c.take(8, "flags", "%#x: counts known %v", c.word(), c.word()&1 != 0)
	c.number(8, "stripes")
	extents := c.number(8, "extents")
	c.skipTo(56)
	c.take(8, "CRC32C", "of the slot; %s", rightOrWrong(ok))
	c.number(8, "log generation")
	c.number(8, "log position")
	c.number(8, "log ring bytes")
	c.number(8, "log bytes")
	c.skipTo(layout.SuperRoots)
	for i := range g.Stripes {
		c.take(8, fmt.Sprintf("root %d", i), "%s", rootMeaning(c.word()))
	}
	for i := range g.Stripes {
		c.number(8, fmt.Sprintf("count %d", i))
	}
	if ok {
		for i := range s.Extents {
			e := s.Extents[i]
			c.take(16, fmt.Sprintf("extent %d", i), "%d bytes at %#x, CRC32 %#x", e.Bytes, e.Offset, e.CRC)
		}
	} else if extents == 0 && c.word() == 0 {
		c.note("an empty slot, or a torn one")
	}
	return c.Object, nil
}

func link(what string, at uint64) string {
	if at == 0 {
		return "none"
	}
	return fmt.Sprintf("%s at %#x", what, at)
}

func rootMeaning(word uint64) string {
	dir, depth, ok := layout.DecodeStripeRoot(word)
	switch {
	case word == 0:
		return "an empty stripe"
	case !ok:
		return "NO STRIPE ROOT"
	}
	return fmt.Sprintf("directory at %#x, depth %d", dir, depth)
}
