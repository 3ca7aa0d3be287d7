package recovery_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// The failure looked for here: an open that takes the wrong root for the truth.
// The session record decides; the tests write it by hand, case by case of what the
// previous session can have been and what has happened to the file since.

var geometry = pmem.Geometry{Stripes: 2, ChunkBytes: 4096, SegmentBytes: 512, IntentBytes: 4096}

func open(t *testing.T, h *pmem.Heap, o pmem.Options) *table.Table {
	o.Geometry = geometry
	p, err := pmem.OpenHeap(h, o)
	require.NoError(t, err)
	tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	return tab
}

// base is the image of a table that died: keys "1" and "2" are in the commits with
// the sequences 2 and 3, in a slot each, and "3" in the working root only.
func base(t *testing.T) []byte {
	h := pmem.NewHeap(nil, 1<<20)
	tab := open(t, h, pmem.Options{})
	for _, k := range []string{"1", "2"} {
		require.NoError(t, tab.Put([]byte(k), []byte("value")))
		require.NoError(t, tab.Sync())
	}
	require.NoError(t, tab.Put([]byte("3"), []byte("value")))
	image := h.Image() // as it was at this moment
	require.NoError(t, tab.Close())
	return image
}

func keys(t *testing.T, tab *table.Table) string {
	var all []string
	for k := range tab.All() {
		all = append(all, string(k))
	}
	require.NoError(t, tab.Err())
	slices.Sort(all)
	out := ""
	for _, k := range all {
		out += k
	}
	return out
}

// withSession replaces the newest session record.
func withSession(image []byte, change func(s *pmem.Session)) []byte {
	image = slices.Clone(image)
	var newest pmem.Session
	r := geometry.Regions()
	for _, at := range r.Session {
		if s, ok := layout.DecodeSession(image[at:][:layout.PageBytes]); ok && s.Sequence > newest.Sequence {
			newest = s
		}
	}
	change(&newest)
	newest.Sequence++
	page := make([]byte, layout.PageBytes)
	newest.Encode(page)
	copy(image[r.Session[newest.Sequence&1^1]:], page)
	return image
}

// slotOf returns the index of the superblock slot with a sequence.
func slotOf(t *testing.T, image []byte, sequence uint64) int {
	for i, at := range geometry.Regions().Superblock {
		if s, ok := layout.DecodeSuperblock(geometry, image[at:][:geometry.SuperblockBytes()]); ok && s.Sequence == sequence {
			return i
		}
	}
	require.FailNow(t, "no such slot")
	return 0
}

// damageSlot flips a bit of the superblock slot with a sequence.
func damageSlot(t *testing.T, image []byte, sequence uint64) []byte {
	image = slices.Clone(image)
	image[geometry.Regions().Superblock[slotOf(t, image, sequence)]+9] ^= 2
	return image
}

// damageRecord flips a bit in the value of a key, which a lookup would not find.
func damageRecord(t *testing.T, image []byte, key string) []byte {
	image = slices.Clone(image)
	at := bytes.Index(image, []byte(key+"value"))
	require.Positive(t, at)
	image[at+3] ^= 1
	return image
}

type session = pmem.Session

func medium(m layout.Medium, forced uint8) func(*session) {
	return func(s *session) { s.Medium, s.Forced = uint8(m), forced }
}

func all(changes ...func(*session)) func(*session) {
	return func(s *session) {
		for _, c := range changes {
			c(s)
		}
	}
}

var (
	otherBoot  = func(s *session) { s.BootID[3]++ }
	otherInode = func(s *session) { s.Inode++ }
	otherDev   = func(s *session) { s.Dev++ }
	otherBirth = func(s *session) { s.BirthNsec++ }
	clean      = func(s *session) { s.Clean, s.LastGood = 1, 3 }
	poisoned   = func(s *session) { s.Poisoned, s.LastGood = 1, 2 }
)

