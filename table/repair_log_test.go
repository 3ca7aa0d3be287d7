package table_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/recovery"
	"pmemtable/table"
)

// The failures looked for here: a repair that loses what was acknowledged through the
// log, that brings back what the log deletes, or that takes a frame for the truth which
// is not.

// loggedImage is a table of which a part stands in the log behind the committed root.
type loggedImage struct {
	name     string
	image    []byte
	rebooted bool
	regions  layout.Regions
	log      layout.LogSpan
	want     map[string]string
	put      map[string]bool // of want, those that the log puts
	deleted  []string        // by the log, and in the root
	places   map[string][2]int
}

func (l *loggedImage) heap(image []byte) *pmem.Heap {
	h := pmem.NewHeap(image, 2<<20)
	if l.rebooted {
		h.Reboot()
	}
	return h
}

// loggedImages are a table after a power cut, and the same after a kill. The root has
// everything in the second, and in the first none of what the log has.
func loggedImages(t *testing.T) []*loggedImage {
	d := newDisk(formatted(t, withLog(2, 512<<10)), 2<<20, 0)
	tab, err := d.open(&table.Options{Durability: table.OnSync}) // nothing of this is in a log
	require.NoError(t, err)
	for i := range 60 {
		require.NoError(t, tab.Put(key(i), value(i, (i*7)%300)))
	}
	require.NoError(t, tab.Sync()) // begins an epoch: in which of two a record was born tells which is newer
	for i := range 20 {
		require.NoError(t, tab.Delete(key(i)))
		require.NoError(t, tab.Put(key(20+i), value(i, 90)))
	}
	require.NoError(t, tab.Close())
	tab, err = d.open(nil)
	require.NoError(t, err)
	require.NoError(t, tab.Put(key(59), []byte("begins the log")))
	root := contents(t, tab)
	before := tab.Stats()
	put, deleted := map[string]bool{}, []string(nil)
	for i := range 8 {
		require.NoError(t, tab.Put(key(100+i), value(i, 50))) // new
		require.NoError(t, tab.Put(key(30+i), value(100+i, 40)))
		require.NoError(t, tab.Put(key(30+i), value(200+i, 40))) // twice
		require.NoError(t, tab.Delete(key(50+i)))
		require.NoError(t, tab.Put(key(i), value(300+i, 20))) // deleted before
		put[string(key(100+i))], put[string(key(30+i))], put[string(key(i))] = true, true, true
		deleted = append(deleted, string(key(50+i)))
	}
	b := table.NewBatch()
	b.Delete(key(107))
	b.Put(key(49), []byte("of the batch"))
	b.SetMetadata([]byte("the metadata"))
	require.NoError(t, tab.Apply(b))
	delete(put, string(key(107)))
	put[string(key(49))] = true
	s := tab.Stats()
	require.Equal(t, before.Checkpoints, s.Checkpoints, "the log has all of it")
	require.EqualValues(t, 8*5+1, s.LogFlushes-before.LogFlushes)

	want := contents(t, tab)
	tree := make(map[string]string)
	for k, v := range want {
		if !put[k] {
			require.Equal(t, root[k], v)
			tree[k] = v
		}
	}
	regions := d.geometry.Regions()
	d.mu.Lock()
	cut, killed := bytes.Clone(d.durable[:d.durableSize]), bytes.Clone(d.now[:d.sizeNow()])
	d.mu.Unlock()
	kill(tab)
	var out []*loggedImage
	for _, l := range []*loggedImage{{name: "power cut", image: cut, rebooted: true}, {name: "kill", image: killed}} {
		l.regions, l.want, l.put, l.deleted = regions, want, put, deleted
		l.places = places(t, l.image, tree)
		for _, at := range regions.Superblock {
			if s, ok := layout.DecodeSuperblock(d.geometry, l.image[at:]); ok && s.Log.Generation != 0 {
				l.log = s.Log
			}
		}
		out = append(out, l)
	}
	return out
}

// TestRepairTakesTheLogUp where nothing is damaged: the same as an open finds.
func TestRepairTakesTheLogUp(t *testing.T) {
	for _, l := range loggedImages(t) {
		t.Run(l.name, func(t *testing.T) {
			for _, reach := range []recovery.Reach{recovery.DamagedRanges, recovery.ReachableOnly} {
				have, r, err := repairedOf(t, l.heap(l.image), reach)
				require.NoError(t, err)
				require.Equal(t, l.want, have, "%+v", r)
				require.True(t, r.Complete, "%v", r.Problems)
				require.True(t, r.Metadata)
				require.Equal(t, 8*5+1, r.LogFrames)
				require.Equal(t, 8*5+3, r.LogChanges)
				require.Zero(t, r.Scanned)
				if l.rebooted {
					require.Contains(t, r.Root, "the log behind it")
					require.Equal(t, len(l.put), r.Logged)
					require.Equal(t, len(l.deleted), r.LogRemoved)
				} else {
					require.Zero(t, r.Logged, "the working root has it all")
					require.Zero(t, r.LogRemoved)
				}
			}
			tab := openOn(t, l.heap(l.image), pmem.Options{}, nil)
			require.Equal(t, l.want, contents(t, tab))
			require.NoError(t, tab.Close())
		})
	}
}

