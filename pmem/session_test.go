package pmem_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
)

// The failures looked for here: a record of the session, or a committed root, that
// a torn write takes away together with the one before it.

// sessions decodes both session records of a medium; nil for one that is damaged.
func sessions(t *testing.T, h *pmem.Heap) (out [2]*pmem.Session) {
	image := h.Image()
	header, err := layout.DecodeHeader(image[:layout.PageBytes])
	require.NoError(t, err)
	for i, at := range header.Geometry().Regions().Session {
		if s, ok := layout.DecodeSession(image[at:][:layout.PageBytes]); ok {
			out[i] = &s
		}
	}
	return out
}

func openHeap(t *testing.T, h *pmem.Heap) *pmem.Pool {
	p, err := pmem.OpenHeap(h, small())
	require.NoError(t, err)
	return p
}

func TestSessionRecordsAlternate(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p := openHeap(t, h)
	s := sessions(t, h)
	require.EqualValues(t, 1, s[0].Sequence)
	require.EqualValues(t, 1, s[0].Clean)
	require.Nil(t, s[1])

	sequence := uint64(1)
	for generation := uint64(1); generation < 4; generation++ {
		for _, step := range []struct {
			do       func() error
			clean    uint8
			poisoned uint8
			lastGood uint64
		}{
			{func() error { return p.BeginSession(generation * 7) }, 0, 0, 0},
			{func() error { return p.MarkPoisoned(generation*11, generation) }, 0, 1, generation * 11},
		} {
			before := sessions(t, h)
			require.NoError(t, step.do())
			sequence++
			after := sessions(t, h)
			newest, other := after[sequence&1^1], after[sequence&1]
			require.Equal(t, before[sequence&1], other, "the newest record so far is not touched")
			require.Equal(t, sequence, newest.Sequence)
			require.Equal(t, generation, newest.Generation)
			require.Equal(t, step.clean, newest.Clean)
			require.Equal(t, step.poisoned, newest.Poisoned)
			require.Equal(t, step.lastGood, newest.LastGood)
			require.EqualValues(t, generation*7, newest.Floor)
			require.EqualValues(t, layout.MediumPageCache, newest.Medium)
			require.NotZero(t, newest.PID)
		}
		require.Equal(t, generation, p.Generation())
		require.NoError(t, p.Close())
		p = openHeap(t, h)
		require.Equal(t, generation, p.Previous().Generation)
		require.EqualValues(t, 1, p.Previous().Poisoned)
		require.True(t, p.SameFile())
		require.True(t, p.SameBoot())
	}
	require.NoError(t, p.Close())
	h.Reboot()
	p = openHeap(t, h)
	require.True(t, p.SameFile())
	require.False(t, p.SameBoot())
	require.NoError(t, p.Close())
	h.Move()
	p = openHeap(t, h)
	require.False(t, p.SameFile())
	require.NoError(t, p.Close())
}

// TestTornSessionRecord: the one before it stands, whatever byte is missing.
func TestTornSessionRecord(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p := openHeap(t, h)
	require.NoError(t, p.BeginSession(0)) // sequence 2, in the second slot
	require.NoError(t, p.Close())
	whole := h.Image()
	at := p.Regions().Session[1]
	for _, cut := range []int{0, 1, 8, 16, 64, 87, 4092, 4095} {
		torn := append([]byte(nil), whole...)
		copy(torn[int(at)+cut:at+layout.PageBytes], make([]byte, layout.PageBytes))
		require.NotEqual(t, whole, torn)
		_, err := pmem.OpenHeap(pmem.NewHeap(slices.Clone(torn), 1<<20), small())
		require.ErrorIs(t, err, pmem.ErrCorrupt, "the session had begun: this is damage")
		// A write that is torn is never followed by the store of the generation.
		binary.NativeEndian.PutUint64(torn[p.Regions().Control+layout.ControlGeneration:], 0)
		p := openHeap(t, pmem.NewHeap(torn, 1<<20))
		require.EqualValues(t, 1, p.Previous().Sequence, "cut at %d", cut)
		require.NoError(t, p.Close())
	}
	none := append([]byte(nil), whole...)
	for _, at := range p.Regions().Session {
		none[at] ^= 1
	}
	_, err := pmem.OpenHeap(pmem.NewHeap(none, 1<<20), small())
	require.ErrorIs(t, err, pmem.ErrCorrupt)
}