func TestChoiceOfRoot(t *testing.T) {
	image := base(t)
	dax, daxForced := medium(layout.MediumDAX, 0), medium(layout.MediumDAX, 1)
	cache, cacheForced := medium(layout.MediumPageCache, 0), medium(layout.MediumPageCache, 1)
	tmpfs := medium(layout.MediumTmpfs, 0)
	for _, c := range []struct {
		name     string
		change   func(*session)
		keys     string // "123": the working root, "12": the committed one
		unproven bool
	}{
		// 1: closed clean
		{"clean", clean, "12", false},
		{"clean, another boot, DAX", all(clean, otherBoot, dax), "12", false},
		{"clean, a copy, tmpfs", all(clean, otherInode, otherBoot, tmpfs), "12", false},
		// 2: poisoned
		{"poisoned", poisoned, "1", false},
		{"poisoned, the newest is good", func(s *session) { s.Poisoned, s.LastGood = 1, 3 }, "12", false},
		{"poisoned, another boot", all(poisoned, otherBoot), "1", false},
		{"poisoned, a copy", all(poisoned, otherInode, otherBoot), "1", false},
		// 3: proven DAX, same file
		{"DAX", dax, "123", false},
		{"DAX, another boot", all(dax, otherBoot), "123", false},
		// 4: same file
		{"page cache, same boot", cache, "123", false},
		{"forced page cache, same boot", cacheForced, "123", false},
		{"tmpfs, same boot", tmpfs, "123", false},
		{"forced DAX, same boot", daxForced, "123", false},
		{"page cache, another boot", all(cache, otherBoot), "12", false},
		{"forced page cache, another boot", all(cacheForced, otherBoot), "12", false},
		// 5: everything else
		{"page cache, a copy", all(cache, otherInode), "12", true},
		{"page cache, another device", all(cache, otherDev), "12", true},
		{"page cache, another birth", all(cache, otherBirth), "12", true},
		{"page cache, a copy, another boot", all(cache, otherInode, otherBoot), "12", true},
		{"DAX, a copy", all(dax, otherInode), "123", true},
		{"DAX, a copy, another boot", all(dax, otherInode, otherBoot), "123", true},
		{"forced DAX, another boot", all(daxForced, otherBoot), "123", true},
		{"forced DAX, a copy", all(daxForced, otherInode), "123", true},
		{"tmpfs, another boot", all(tmpfs, otherBoot), "123", true},
		{"tmpfs, a copy", all(tmpfs, otherInode), "123", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := withSession(image, c.change)
			// Read-only first: it stores nothing and sees the same.
			h := pmem.NewHeap(changed, 1<<20)
			tab := open(t, h, pmem.Options{ReadOnly: true})
			require.Equal(t, c.keys, keys(t, tab))
			require.Equal(t, len(c.keys), tab.Len())
			require.NoError(t, tab.Close())
			require.Equal(t, changed, h.Image())

			var log bytes.Buffer
			tab = open(t, h, pmem.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.Equal(t, c.keys, keys(t, tab))
			require.Equal(t, len(c.keys), tab.Len())
			_, err := tab.Check()
			require.NoError(t, err)
			require.NoError(t, tab.Put([]byte("4"), nil))
			require.NoError(t, tab.Close())
			require.Equal(t, c.unproven, bytes.Contains(log.Bytes(), []byte("checked the whole table")), "%s", log.String())
			h.Reboot()
			tab = open(t, h, pmem.Options{})
			require.Equal(t, c.keys+"4", keys(t, tab))
			require.NoError(t, tab.Close())
		})
	}
}

