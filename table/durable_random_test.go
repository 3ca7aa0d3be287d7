package table_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// The failure looked for here: after a power cut on a page cache, the table does
// not open, is damaged, has lost what was acknowledged as durable, or shows a
// later write without an earlier one.

// life is one table that lives through many sessions, kills and power cuts.
type life struct {
	t          *testing.T
	r          *rand.Rand
	durability table.Durability
	disk       *disk
	tab        *table.Table
	history    diskHistory
	snaps      []frozenState
	steps      int
	keys       int
	counts     map[string]int
}

type frozenState struct {
	snap *table.Snapshot
	want diskState
}

func newLife(t *testing.T, r *rand.Rand, d table.Durability, stripes int) *life {
	l := &life{t: t, r: r, durability: d, keys: 20 + r.IntN(150), counts: map[string]int{}}
	l.disk = newDisk(formatted(t, withLog(stripes, logSizes[r.IntN(len(logSizes))])), 3<<20, 0)
	l.history.base = diskState{entries: map[string]string{}}
	l.open()
	return l
}

// logSizes are none, one that is full all the time, and one that grows.
var logSizes = []int{-1, 4 << 10, 64 << 10}

func (l *life) open() {
	var err error
	l.tab, err = l.disk.open(&table.Options{Durability: l.durability})
	require.NoError(l.t, err)
}

func (l *life) key() []byte { return fmt.Appendf(nil, "key %d", l.r.IntN(l.keys)) }

func (l *life) value() []byte {
	l.steps++
	n := l.r.IntN(12)
	switch l.r.IntN(40) {
	case 0:
		n = 400 // a run of several chunks
	case 1, 2:
		n = 100
	}
	return told(uint32(l.steps), uint32(l.steps), n)
}

// batch makes a batch, and the change that it is.
func (l *life) batch() (*table.Batch, diskChange) {
	b, c := table.NewBatch(), diskChange{what: "batch"}
	for _, i := range l.r.Perm(l.keys)[:1+l.r.IntN(8)] {
		k := fmt.Appendf(nil, "key %d", i)
		if l.r.IntN(3) == 0 {
			b.Delete(k)
			c.removes = append(c.removes, string(k))
			continue
		}
		v := l.value()
		b.Put(k, v)
		c.puts = append(c.puts, [2]string{string(k), string(v)})
	}
	if l.r.IntN(2) == 0 {
		c.setMeta, c.meta = true, fmt.Sprintf("applied %d", l.steps)
		b.SetMetadata([]byte(c.meta))
	}
	return b, c
}

// write does one mutating call, and returns the change that it makes.
func (l *life) write() (diskChange, error) {
	k := l.key()
	switch n := l.r.IntN(100); {
	case n < 50:
		v := l.value()
		return diskChange{what: "put", puts: [][2]string{{string(k), string(v)}}}, l.tab.Put(k, v)
	case n < 70:
		return diskChange{what: "delete", removes: []string{string(k)}}, l.tab.Delete(k)
	case n < 85:
		b, c := l.batch()
		return c, l.tab.Apply(b)
	case n < 98:
		var keys, values [][]byte
		c := diskChange{what: "put of many", loose: true}
		for range 1 + l.r.IntN(40) {
			k, v := l.key(), l.value()
			keys, values = append(keys, k), append(values, v)
			c.puts = append(c.puts, [2]string{string(k), string(v)})
		}
		return c, l.tab.PutMany(keys, values)
	default:
		return diskChange{what: "clear", clear: true}, l.tab.Clear()
	}
}

// acknowledged notes what a power cut may not take back any more.
func (l *life) acknowledged() {
	if l.durability == table.Always {
		l.history.settled()
	}
}

func (l *life) step() {
	switch n := l.r.IntN(100); {
	case n < 80:
		c, err := l.write()
		require.NoError(l.t, err)
		l.history.add(c)
		l.acknowledged()
	case n < 84:
		l.counts["sync"]++
		require.NoError(l.t, l.tab.Sync())
		l.history.settled()
	case n < 88:
		l.snapshot()
	case n < 91:
		l.counts["kill"]++
		l.kill()
	case n < 93:
		l.counts["close"]++
		l.closeSnaps()
		require.NoError(l.t, l.tab.Close())
		l.history.settled()
		l.open()
		l.look()
	case n < 94:
		l.counts["compact"]++
		require.NoError(l.t, l.tab.Compact())
	default:
		l.counts["cut"]++
		l.cut()
	}
}

