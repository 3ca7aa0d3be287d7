package table_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// The failure looked for here: several writers at the same time, and a power cut
// at any instant of it loses what was acknowledged to one of them, or keeps a
// write of one and loses an earlier one of another.

// crew is writers of keys of their own, and what each of them did when.
type crew struct {
	tab     *table.Table
	clock   atomic.Int64 // moments
	synced  atomic.Int64 // all that was done before this moment is durable
	began   time.Time
	members []*member
}

type member struct {
	number int
	mu     sync.Mutex
	ops    []crewOp
}

// crewOp is a call: it took effect between two moments. end is 0 while it is under way.
type crewOp struct {
	begin, end     int64
	beginAt, endAt time.Duration // when that was
	stores         bool
}

const memberKeys = 12

// does is what the v-th op of a member does, counted from 1, as changes.
func (m *member) does(v int) diskChange {
	key := func(n int) string { return fmt.Sprintf("writer %d key %d", m.number, n%memberKeys) }
	value := func(i uint32) string { return string(told(uint32(m.number)<<8|i, uint32(v), 1+v%5)) }
	switch {
	case v%29 == 9: // too large for a small log
		return diskChange{puts: [][2]string{{key(v), string(told(uint32(m.number)<<8, uint32(v), 90))}}}
	case v%11 == 5:
		return diskChange{removes: []string{key(v * 7)}}
	case v%13 == 6:
		return diskChange{puts: [][2]string{{key(v), value(0)}, {key(v + 1), value(1)}, {key(v + 2), value(2)}}, removes: []string{key(v + 3)}}
	}
	return diskChange{puts: [][2]string{{key(v), value(0)}}}
}

func (c *crew) do(m *member, v int) error {
	ch := m.does(v)
	if len(ch.puts) == 1 {
		return c.tab.Put([]byte(ch.puts[0][0]), []byte(ch.puts[0][1]))
	}
	if len(ch.puts) == 0 {
		return c.tab.Delete([]byte(ch.removes[0]))
	}
	b := table.NewBatch()
	for _, kv := range ch.puts {
		b.Put([]byte(kv[0]), []byte(kv[1]))
	}
	b.Delete([]byte(ch.removes[0]))
	return c.tab.Apply(b)
}

// work goes on until stop; every so many ops it syncs, unless that is 0.
func (c *crew) work(m *member, stop *atomic.Bool, syncEvery int) error {
	for v := 1; !stop.Load(); v++ {
		m.mu.Lock()
		m.ops = append(m.ops, crewOp{begin: c.clock.Add(1), beginAt: time.Since(c.began), stores: len(m.does(v).puts) > 0})
		m.mu.Unlock()
		if err := c.do(m, v); err != nil {
			return err
		}
		m.mu.Lock()
		m.ops[v-1].end, m.ops[v-1].endAt = c.clock.Add(1), time.Since(c.began)
		m.mu.Unlock()
		if syncEvery > 0 && v%syncEvery == 0 {
			began := c.clock.Add(1)
			if err := c.tab.Sync(); err != nil {
				return err
			}
			for old := c.synced.Load(); old < began && !c.synced.CompareAndSwap(old, began); old = c.synced.Load() {
			}
		}
	}
	return nil
}

// crewCut is a power cut: what had to survive it, and what could.
type crewCut struct {
	image   []byte
	must    int64 // what ended before this moment
	could   int64 // what began before this moment
	history [][]crewOp
	// mustAt is the same for Interval: what ended by this time.
	mustAt time.Duration
}

// cut cuts the power. Unless interval is 0, what ended an interval before another
// op began that has stored something and ended must survive: that waited for it.
func (c *crew) cut(d *disk, r *rand.Rand, always bool, interval time.Duration) crewCut {
	k := crewCut{must: c.synced.Load(), mustAt: -1}
	if always {
		k.must = c.clock.Add(1)
	}
	for _, m := range c.members {
		m.mu.Lock()
		for _, o := range m.ops {
			if o.end != 0 && o.stores && interval > 0 {
				k.mustAt = max(k.mustAt, o.beginAt-interval)
			}
		}
		m.mu.Unlock()
	}
	k.image = d.cutNow(r)
	k.could = c.clock.Add(1)
	for _, m := range c.members {
		m.mu.Lock()
		k.history = append(k.history, append([]crewOp(nil), m.ops...))
		m.mu.Unlock()
	}
	return k
}