// TestUnprovenAndDamaged: what nothing vouches for is refused when the check
// finds something, with advice; what something vouches for opens at once.
func TestUnprovenAndDamaged(t *testing.T) {
	image := base(t)
	cache, tmpfs := medium(layout.MediumPageCache, 0), medium(layout.MediumTmpfs, 0)
	for _, c := range []struct {
		name    string
		change  func(*session)
		damaged string
		refused bool
	}{
		{"a copy, damage in the committed root", all(cache, otherInode), "1", true},
		{"a copy, damage in the working root only", all(cache, otherInode), "3", false},
		{"tmpfs after a restart, damage in the working root", all(tmpfs, otherBoot), "3", true},
		{"the same boot", cache, "1", false},
		{"clean", clean, "1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := damageRecord(t, withSession(image, c.change), c.damaged)
			for _, readOnly := range []bool{true, false} {
				h := pmem.NewHeap(changed, 1<<20)
				p, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: readOnly})
				require.NoError(t, err)
				tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
				if c.refused {
					require.ErrorIs(t, err, table.ErrCorrupt)
					require.ErrorContains(t, err, "salvage")
					require.Equal(t, changed, h.Image(), "a refusal stores nothing")
					continue
				}
				require.NoError(t, err)
				if c.damaged == "1" {
					_, err = tab.Get([]byte("1"))
					require.ErrorIs(t, err, table.ErrCorrupt)
				}
				_, err = tab.Get([]byte("2"))
				require.NoError(t, err)
				require.NoError(t, tab.Close())
			}
		})
	}
}

// TestTheRootIsGone: where the truth is a slot that is damaged, an older one is
// not the truth.
func TestTheRootIsGone(t *testing.T) {
	image := base(t)
	cache := medium(layout.MediumPageCache, 0)
	for _, c := range []struct {
		name   string
		change func(*session)
		lost   []uint64
		want   string // "": refused
	}{
		{"clean", clean, []uint64{3}, ""},
		{"clean, the older one", clean, []uint64{2}, "12"},
		{"poisoned, the last good one", poisoned, []uint64{2}, ""},
		{"poisoned, the last good one, the newer", func(s *session) { s.Poisoned, s.LastGood = 1, 3 }, []uint64{3}, ""},
		{"poisoned, the bad one", poisoned, []uint64{3}, "1"},
		{"poisoned, both", poisoned, []uint64{2, 3}, ""},
		{"another boot", all(cache, otherBoot), []uint64{3}, "1"}, // a torn commit looks like this
		{"another boot, both", all(cache, otherBoot), []uint64{2, 3}, ""},
		{"the same boot, both", cache, []uint64{2, 3}, "123"},
		{"void by the floor", all(clean, func(s *session) { s.Floor = 4 }), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := withSession(image, c.change)
			for _, sequence := range c.lost {
				changed = damageSlot(t, changed, sequence)
			}
			for _, readOnly := range []bool{true, false} {
				h := pmem.NewHeap(changed, 1<<20)
				p, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: readOnly})
				require.NoError(t, err)
				tab, err := table.OpenPool(p, &table.Options{Durability: table.OnSync})
				if c.want == "" {
					require.ErrorIs(t, err, table.ErrCorrupt)
					require.Equal(t, changed, h.Image(), "a refusal stores nothing")
					continue
				}
				require.NoError(t, err)
				require.Equal(t, c.want, keys(t, tab))
				require.NoError(t, tab.Close())
			}
		})
	}
}