// snapshot makes a snapshot, or looks whether an old one still is as it was.
func (l *life) snapshot() {
	if len(l.snaps) < 3 && l.r.IntN(2) == 0 {
		s, err := l.tab.Snapshot()
		require.NoError(l.t, err)
		l.snaps = append(l.snaps, frozenState{s, l.history.current()})
		return
	}
	if len(l.snaps) == 0 {
		return
	}
	f := l.snaps[0]
	have := diskState{entries: map[string]string{}}
	for k, v := range f.snap.All() {
		have.entries[string(k)] = string(v)
	}
	require.NoError(l.t, f.snap.Err())
	meta, err := f.snap.Metadata()
	require.NoError(l.t, err)
	have.meta = string(meta)
	require.Empty(l.t, diffOf(f.want, have), "a snapshot changed")
	require.Equal(l.t, len(have.entries), f.snap.Len())
	require.NoError(l.t, f.snap.Close())
	l.snaps = l.snaps[1:]
}

func (l *life) closeSnaps() {
	for _, f := range l.snaps {
		require.NoError(l.t, f.snap.Close())
	}
	l.snaps = nil
}

// look checks that the table holds the last state of the history.
func (l *life) look() {
	have, err := readState(l.tab)
	require.NoError(l.t, err)
	require.Empty(l.t, diffOf(l.history.current(), have))
}

// kill ends the process, and not the machine: all that was stored is there. It
// comes between two calls, or inside of one, or of an open.
func (l *life) kill() {
	if trap, before := l.crash(true); trap.disk != nil {
		l.disk = trap.disk
		l.reopenInside(before)
		return
	}
	kill(l.tab)
	l.open()
	if l.r.IntN(2) == 0 { // else the session after next meets what was not counted
		l.look()
	}
}

// crash sets a trap, for a call or for an open, and ends what uses the table. It
// returns how many changes had been made before.
func (l *life) crash(kills bool) (t *trap, before int) {
	l.snaps = nil
	before = len(l.history.changes)
	inOpen := l.r.IntN(3) == 0
	if inOpen {
		kill(l.tab)
	}
	t = l.disk.arm(l.r, kills)
	done := func() {}
	switch {
	case inOpen:
		l.open()
		<-l.tab.Pool().Swept()
	case l.r.IntN(3) == 0:
		require.NoError(l.t, l.tab.Sync())
		done = l.history.settled
	default:
		c, err := l.write()
		require.NoError(l.t, err)
		l.history.add(c)
		done = l.acknowledged
	}
	if l.disk.disarm() {
		kill(l.tab)
	} else { // nothing was stored where the trap was
		done()
	}
	return t, before
}

// reopenInside opens what a kill in the middle of a call left: the state before
// some of the call's changes.
func (l *life) reopenInside(before int) {
	l.open()
	have, err := readState(l.tab)
	require.NoError(l.t, err)
	require.NoError(l.t, l.history.rewind(have, before))
}

// cut is a power cut: between two calls, inside of one, or inside of the open that
// follows a kill.
func (l *life) cut() {
	var image []byte
	if l.r.IntN(4) > 0 {
		t, _ := l.crash(false)
		image = t.image
	}
	if image == nil {
		image = l.disk.cutNow(l.r)
		l.snaps = nil
		kill(l.tab)
	}
	l.disk = l.disk.after(image)
	for l.r.IntN(3) == 0 { // in the middle of the open that follows, too
		l.counts["cut in open"]++
		trap := l.disk.arm(l.r, l.r.IntN(2) == 0)
		l.open()
		<-l.tab.Pool().Swept()
		crashed := l.disk.disarm()
		kill(l.tab)
		switch {
		case !crashed: // nothing was stored where the trap was
			l.disk = l.disk.after(l.disk.cutNow(l.r))
		case trap.disk != nil:
			l.disk = trap.disk
		default:
			l.disk = l.disk.after(trap.image)
		}
	}
	l.open()
	have, err := readState(l.tab)
	require.NoError(l.t, err)
	require.NoError(l.t, l.history.resume(have))
}

func TestPowerCutsLeaveAPrefix(t *testing.T) {
	t.Parallel()
	for _, d := range []table.Durability{table.Always, table.OnSync, table.Interval(3 * time.Millisecond), table.Interval(time.Hour)} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			r := seeded(t)
			for range rounds(12, 2) {
				l := newLife(t, r, d, 1<<r.IntN(3))
				for range 400 {
					l.step()
				}
				l.closeSnaps()
				require.NoError(t, l.tab.Close())
				l.history.settled()
				l.disk = l.disk.after(l.disk.cutNow(r))
				l.open()
				require.Contains(t, l.tab.Stats().OpenedFrom, "closed in order")
				l.look()
				require.NoError(t, l.tab.Close())
			}
		})
	}
}
