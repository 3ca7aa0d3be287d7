package history

import (
	"strings"
	"testing"
	"time"
)

const testSeed = 11

// made is the state of a writer after n steps of one boot.
func made(writer int, n uint64, boot uint32) State {
	s := State{}
	for i := uint64(1); i <= n; i++ {
		apply(s, OpAt(testSeed, writer, i), Stamp{boot, i})
	}
	return s
}

// acknowledged is a table of two writers that made n steps each, one a millisecond,
// in turns.
func acknowledged(t *testing.T, p Promise, n uint64) *Table {
	table := NewTable("t", testSeed, p, 20*time.Millisecond, 2)
	for i := uint64(1); i <= n; i++ {
		for w := range 2 {
			end := time.Duration(2*i+uint64(w)) * time.Millisecond
			if err := Acknowledge([]*Table{table}, 0, w, Ack{N: i, Start: end - time.Millisecond/2, End: end}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return table
}

func TestAllIsThere(t *testing.T) {
	table := acknowledged(t, All, 300)
	v := table.Verify([]State{made(0, 300, 1), made(1, 300, 1)}, 1)
	if v.Lost != 0 || v.Kept != 600 || len(v.Problems) != 0 {
		t.Fatalf("%+v", v)
	}
	// One more step than was acknowledged is no mistake.
	if v := table.Verify([]State{made(0, 301, 1), made(1, 300, 1)}, 1); len(v.Problems) != 0 {
		t.Fatalf("%+v", v)
	}
}

func TestLossIsSeen(t *testing.T) {
	back := uint64(300) // to a step after which the state is another than after 300
	for back--; OpAt(testSeed, 1, back+1).Delete; back-- {
	}
	for name, c := range map[string]struct {
		promise  Promise
		a, b     uint64
		synced   uint64
		lost     bool
		problems string
	}{
		"all":                     {All, 300, back, 0, true, "is lost"},
		"recent, within":          {Recent, 298, 298, 0, false, ""},
		"recent, beyond":          {Recent, 200, 200, 0, true, "is lost"},
		"synced, behind":          {Synced, 200, 200, 190, false, ""},
		"synced, before":          {Synced, 200, 200, 280, true, "is lost"},
		"one writer gone further": {Synced, 300, 200, 0, false, "is missing, but"},
	} {
		t.Run(name, func(t *testing.T) {
			table := acknowledged(t, c.promise, 300)
			if err := table.Sync([]uint64{c.synced, c.synced}); err != nil {
				t.Fatal(err)
			}
			v := table.Verify([]State{made(0, c.a, 1), made(1, c.b, 1)}, 1)
			text := strings.Join(v.Problems, "\n")
			if (v.Lost > 0) != c.lost || (c.problems == "") != (text == "") || !strings.Contains(text, c.problems) {
				t.Fatalf("%+v", v)
			}
		})
	}
}

// TestWhatObligesInterval: a change that began an interval after a step had been
// acknowledged proves that the table had to have committed it, when it was
// acknowledged; a delete of an absent key, which waits for what it saw alone, proves
// nothing; and a change of another table only one that is committed, and much later.
func TestWhatObligesInterval(t *testing.T) {
	const d = 20 * time.Millisecond
	// Seeds by which writer 0 stores first, and writer 1 deletes or stores.
	find := func(deletes bool) uint64 {
		for seed := uint64(1); ; seed++ {
			if !OpAt(seed, 0, 1).Delete && OpAt(seed, 1, 1).Delete == deletes {
				return seed
			}
		}
	}
	stores, deletesAbsent := find(false), find(true)
	for name, c := range map[string]struct {
		seed  uint64
		table int // the other step's
		other Promise
		start time.Duration // of the other step; the lost one ended at 1 ms
		lost  bool
	}{
		"a change, an interval later":                   {stores, 0, All, time.Millisecond + d, true},
		"a change that began just before":               {stores, 0, All, d, false},
		"a delete of an absent key, and late":           {deletesAbsent, 0, All, time.Hour, false},
		"a commit of another table, an interval later":  {stores, 1, All, time.Millisecond + d, false},
		"a commit of another table, beyond the slack":   {stores, 1, All, time.Millisecond + d + Slack, true},
		"no commit of another table, though a change":   {stores, 1, Synced, time.Hour, false},
		"no change of another table, though it commits": {deletesAbsent, 1, All, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			tables := []*Table{NewTable("t", c.seed, Recent, d, 2), NewTable("other", c.seed, c.other, 0, 2)}
			for _, a := range []struct {
				table, writer int
				Ack
			}{
				{0, 0, Ack{N: 1, End: time.Millisecond}},
				// However late it is told of: the writer may have been stopped.
				{c.table, 1, Ack{N: 1, Start: c.start, End: c.start + time.Hour}},
			} {
				if err := Acknowledge(tables, a.table, a.writer, a.Ack); err != nil {
					t.Fatal(err)
				}
			}
			v := tables[0].Verify([]State{{}, {}}, 1)
			if (v.Lost > 0) != c.lost || (len(v.Problems) > 0) != c.lost {
				t.Fatalf("%+v", v)
			}
		})
	}
}

func TestWhatIsNoPrefix(t *testing.T) {
	missing := made(0, 300, 1) // an old key lost, newer ones there
	oldest := Stamp{1, 1 << 40}
	key := -1
	for k, s := range missing {
		if s.N < oldest.N {
			oldest, key = s, k
		}
	}
	delete(missing, key)
	foreign := made(0, 300, 1)
	foreign[key] = Stamp{7, oldest.N}
	future := made(0, 3000, 1)
	for name, found := range map[string]State{"hole": missing, "other boot": foreign, "future": future} {
		t.Run(name, func(t *testing.T) {
			v := acknowledged(t, Synced, 300).Verify([]State{found, made(1, 300, 1)}, 1)
			if len(v.Problems) == 0 || !strings.Contains(v.Problems[0], "no prefix") {
				t.Fatalf("%+v", v)
			}
		})
	}
}

// TestBoots: what a boot found is what the next one goes on from.
func TestBoots(t *testing.T) {
	table := acknowledged(t, All, 50)
	found := []State{made(0, 50, 1), made(1, 50, 1)}
	v := table.Verify(found, 1)
	table.Rebase(found, v.Prefix)
	n := v.Prefix[0] + 1
	if err := Acknowledge([]*Table{table}, 0, 0, Ack{N: n, Start: 1, End: 2}); err != nil {
		t.Fatal(err)
	}
	if err := Acknowledge([]*Table{table}, 0, 0, Ack{N: n + 2}); err == nil {
		t.Fatal("a gap in the acknowledgements")
	}
	apply(found[0], OpAt(testSeed, 0, n), Stamp{2, n})
	if v := table.Verify(found, 2); v.Lost != 0 || len(v.Problems) != 0 {
		t.Fatalf("%+v", v)
	}
}

func TestValues(t *testing.T) {
	for n := uint64(1); n < 2000; n++ {
		op := OpAt(testSeed, 0, n)
		if op.Delete {
			continue
		}
		s := Stamp{3, n}
		b := Value(testSeed, 0, s, op.Bytes)
		if have, err := ParseValue(testSeed, 0, op.Key, b); err != nil || have != s {
			t.Fatal(have, err)
		}
		b[len(b)-1]++
		if _, err := ParseValue(testSeed, 0, op.Key, b); err == nil {
			t.Fatal("a changed value passes")
		}
	}
	if _, _, err := ParseKey(Key(2, 17)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ParseKey([]byte("w2/17")); err == nil {
		t.Fatal("a key in another spelling passes")
	}
}