// TestBegin looks at what a session begins with.
func TestBegin(t *testing.T) {
	image := base(t)
	begin := func(t *testing.T, image []byte, media pmem.Media) (*pmem.Heap, *pmem.Pool, *recovery.Start) {
		h := pmem.NewHeap(image, 1<<20)
		p, err := pmem.OpenHeap(h, pmem.Options{Media: media})
		require.NoError(t, err)
		s, err := recovery.Begin(p)
		require.NoError(t, err)
		return h, p, s
	}
	t.Run("unclean", func(t *testing.T) {
		h, p, s := begin(t, image, pmem.Auto)
		require.True(t, s.Decision.Working)
		require.EqualValues(t, 4, s.NextSequence)
		require.Equal(t, slotOf(t, image, 2), s.IdleSlot)
		require.Len(t, s.Protected, 1)
		require.EqualValues(t, 3, s.Protected[0].Sequence)
		require.Nil(t, s.Counts)
		require.Greater(t, s.Epoch, s.Protected[0].Epoch)
		_, highest := p.Highest()
		require.Equal(t, s.Epoch, highest)
		require.NoError(t, p.Close())
		for _, at := range geometry.Regions().Session { // the kill after it
			next, ok := layout.DecodeSession(h.Image()[at:][:layout.PageBytes])
			require.True(t, ok)
			require.Zero(t, next.Clean)
		}
	})
	t.Run("clean", func(t *testing.T) {
		_, p, s := begin(t, withSession(image, clean), pmem.Auto)
		require.False(t, s.Decision.Working)
		require.Equal(t, slotOf(t, image, 2), s.IdleSlot)
		require.Len(t, s.Protected, 1)
		require.EqualValues(t, 3, s.Protected[0].Sequence)
		require.Len(t, s.Counts, 2)
		require.EqualValues(t, 2, s.Counts[0]+s.Counts[1])
		require.NoError(t, p.Close())
	})
	t.Run("poisoned", func(t *testing.T) {
		// The first commit of the new session must not go to the last good slot,
		// and the bad one must not count any more.
		h, p, s := begin(t, withSession(image, poisoned), pmem.Auto)
		require.True(t, s.Decision.Poisoned)
		require.Equal(t, slotOf(t, image, 3), s.IdleSlot)
		require.EqualValues(t, 4, s.NextSequence, "no sequence is used twice")
		require.Len(t, s.Protected, 1)
		require.EqualValues(t, 2, s.Protected[0].Sequence)
		slots := p.Slots()
		require.Len(t, slots, 1)
		require.EqualValues(t, 2, slots[0].Sequence)
		require.NoError(t, p.Close())
		h.Reboot() // at once, before any commit
		tab := open(t, h, pmem.Options{})
		require.Equal(t, "1", keys(t, tab))
		require.NoError(t, tab.Close())
	})
	t.Run("from DAX to the page cache", func(t *testing.T) {
		// The working root was durable; from now on only a committed one is.
		h, p, s := begin(t, withSession(image, medium(layout.MediumDAX, 0)), pmem.PageCache)
		require.True(t, s.Decision.Working)
		require.EqualValues(t, 5, s.NextSequence)
		require.Len(t, s.Protected, 1)
		require.EqualValues(t, 4, s.Protected[0].Sequence)
		require.NotEqual(t, s.Protected[0].Index, s.IdleSlot)
		require.NoError(t, p.Close())
		h.Reboot()
		tab := open(t, h, pmem.Options{})
		require.Equal(t, "123", keys(t, tab))
		require.NoError(t, tab.Close())
	})
	t.Run("from the page cache to tmpfs", func(t *testing.T) {
		// The committed roots would only hold dead space: the floor voids them.
		_, p, s := begin(t, image, pmem.Tmpfs)
		require.Empty(t, s.Protected)
		require.NoError(t, p.Close())
	})
	t.Run("the epochs are used up", func(t *testing.T) {
		// Begin refuses; nothing wraps around.
		b := slices.Clone(image)
		at := geometry.Regions().Control + layout.ControlEpoch
		copy(b[at:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0})
		p, err := pmem.OpenHeap(pmem.NewHeap(b, 1<<20), pmem.Options{})
		require.NoError(t, err)
		_, err = recovery.Begin(p)
		require.ErrorIs(t, err, pmem.ErrCorrupt)
		require.NoError(t, p.Close())
	})
}