// powerLoss is a hook that knows what a power loss may leave of the words of a page: any
// value since the last one that was made durable.
type powerLoss struct {
	p      *pmem.Pool
	page   uint64
	legal  []map[uint64]bool
	before func() // each event
}

func (l *powerLoss) Store(_, _ uint64, apply func())       { apply(); l.stored() }
func (l *powerLoss) Copy(_ uint64, _ []byte, apply func()) { apply(); l.stored() }
func (l *powerLoss) WriteBack(off uint64, n int)           { l.durable(off, n) } // its drain follows, or the pool's end
func (l *powerLoss) Drain()                                {}
func (l *powerLoss) Sync(apply func() error) error         { return apply() }

func (l *powerLoss) SyncRange(off uint64, n int, apply func() error) error {
	l.durable(off, n)
	return apply()
}

func (l *powerLoss) stored() {
	for i := range l.legal {
		l.legal[i][l.p.Load(l.page+uint64(i)*8)] = true
	}
	l.before()
}

func (l *powerLoss) durable(off uint64, n int) {
	for i := range l.legal {
		if at := l.page + uint64(i)*8; at >= off&^63 && at < off+uint64(n) {
			l.legal[i] = map[uint64]bool{l.p.Load(at): true}
		}
	}
}

// TestTornSessionRecordIsNotCompleted: a power loss cuts the record of a session off, and
// the next one that is written over it. What is left is never the first.
func TestTornSessionRecordIsNotCompleted(t *testing.T) {
	for _, media := range []pmem.Media{pmem.PageCache, pmem.DAX} {
		h := pmem.NewHeap(nil, 1<<20)
		p := openHeap(t, h)
		page, control := p.Regions().Session[1], p.Regions().Control
		image := h.Image()
		require.NoError(t, p.BeginSession(7)) // the record in the second slot, which was empty
		require.NoError(t, p.Close())
		first := h.Image()[page:][:layout.PageBytes]
		copy(image[page:], first)
		missing := 0
		for at := 0; at < layout.PageBytes; at += 8 {
			if binary.NativeEndian.Uint64(first[at:]) == 0 {
				continue
			}
			missing++
			torn := slices.Clone(image)
			clear(torn[int(page)+at:][:8])
			h := pmem.NewHeap(torn, 1<<20)
			h.Reboot()
			l := &powerLoss{page: page, legal: make([]map[uint64]bool, layout.PageBytes/8)}
			l.before = func() {
				for i := range l.legal {
					if !l.legal[i][binary.NativeEndian.Uint64(first[i*8:])] {
						return
					}
				}
				t.Fatalf("%v: the record that lacked the word at %d may be whole", media, at)
			}
			var err error
			l.p, err = pmem.OpenHeap(h, pmem.Options{Media: media, Hook: l})
			require.NoError(t, err)
			require.EqualValues(t, 1, l.p.Previous().Sequence)
			for i := range l.legal {
				l.legal[i] = map[uint64]bool{l.p.Load(page + uint64(i)*8): true}
			}
			require.NoError(t, l.p.BeginSession(7))
			require.EqualValues(t, 1, l.p.Load(control+layout.ControlGeneration))
			require.EqualValues(t, 2, sessions(t, h)[1].Sequence)
			require.NoError(t, l.p.Close())
		}
		require.Greater(t, missing, 6)
	}
}

// superblock is one that tells its sequence everywhere.
func superblock(sequence uint64) *pmem.Superblock {
	return &pmem.Superblock{Sequence: sequence, Epoch: sequence * 10, Roots: make([]uint64, 2), Counts: []uint64{sequence, sequence}, CountsKnown: true}
}