// judge opens what a cut left.
func (c *crew) judge(d *disk, k crewCut) error {
	after := d.after(k.image)
	tab, err := after.open(nil)
	if err != nil {
		return err
	}
	defer kill(tab)
	have, err := readState(tab)
	if err != nil {
		return err
	}
	kept, lost := int64(0), int64(1)<<62 // when the last op that is there began, the first that is not ended
	found := 0
	for i, m := range c.members {
		least, most := 0, 0
		for v, o := range k.history[i] {
			if o.end != 0 && (o.end < k.must || o.endAt <= k.mustAt) {
				least = v + 1
			}
			if o.begin < k.could {
				most = v + 1
			}
		}
		first, last, size, err := m.prefix(have, least, most)
		if err != nil {
			return err
		}
		found += size
		if first > 0 {
			kept = max(kept, k.history[i][first-1].begin)
		}
		if last < len(k.history[i]) && k.history[i][last].end != 0 {
			lost = min(lost, k.history[i][last].end)
		}
	}
	if lost < kept {
		return fmt.Errorf("an op that ended at %d is lost, one that began at %d is there", lost, kept)
	}
	if found != len(have.entries) {
		return fmt.Errorf("%d entries, of which the writers wrote %d", len(have.entries), found)
	}
	return tab.Put([]byte("afterwards"), nil)
}

// prefix finds the ops of a member that are there: those up to some one. Several
// may fit, from first to last.
func (m *member) prefix(have diskState, least, most int) (first, last, size int, err error) {
	s := diskState{entries: map[string]string{}}
	first = -1
	for v := 0; v <= most; v++ {
		if v > 0 {
			m.does(v).apply(&s)
		}
		if v < least {
			continue
		}
		same := true
		n := 0
		for i := range memberKeys {
			k := fmt.Sprintf("writer %d key %d", m.number, i)
			want, in := s.entries[k]
			got, there := have.entries[k]
			same = same && want == got && in == there
			if there {
				n++
			}
		}
		if same {
			if first < 0 {
				first = v
			}
			last, size = v, n
		}
	}
	if first < 0 {
		return 0, 0, 0, fmt.Errorf("writer %d: what is there are not its first %d to %d ops", m.number, least, most)
	}
	return first, last, size, nil
}

func TestPowerCutsUnderSeveralWriters(t *testing.T) {
	t.Parallel()
	const short = 2 * time.Millisecond
	for _, c := range []struct {
		durability table.Durability
		syncEvery  int
		interval   time.Duration
		slowest    time.Duration // that a sync may be
	}{
		{table.Always, 0, 0, 0}, {table.OnSync, 40, 0, 0}, {table.Interval(short), 100, short, 0},
		{table.Interval(short), 0, short, 4 * short}, {table.Interval(time.Hour), 0, 0, 0},
	} {
		t.Run(fmt.Sprintf("%v, syncs of up to %v", c.durability, c.slowest), func(t *testing.T) {
			r := seeded(t)
			for range rounds(6, 2) {
				d := newDisk(formatted(t, withLog(4, logSizes[r.IntN(len(logSizes))])), 4<<20, 0)
				jitter := rand.New(rand.NewPCG(r.Uint64(), 0))
				var mu sync.Mutex
				d.beforeSync = func(_ int, whole bool) error { // a medium that takes its time
					mu.Lock()
					pause := jitter.IntN(4)
					mu.Unlock()
					if whole {
						time.Sleep(time.Duration(pause) * 200 * time.Microsecond)
					}
					return nil
				}
				tab, err := d.open(&table.Options{Durability: c.durability})
				require.NoError(t, err)
				d.beforeSync = func(n int, _ bool) error { time.Sleep(c.slowest * time.Duration(n%4) / 3); return nil }
				cr := &crew{tab: tab, began: time.Now()}
				var wg sync.WaitGroup
				var stop atomic.Bool
				for i := range 4 {
					m := &member{number: i}
					cr.members = append(cr.members, m)
					wg.Go(func() { assert.NoError(t, cr.work(m, &stop, c.syncEvery)) })
				}
				var cuts []crewCut
				for i := range 25 {
					for cr.clock.Load() < int64(i*100) && !t.Failed() {
						time.Sleep(20 * time.Microsecond)
					}
					cuts = append(cuts, cr.cut(d, r, c.durability == table.Always, c.interval))
				}
				stop.Store(true)
				wg.Wait()
				kill(tab)
				for i, k := range cuts {
					require.NoError(t, cr.judge(d, k), "cut %d of %d", i, len(cuts))
				}
			}
		})
	}
}