// TestTornCommitStaysTorn: an open that finds a slot which power loss cut off decides for
// the other one, and that must be for good. The words that the torn slot lacks may be the
// very ones that the next commit stores first, or zeros: neither its stores nor those
// that void the slot may complete it, whatever of them a crash leaves.
func TestTornCommitStaysTorn(t *testing.T) {
	h := pmem.NewHeap(base(t), 1<<20)
	tab := open(t, h, pmem.Options{})
	require.NoError(t, tab.Sync()) // key "3" is committed with sequence 4
	whole := h.Image()             // as it was at this moment
	require.NoError(t, tab.Close())
	at := geometry.Regions().Superblock[slotOf(t, whole, 4)]
	for _, lacks := range []uint64{0, layout.SuperMetadata, layout.SuperStripes, layout.SuperRoots} {
		torn := slices.Clone(whole)
		torn[at+lacks] ^= 1
		for _, reboots := range []bool{true, false} {
			tracer := crashtest.NewTracer(torn)
			h := pmem.NewHeap(torn, 1<<20)
			if reboots {
				h.Reboot()
			}
			p, err := pmem.OpenHeap(h, pmem.Options{Hook: tracer})
			require.NoError(t, err)
			s, err := recovery.Begin(p)
			require.NoError(t, err)
			require.EqualValues(t, 3, s.Protected[0].Sequence)
			_, err = tracer.Trace().Crashes(crashtest.PageCache, crashtest.Bound{}, nil, func(c *crashtest.Crash) error {
				if _, ok := layout.DecodeSuperblock(geometry, c.Image[at:]); ok {
					return errors.New("the open itself completes the slot")
				}
				return nil
			})
			require.NoError(t, err, "lacks %d", lacks)
			require.NoError(t, p.Close())
			next := h.Image()
			copy(next[at+lacks:][:layout.WordBytes], whole[at+lacks:])
			_, ok := layout.DecodeSuperblock(geometry, next[at:])
			require.False(t, ok, "one word completes the slot that lacked the one at %d", lacks)
		}
	}
}

// TestPendingIntent: with the working root it is finished, without it discarded.
func TestPendingIntent(t *testing.T) {
	image := base(t)
	r := geometry.Regions()
	plant := func(change func(*session), stores ...layout.IntentStore) *pmem.Heap {
		h := pmem.NewHeap(withSession(image, change), 1<<20)
		p, err := pmem.OpenHeap(h, pmem.Options{})
		require.NoError(t, err)
		p.WriteIntent(77, stores)
		require.NoError(t, p.Close())
		return h
	}
	area := r.Root[0]
	p, err := pmem.OpenHeap(pmem.NewHeap(image, 0), pmem.Options{ReadOnly: true})
	require.NoError(t, err)
	if p.Load(r.Control+layout.ControlRoot) == area {
		area = r.Root[1]
	}
	empty := layout.IntentStore{Offset: r.Control + layout.ControlRoot, Word: area} // as Clear's

	cache := medium(layout.MediumPageCache, 0)
	for name, c := range map[string]struct {
		change func(*session)
		want   string
	}{
		"same boot":    {cache, ""},
		"DAX":          {all(medium(layout.MediumDAX, 0), otherBoot), ""},
		"another boot": {all(cache, otherBoot), "12"},
		"clean":        {clean, "12"},
		"poisoned":     {poisoned, "1"},
		"tmpfs later":  {all(medium(layout.MediumTmpfs, 0), otherBoot), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := plant(c.change, empty)
			tab := open(t, h, pmem.Options{ReadOnly: true})
			require.Equal(t, c.want, keys(t, tab))
			require.NoError(t, tab.Close())
			tab = open(t, h, pmem.Options{})
			require.Equal(t, c.want, keys(t, tab))
			require.NoError(t, tab.Close())
		})
	}
	for name, bad := range map[string]layout.IntentStore{
		"header":     {Offset: 0, Word: 1},
		"session":    {Offset: r.Session[0], Word: 1},
		"superblock": {Offset: r.Superblock[1] + 8, Word: 1},
		"outside":    {Offset: 1 << 50, Word: 1},
		"unaligned":  {Offset: r.Arena + 4, Word: 1},
		"no area":    {Offset: r.Control + layout.ControlRoot, Word: 12345},
	} {
		t.Run(name, func(t *testing.T) {
			h := plant(cache, bad)
			before := h.Image()
			for _, readOnly := range []bool{true, false} {
				p, err := pmem.OpenHeap(h, pmem.Options{ReadOnly: readOnly})
				require.NoError(t, err)
				tab, err := table.OpenPool(p, nil)
				if readOnly && err == nil { // nothing of it is stored
					require.Equal(t, "123", keys(t, tab))
					require.NoError(t, tab.Close())
					continue
				}
				require.Error(t, err)
			}
			if name != "no area" {
				require.Equal(t, before, h.Image())
			}
		})
	}
}