// TestRepairKeepsTheLogWhateverElseIsDamaged flips bits outside of the log and of some
// records: these records come back, and all that the log says last.
func TestRepairKeepsTheLogWhateverElseIsDamaged(t *testing.T) {
	t.Parallel()
	images := loggedImages(t)
	rapid.Check(t, func(t *rapid.T) {
		l := images[rapid.IntRange(0, len(images)-1).Draw(t, "image")]
		image := bytes.Clone(l.image)
		keys := rapid.Permutation(sortedKeys(l.want)).Draw(t, "keys")
		kept := keys[:rapid.IntRange(1, len(keys)).Draw(t, "k")]
		protected := make([]bool, len(image))
		for _, k := range kept {
			for i := l.places[k][0]; i < l.places[k][1]; i++ {
				protected[i] = true
			}
		}
		at := int(l.regions.Control + layout.ControlGeneration) // with both sessions gone, it tells whose log counts
		for i := range layout.WordBytes {
			protected[at+i] = true
		}
		from := layout.PageBytes // the header has a test of its own
		if rapid.Bool().Draw(t, "slots stay") {
			from = int(l.regions.Arena)
		}
		slots := 0
		rng := rapid.Uint64().Draw(t, "seed")
		for n := 1 << rapid.IntRange(0, 12).Draw(t, "flips"); n > 0; {
			rng = rng*6364136223846793005 + 1442695040888963407
			room := len(image) - from
			if from < int(l.regions.Arena) {
				room -= int(l.regions.Arena - l.regions.Log)
			}
			bit := int(rng >> 20 % uint64(room*8))
			at := from + bit/8
			if from < int(l.regions.Arena) && at >= int(l.regions.Log) {
				at += int(l.regions.Arena - l.regions.Log)
			}
			if n--; protected[at] {
				continue
			}
			if at >= int(l.regions.Superblock[0]) && at < int(l.regions.Log) {
				slots++
			}
			image[at] ^= 1 << (bit % 8)
		}
		have, r, err := repairedOf(t, l.heap(image), recovery.DamagedRanges)
		require.NoError(t, err)
		for _, k := range kept {
			if !l.put[k] {
				require.Equal(t, l.want[k], have[k], "key %x of the root; %+v", k, r)
			}
		}
		for k := range l.put {
			require.Equal(t, l.want[k], have[k], "key %x of the log; %+v", k, r)
		}
		if slots == 0 { // else nobody knows what of the log was in the tree already
			for _, k := range l.deleted {
				require.NotContains(t, have, k, "%+v", r)
			}
		}
	})
}

// TestRepairOfTheLogAlone: everything but the header, the control page and the log is
// gone; and a file that ends behind the log.
func TestRepairOfTheLogAlone(t *testing.T) {
	for _, l := range loggedImages(t) {
		t.Run(l.name, func(t *testing.T) {
			image := bytes.Clone(l.image)
			clear(image[l.regions.Session[0]:l.regions.Control])
			clear(image[l.regions.Intent:l.regions.Log])
			clear(image[l.regions.Arena:])
			for _, image := range [][]byte{image, image[:l.regions.Arena]} {
				have, r, err := repairedOf(t, l.heap(image), recovery.DamagedRanges)
				require.NoError(t, err)
				for k := range l.put {
					require.Equal(t, l.want[k], have[k])
				}
				require.False(t, r.Complete)
				require.Equal(t, r.Entries, r.Logged)
				for _, k := range l.deleted {
					require.NotContains(t, have, k)
				}
				have, _, err = repairedOf(t, l.heap(image), recovery.ReachableOnly)
				require.NoError(t, err)
				require.Empty(t, have, "no root says that the log goes on from it")
			}
		})
	}
}