func TestTornSuperblock(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p := openHeap(t, h)
	require.NoError(t, p.BeginSession(0))
	slots := p.Slots()
	require.Len(t, slots, 1)
	for sequence := uint64(2); sequence < 6; sequence++ {
		require.NoError(t, p.Commit(superblock(sequence), slots[0].Index^1))
		slots = p.Slots()
		require.Len(t, slots, 2)
		require.Equal(t, sequence, slots[0].Sequence)
		require.Equal(t, sequence-1, slots[1].Sequence)
		require.Equal(t, *superblock(sequence), slots[0].Superblock)
		highestSequence, highestEpoch := p.Highest()
		require.Equal(t, sequence, highestSequence)
		require.Equal(t, sequence*10, highestEpoch)
	}
	whole, newest := h.Image(), slots[0]
	require.NoError(t, p.Close())
	size := p.Geometry().SuperblockBytes()
	for at := range size {
		torn := append([]byte(nil), whole...)
		torn[int(p.Regions().Superblock[newest.Index])+at] ^= byte(1 << (at % 8))
		p := openHeap(t, pmem.NewHeap(torn, 1<<20))
		slots := p.Slots()
		require.Len(t, slots, 1, "byte %d", at)
		require.Equal(t, newest.Sequence-1, slots[0].Sequence)
		require.NoError(t, p.Close())
		if testing.Short() && at > 200 {
			break
		}
	}
}

// TestCommitByOneSync: a slot that lists what was stored for it counts after an
// unclean end only if all of that is there.
func TestCommitByOneSync(t *testing.T) {
	for _, clean := range []bool{false, true} {
		h := pmem.NewHeap(nil, 1<<20)
		p := openHeap(t, h)
		require.NoError(t, p.BeginSession(0))
		p.Sweep(p.NewMarks())
		idle := p.Slots()[0].Index ^ 1
		s := superblock(2)
		var blocks []uint64
		for i := range 3 {
			off, err := p.Alloc(600, 0, pmem.Usual)
			require.NoError(t, err)
			p.Copy(off, []byte{1, 2, byte(i)})
			blocks = append(blocks, off)
			s.Extents = append(s.Extents, p.Checksum(off, 600))
		}
		require.NoError(t, p.Commit(s, idle))
		require.EqualValues(t, 2, p.Slots()[0].Sequence)
		if clean {
			require.NoError(t, p.MarkClean(2))
		}
		require.NoError(t, p.Close())
		for _, off := range blocks {
			for _, at := range []uint64{0, 2, 599} {
				torn := h.Image()
				torn[off+at] ^= 4
				p := openHeap(t, pmem.NewHeap(torn, 1<<20))
				want := uint64(1)
				if clean {
					want = 2 // the damage is not a commit that was cut off
				}
				require.Equal(t, want, p.Slots()[0].Sequence)
				require.NoError(t, p.VoidTorn())
				require.NoError(t, p.Close())
			}
		}
		p = openHeap(t, h)
		require.EqualValues(t, 2, p.Slots()[0].Sequence)
		require.NoError(t, p.Close())
	}
}

// TestIntent: a record of several stores counts as a whole or not at all.
func TestIntent(t *testing.T) {
	h := pmem.NewHeap(nil, 1<<20)
	p := openHeap(t, h)
	require.Nil(t, p.PendingIntent())
	arena := p.Regions().Arena
	var stores []layout.IntentStore
	for i := range uint64(p.Geometry().MaxIntentStores()) {
		stores = append(stores, layout.IntentStore{Offset: arena + i*8, Word: i * i})
	}
	for _, n := range []int{1, 2, 7, len(stores)} {
		p.WriteIntent(uint64(n), stores[:n])
		require.Equal(t, stores[:n], p.PendingIntent())
		for _, word := range []uint64{layout.IntentNumber, layout.IntentCount, layout.IntentStores, layout.IntentStores + uint64(n)*16 - 8} {
			at := p.Regions().Intent + word
			was := p.Load(at)
			p.Store(at, was^1<<20)
			require.Nil(t, p.PendingIntent(), "word %d", word)
			p.Store(at, was)
		}
		require.Equal(t, stores[:n], p.PendingIntent())
		p.ClearIntent()
		require.Nil(t, p.PendingIntent())
	}
	require.NoError(t, p.Close())
}
