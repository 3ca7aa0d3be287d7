package pmem

import (
	"slices"
	"sync"

	"pmemtable/internal/layout"
)

// Slot is a superblock slot that decoded well.
type Slot struct {
	Index int // 0 or 1
	Superblock
}

// Slots returns the superblock slots that count: intact, not void by the previous
// session's floor, and, after an unclean end, not the torn commit of one sync. The
// one with the higher sequence comes first.
func (p *Pool) Slots() []Slot {
	out := p.intactSlots()
	if p.torn(out) {
		out = out[1:]
	}
	return out
}

// intactSlots are the slots that are whole and not void, the newest first.
func (p *Pool) intactSlots() []Slot {
	out := make([]Slot, 0, len(p.regions.Superblock))
	for i := range p.regions.Superblock {
		s, ok := p.readSlot(i)
		if ok && s.Sequence >= p.previous.Floor {
			out = append(out, Slot{i, *s})
		}
	}
	if len(out) == 2 && out[0].Sequence < out[1].Sequence {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

// torn tells whether the newest of the intact slots is a commit that was cut off.
// The older one was complete before the newer began.
func (p *Pool) torn(slots []Slot) bool {
	return len(slots) > 0 && p.previous.Clean == 0 && !p.beside && !p.verifies(&slots[0].Superblock)
}

// Torn is the newest slot if it counts as a commit by one sync that was cut off, else
// nil.
func (p *Pool) Torn() *Slot {
	if slots := p.intactSlots(); p.torn(slots) {
		return &slots[0]
	}
	return nil
}

// DamagedSlot tells which slot holds something that is no slot: one whose commit was
// cut off in the middle of it, or that was damaged since.
func (p *Pool) DamagedSlot() (index int, damaged bool) {
	for i, at := range p.regions.Superblock {
		if _, ok := p.readSlot(i); !ok && p.Load(at) != 0 {
			return i, true
		}
	}
	return 0, false
}

// VoidTorn zeroes, durably, a slot whose commit was cut off, if there is one: a slot that
// is not whole, or that of a commit by one sync of which not all is there. Otherwise the
// stores of a later session could complete it, since what it lacks may be words that the
// next commit also has, and a later open would find the commit that this one found
// missing.
func (p *Pool) VoidTorn() error {
	if p.previous.Clean != 0 {
		return nil
	}
	for i := range p.regions.Superblock {
		// Elsewhere than on a page cache the next open does not believe any slot.
		if _, whole := p.readSlot(i); !whole && p.syncs && !p.blank(i) {
			return p.voidBroken(i)
		}
	}
	if torn := p.Torn(); torn != nil {
		return p.VoidSlot(torn.Index)
	}
	return nil
}

// blank tells whether superblock slot i holds zeros only.
func (p *Pool) blank(i int) bool {
	for at := range p.geometry.SuperblockBytes() / layout.WordBytes {
		if p.Load(p.regions.Superblock[i]+uint64(at)*layout.WordBytes) != 0 {
			return false
		}
	}
	return true
}

// voidBroken is VoidSlot for a slot that is not whole, and may lack nothing but zeros: its
// sequence first, without which no slot is whole.
func (p *Pool) voidBroken(i int) error {
	at := p.regions.Superblock[i]
	p.forgetSlot(i)
	p.Store(at+layout.SuperSequence, 0)
	if err := p.syncRange(at, layout.PageBytes); err != nil {
		return err
	}
	return p.VoidSlot(i)
}

// Checksum is the checksum of a piece of the file, as an extent.
func (p *Pool) Checksum(off uint64, n int) layout.Extent {
	return layout.Extent{Offset: off, Bytes: uint32(n), CRC: layout.ExtentChecksum(p.Bytes(off, n))}
}

// verifies tells whether the extents that a slot lists hold what was stored.
func (p *Pool) verifies(s *Superblock) bool {
	for _, e := range s.Extents {
		b := p.Bytes(e.Offset, int(e.Bytes))
		if b == nil || e.Bytes > layout.MaxExtentBytes || layout.ExtentChecksum(b) != e.CRC {
			return false
		}
	}
	return true
}

// Highest returns the highest sequence of any intact slot, void or not, and the
// highest epoch that any of them or the epoch word names.
func (p *Pool) Highest() (sequence, epoch uint64) {
	epoch = p.Load(p.regions.Control + layout.ControlEpoch)
	for i := range p.regions.Superblock {
		if s, ok := p.readSlot(i); ok {
			sequence, epoch = max(sequence, s.Sequence), max(epoch, s.Epoch)
		}
	}
	return sequence, epoch
}

// knownSlot is a superblock slot that was read, nil if it was not.
type knownSlot struct {
	read bool
	slot *Superblock
}

// readSlot decodes superblock slot i. The result is not to be changed: until the session
// begins, a writer, who is alone till then, reads a slot once for all who ask.
func (p *Pool) readSlot(i int) (*Superblock, bool) {
	if p.opening == nil {
		return p.decodeSlot(i)
	}
	known := &p.opening[i]
	if !known.read {
		known.slot, _ = p.decodeSlot(i)
		known.read = true
	}
	return known.slot, known.slot != nil
}

func (p *Pool) decodeSlot(i int) (*Superblock, bool) {
	return layout.DecodeSuperblock(p.geometry, p.Speculative(p.regions.Superblock[i], p.geometry.SuperblockBytes()))
}

// forgetSlot has superblock slot i read again, which is about to change.
func (p *Pool) forgetSlot(i int) {
	if p.opening != nil {
		p.opening[i] = knownSlot{}
	}
}

// SlotRoots is the offset of the stripe roots in superblock slot i, laid out as
// in a root area.
func (p *Pool) SlotRoots(i int) uint64 { return p.regions.Superblock[i] + layout.SuperRoots }

// Commit makes everything that s reaches durable, and s itself, in the slot idle.
//
//  1. sync: all blocks that s reaches are durable. Before and after it a crash
//     finds the other slot. Left out if s lists the extents that were stored since
//     the commit before, which is durable: then s counts only if they verify (the
//     one-phase commit of redb, for small commits).
//  2. s is stored to the slot with the lower sequence. A torn one fails its CRC,
//     and the other stands.
//  3. sync (persist): s is the committed root.
func (p *Pool) Commit(s *Superblock, idle int) error {
	if s.Extents == nil {
		if err := p.Sync(); err != nil {
			return err
		}
	}
	p.storeSlot(idle, s)
	return p.Sync()
}

// storeSlot stores s, or zeros if it is nil, to superblock slot i, and writes it back.
func (p *Pool) storeSlot(i int, s *Superblock) {
	at, b := p.regions.Superblock[i], zeros(p.geometry.SuperblockBytes())
	defer scratch.Put(b)
	if s != nil {
		s.Encode(p.geometry, *b)
	}
	p.forgetSlot(i)
	p.Copy(at, *b)
	p.Persist(Range{at, len(*b)})
}

// scratch are buffers of what is put together before it is stored.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// zeros returns a buffer of n zeros from scratch.
func zeros(n int) *[]byte {
	b := scratch.Get().(*[]byte)
	*b = slices.Grow((*b)[:0], n)[:n]
	clear(*b)
	return b
}

// SyncSlot makes a superblock slot that a killed process left durable, with what
// a commit by one sync stored for it.
func (p *Pool) SyncSlot(s *Slot) error {
	for _, e := range s.Extents {
		first := e.Offset &^ (layout.PageBytes - 1)
		n := roundUp(int64(e.Offset-first)+int64(e.Bytes), layout.PageBytes)
		if err := p.syncRange(first, int(n)); err != nil {
			return err
		}
	}
	return p.syncRange(p.regions.Superblock[s.Index], p.geometry.SuperblockBytes())
}

// DirtySlot has SyncSlot write what it syncs, also where the kernel takes it for written:
// it does so after a sync that failed. Nobody else may be storing to the file.
func (p *Pool) DirtySlot(s *Slot) {
	dirty := func(at, n uint64) {
		for end := at + n; at < end; at = at&^(layout.PageBytes-1) + layout.PageBytes {
			word := at &^ (layout.WordBytes - 1)
			p.Store(word, p.Load(word))
		}
	}
	for _, e := range s.Extents {
		dirty(e.Offset, uint64(e.Bytes))
	}
	dirty(p.regions.Superblock[s.Index], uint64(p.geometry.SuperblockBytes()))
}

// VoidSlot zeroes superblock slot i durably.
func (p *Pool) VoidSlot(i int) error {
	p.storeSlot(i, nil)
	return p.syncRange(p.regions.Superblock[i], p.geometry.SuperblockBytes())
}

// SlotMetadata is the offset of the metadata word of superblock slot i.
func (p *Pool) SlotMetadata(i int) uint64 { return p.regions.Superblock[i] + layout.SuperMetadata }