// TestDamagedLog: of a frame that must have been whole, since another flush began behind
// it, an open says that it is damaged, and a repair passes it over. The last frame may
// be torn.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	l := loggedImages(t)[0]
	header, err := layout.DecodeHeader(l.image)
	require.NoError(t, err)
	ring := l.image[l.regions.Log:][:l.log.RingBytes]
	var frames []layout.Frame
	for at := l.log.Start; ; {
		f, ok := layout.ReadFrame(ring, header.HashSeed, l.log.Generation, at)
		if !ok {
			break
		}
		frames, at = append(frames, f), f.Next
	}
	require.Len(t, frames, 8*5+1)
	open := func(image []byte, readOnly bool) (map[string]string, error) {
		p, err := pmem.OpenHeap(l.heap(image), pmem.Options{ReadOnly: readOnly})
		require.NoError(t, err)
		tab, err := table.OpenPool(p, nil)
		if err != nil {
			return nil, err
		}
		defer tab.Close()
		return contents(t, tab), nil
	}
	for i, f := range frames {
		require.True(t, f.First, "one writer's flush is one frame")
		image := bytes.Clone(l.image)
		at := int(l.regions.Log+f.Position%uint64(len(ring))) + int(f.Next-f.Position)/2
		image[at] ^= 4
		for _, readOnly := range []bool{true, false} {
			have, err := open(image, readOnly)
			if i == len(frames)-1 {
				require.NoError(t, err)
				require.NotEqual(t, l.want[string(key(49))], have[string(key(49))], "the batch is its content")
				continue
			}
			require.ErrorIs(t, err, table.ErrCorrupt)
			require.ErrorContains(t, err, fmt.Sprintf("the frame at position %d is damaged", f.Position))
		}
		have, r, err := repairedOf(t, l.heap(image), recovery.DamagedRanges)
		require.NoError(t, err)
		require.Equal(t, len(frames)-1, r.LogFrames)
		require.Equal(t, i == len(frames)-1, r.Complete)
		wrong := 0
		for k := range l.put {
			if have[k] != l.want[k] {
				wrong++
			}
		}
		require.LessOrEqual(t, wrong, 1, "frame %d of %d", i, len(frames))
	}
}

// TestDamagedCommitBeforeTheLog: what the newest commit stored is damaged, so it looks
// like one that was cut off. The log that goes on from it proves that it was not.
func TestDamagedCommitBeforeTheLog(t *testing.T) {
	t.Parallel()
	l := loggedImages(t)[0]
	var slot *layout.Superblock
	var slotAt uint64
	for _, at := range l.regions.Superblock {
		if s, ok := layout.DecodeSuperblock(withLog(2, 512<<10), l.image[at:]); ok && s.Log.Generation != 0 {
			slot, slotAt = s, at
		}
	}
	require.NotEmpty(t, slot.Extents, "it is a commit of one sync")
	places := map[uint64]string{slotAt + layout.SuperRoots: "the slot of a commit is damaged"}
	for _, e := range slot.Extents {
		places[e.Offset+uint64(e.Bytes)/2] = fmt.Sprintf("what commit %d stored is damaged", slot.Sequence)
	}
	for at, says := range places {
		image := bytes.Clone(l.image)
		image[at] ^= 1
		p, err := pmem.OpenHeap(l.heap(image), pmem.Options{})
		require.NoError(t, err)
		_, err = table.OpenPool(p, nil)
		require.ErrorIs(t, err, table.ErrCorrupt)
		require.ErrorContains(t, err, says)
		have, r, err := repairedOf(t, l.heap(image), recovery.DamagedRanges)
		require.NoError(t, err)
		require.False(t, r.Complete)
		require.Equal(t, len(l.put), r.Logged)
		for k := range l.put {
			require.Equal(t, l.want[k], have[k])
		}
		clear(image[l.regions.Log:l.regions.Arena]) // without the log nothing is known of it
		require.NotContains(t, contents(t, openOn(t, l.heap(image), pmem.Options{ReadOnly: true}, nil)), string(key(100)))
	}
}

// TestRepairWithTheSeedOfTheHeader: the header is damaged, and frames of the log prove
// that its seed is not.
func TestRepairWithTheSeedOfTheHeader(t *testing.T) {
	l := loggedImages(t)[0]
	image := bytes.Clone(l.image)
	image[4091]++
	have, r, err := repairedOf(t, l.heap(image), recovery.DamagedRanges)
	require.NoError(t, err)
	require.Equal(t, l.want, have)
	require.False(t, r.Complete)
	copy(image[40:48], "anything")
	have, r, err = repairedOf(t, l.heap(image), recovery.DamagedRanges)
	require.NoError(t, err)
	require.Zero(t, r.LogFrames)
	require.Contains(t, fmt.Sprint(r.Problems), "header")
	for k := range l.places {
		require.Equal(t, l.want[k], have[k])
	}
}

// TestRepairOfACopiedFile goes through the file system: a copy of a file that is open
// counts as one that lost its power.
func TestRepairOfACopiedFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "copy"), filepath.Join(dir, "dst")
	tab, err := table.Open(filepath.Join(dir, "src"), &table.Options{Media: pmem.PageCache, Stripes: 2, LogSize: 1 << 20})
	require.NoError(t, err)
	defer tab.Close()
	require.NoError(t, tab.Put(key(0), []byte("in the root")))
	for i := range 20 {
		require.NoError(t, tab.Put(key(i), value(i, 100)))
	}
	require.NoError(t, tab.Delete(key(3)))
	image, err := os.ReadFile(filepath.Join(dir, "src"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(src, image, 0o600))
	r, err := table.Repair(src, dst, table.RepairOptions{})
	require.NoError(t, err)
	require.True(t, r.Complete, "%v", r.Problems)
	require.Equal(t, 21, r.LogChanges)
	require.Equal(t, 19, r.Logged)
	repaired, err := table.Open(dst, nil)
	require.NoError(t, err)
	require.Equal(t, contents(t, tab), contents(t, repaired))
	require.NoError(t, repaired.Close())
}
