package fsm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/contrib/raft/fsm"
	"pmemtable/table"
)

var quick = &table.Options{Durability: table.OnSync, MaxSize: 1 << 30, Stripes: 4}

// errRefused is the response of an entry that says so.
var errRefused = errors.New("refused")

// script is a Command for tests: the data is a list of words, "set k v", "del k",
// "add k" (which counts), "get k", "fail", "many n", "long n".
func script(tx *fsm.Tx, entry *raft.Log) (any, error) {
	var out []string
	words := bytes.Fields(entry.Data)
	next := func() []byte {
		w := words[0]
		words = words[1:]
		return w
	}
	number := func() (n int) {
		_, _ = fmt.Sscan(string(next()), &n)
		return n
	}
	for len(words) > 0 {
		switch string(next()) {
		case "set":
			k := next()
			tx.Put(k, next())
		case "del":
			tx.Delete(next())
		case "add":
			k := next()
			n := uint64(0)
			if v, ok := tx.Get(k); ok {
				n = binary.BigEndian.Uint64(v)
			}
			tx.Put(k, binary.BigEndian.AppendUint64(nil, n+1))
		case "get":
			if v, ok := tx.Get(next()); ok {
				out = append(out, string(v))
			} else {
				out = append(out, "none")
			}
		case "fail":
			return nil, errRefused
		case "many":
			for i := range number() {
				tx.Put(fmt.Append(nil, "many", i), nil)
			}
		case "long":
			tx.Put(make([]byte, number()), nil)
		}
	}
	return out, nil
}

// machine is an FSM on a table in a file that can be reopened.
type machine struct {
	*fsm.FSM
	path string
}

func newMachine(t testing.TB) *machine {
	m := &machine{path: filepath.Join(t.TempDir(), "state.pmt")}
	m.open(t)
	t.Cleanup(func() { _ = m.Table().Close() })
	return m
}

func (m *machine) open(t require.TestingT) {
	tab, err := table.Open(m.path, quick)
	require.NoError(t, err)
	m.FSM, err = fsm.New(tab, script)
	require.NoError(t, err)
}

func (m *machine) reopen(t require.TestingT) {
	require.NoError(t, m.Table().Close())
	m.open(t)
}

func entry(index uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/10, Data: []byte(data)}
}

func (m *machine) contents(t require.TestingT) map[string]string {
	have := make(map[string]string)
	for k, v := range m.Table().All() {
		have[string(k)] = string(v)
	}
	require.NoError(t, m.Table().Err())
	return have
}

func (m *machine) snapshotBytes(t require.TestingT) []byte {
	s, err := m.Snapshot()
	require.NoError(t, err)
	defer s.Release()
	var sink sink
	require.NoError(t, s.Persist(&sink))
	require.True(t, sink.closed)
	return sink.Bytes()
}

// sink is a raft.SnapshotSink in memory.
type sink struct {
	bytes.Buffer
	failAt            int
	closed, cancelled bool
}

var errSink = errors.New("the sink is broken")

func (s *sink) Write(b []byte) (int, error) {
	if s.failAt > 0 && s.Len() >= s.failAt {
		return 0, errSink
	}
	return s.Buffer.Write(b)
}
func (s *sink) ID() string    { return "" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }

func TestEntriesOfABatchSeeEachOther(t *testing.T) {
	m := newMachine(t)
	require.Equal(t, []any{[]string(nil), []string{"1"}, errRefused, []string{"1", "none"}, nil, []string{"none"}}, m.ApplyBatch([]*raft.Log{
		entry(1, "set a 1"),
		entry(2, "get a set b 2"),
		entry(3, "del a set c 3 fail"), // leaves nothing behind
		entry(4, "get a get c"),
		{Index: 5, Term: 1, Type: raft.LogConfiguration, Data: []byte("set x y")},
		entry(6, "del a get a"),
	}))
	require.Equal(t, map[string]string{"b": "2"}, m.contents(t))
	index, term := m.Applied()
	require.Equal(t, uint64(6), index)
	require.Equal(t, uint64(1), term)
}

func TestAnEntryIsAppliedOnce(t *testing.T) {
	m := newMachine(t)
	for i := uint64(1); i <= 5; i++ {
		m.Apply(entry(i, "add n"))
	}
	m.reopen(t)
	responses := m.ApplyBatch([]*raft.Log{entry(4, "add n"), entry(5, "add n get n"), entry(6, "add n get n")})
	require.Equal(t, []any{nil, nil, []string{string(binary.BigEndian.AppendUint64(nil, 6))}}, responses)
	require.Nil(t, m.Apply(entry(6, "add n get n")))
	require.Equal(t, uint64(6), binary.BigEndian.Uint64([]byte(m.contents(t)["n"])))
}

// TestLimits: what one entry may not do fails on every node alike, and only it.
func TestLimits(t *testing.T) {
	m := newMachine(t)
	responses := m.ApplyBatch([]*raft.Log{
		entry(1, "set a 1 many 1000"), // and a: one too many
		entry(2, "long 65536"),
		entry(3, "long 65535 set b 2"),
		entry(4, "many 1000"),
	})
	require.ErrorIs(t, responses[0].(error), table.ErrTooLarge)
	require.ErrorIs(t, responses[1].(error), table.ErrTooLarge)
	require.Equal(t, []string(nil), responses[2])
	require.Equal(t, []string(nil), responses[3])
	require.Equal(t, 1002, m.Table().Len())
	require.NoError(t, m.Err())
}

// TestManyEntries take several batches.
func TestManyEntries(t *testing.T) {
	m := newMachine(t)
	var entries []*raft.Log
	for i := uint64(1); i <= 5000; i++ {
		entries = append(entries, entry(i, fmt.Sprintf("set k%d %d add n", i, i)))
	}
	for _, r := range m.ApplyBatch(entries) {
		require.Equal(t, []string(nil), r)
	}
	require.Equal(t, 5001, m.Table().Len())
	require.Equal(t, uint64(5000), binary.BigEndian.Uint64([]byte(m.contents(t)["n"])))
}

func TestSnapshotAndRestore(t *testing.T) {
	m, other := newMachine(t), newMachine(t)
	m.ApplyBatch([]*raft.Log{entry(1, "set a 1"), entry(2, "set b 2")})
	frozen, err := m.Snapshot()
	require.NoError(t, err)
	m.Apply(entry(3, "set c 3 del a"))
	var first sink
	require.NoError(t, frozen.Persist(&first))
	frozen.Release()
	frozen.Release()

	other.ApplyBatch([]*raft.Log{entry(1, "set x 1"), entry(2, "set y 2"), entry(3, "set z 3")})
	require.NoError(t, other.FSM.Restore(io.NopCloser(&first.Buffer)))
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, other.contents(t))
	index, _ := other.Applied()
	require.Equal(t, uint64(2), index)
	require.Equal(t, uint64(1), other.Restores())
	other.reopen(t)
	other.Apply(entry(3, "set c 3 del a"))
	require.Equal(t, m.contents(t), other.contents(t))
	require.Equal(t, m.snapshotBytes(t)[:40], other.snapshotBytes(t)[:40], "the header and the position")

	broken := sink{failAt: 10}
	frozen, err = m.Snapshot()
	require.NoError(t, err)
	defer frozen.Release()
	require.ErrorIs(t, frozen.Persist(&broken), errSink)
	require.True(t, broken.cancelled)
	require.False(t, broken.closed)
}

// TestNoSnapshotOfTheFuture: after a restart raft gives entries again, and calls a
// snapshot by the index of the last one that it gave.
func TestNoSnapshotOfTheFuture(t *testing.T) {
	m := newMachine(t)
	m.ApplyBatch([]*raft.Log{entry(1, "set a 1"), entry(2, "set b 2")})
	m.reopen(t)
	for i := uint64(0); i < 2; i++ {
		_, err := m.Snapshot()
		require.ErrorContains(t, err, fmt.Sprintf("raft is at entry %d, the state at 2", i))
		m.Apply(entry(i+1, "set a 1"))
	}
	m.snapshotBytes(t)
}

// TestBadSnapshots leave the state as it was.
func TestBadSnapshots(t *testing.T) {
	m := newMachine(t)
	m.Apply(entry(1, "set a 1"))
	stream := m.snapshotBytes(t)
	m.Apply(entry(2, "set b 2"))
	want := m.contents(t)
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		stream io.Reader
		want   error
	}{
		"empty":          {bytes.NewReader(nil), table.ErrBadBackup},
		"of another":     {bytes.NewReader(bytes.Repeat([]byte("x"), 100)), table.ErrBadBackup},
		"cut off":        {bytes.NewReader(stream[:len(stream)-1]), table.ErrBadBackup},
		"cut early":      {bytes.NewReader(stream[:5]), table.ErrBadBackup},
		"broken":         {iotest.ErrReader(broken), broken},
		"broken in half": {io.MultiReader(bytes.NewReader(stream[:len(stream)/2]), iotest.ErrReader(broken)), broken},
	} {
		require.ErrorIs(t, m.FSM.Restore(io.NopCloser(test.stream)), test.want, name)
		require.Equal(t, want, m.contents(t))
		require.NoError(t, m.Err())
		index, _ := m.Applied()
		require.Equal(t, uint64(2), index)
	}
}

// TestHolds: raft must restore its newest snapshot at start if the table is behind.
func TestHolds(t *testing.T) {
	m := newMachine(t)
	snapshots := raft.NewInmemSnapshotStore()
	holds := func() bool {
		ok, err := m.Holds(snapshots)
		require.NoError(t, err)
		return ok
	}
	require.True(t, holds(), "there is none")
	m.ApplyBatch([]*raft.Log{entry(1, "set a 1"), entry(2, "set b 2")})
	s, err := snapshots.Create(1, 2, 1, raft.Configuration{}, 1, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.True(t, holds(), "it is of this state")
	s, err = snapshots.Create(1, 3, 1, raft.Configuration{}, 1, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.False(t, holds(), "it is ahead")
	m.Apply(entry(3, ""))
	require.True(t, holds())
}

// TestForeignTable: a table of something else is refused.
func TestForeignTable(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "other.pmt"), quick)
	require.NoError(t, err)
	defer func() { require.NoError(t, tab.Close()) }()
	require.NoError(t, tab.Put([]byte("some"), []byte("thing")))
	_, err = fsm.New(tab, script)
	require.ErrorContains(t, err, "entries of something else")
	b := table.NewBatch()
	b.SetMetadata([]byte("hello"))
	require.NoError(t, tab.Apply(b))
	_, err = fsm.New(tab, script)
	require.ErrorContains(t, err, "metadata record")
}

// TestFailure: a table that takes no more entries stops the state machine, at an
// entry, and a Restore gets it going again.
func TestFailure(t *testing.T) {
	tab, err := table.Open(filepath.Join(t.TempDir(), "state.pmt"), &table.Options{Durability: table.OnSync, MaxSize: 2 << 20, Stripes: 1, LogSize: -1})
	require.NoError(t, err)
	defer func() { require.NoError(t, tab.Close()) }()
	m, err := fsm.New(tab, func(tx *fsm.Tx, e *raft.Log) (any, error) {
		tx.Put(binary.BigEndian.AppendUint64(nil, e.Index), make([]byte, 300_000))
		return "done", nil
	})
	require.NoError(t, err)
	fails := 0
	m.OnFail(func(err error) {
		fails++
		require.ErrorIs(t, err, table.ErrFull)
	})
	s, err := m.Snapshot()
	require.NoError(t, err)
	var empty sink
	require.NoError(t, s.Persist(&empty))
	s.Release()

	last := uint64(0)
	for i := uint64(1); ; i++ {
		if r := m.Apply(entry(i, "")); r != "done" {
			require.ErrorIs(t, r.(error), table.ErrFull)
			break
		}
		last = i
	}
	require.NotZero(t, last)
	require.ErrorIs(t, m.Err(), table.ErrFull)
	for _, r := range m.ApplyBatch([]*raft.Log{entry(last+2, ""), entry(last+3, "")}) {
		require.ErrorIs(t, r.(error), table.ErrFull)
	}
	_, err = m.Snapshot()
	require.ErrorIs(t, err, table.ErrFull)
	index, _ := m.Applied()
	require.Equal(t, last, index)
	require.Equal(t, int(last), tab.Len())
	require.Equal(t, 1, fails)

	require.NoError(t, m.Restore(io.NopCloser(&empty.Buffer)))
	require.NoError(t, m.Err())
	require.Equal(t, "done", m.Apply(entry(1, "")))
}

func TestClosedTable(t *testing.T) {
	m := newMachine(t)
	require.NoError(t, m.Table().Close())
	require.ErrorIs(t, m.Apply(entry(1, "add n")).(error), table.ErrClosed)
	_, err := m.Snapshot()
	require.ErrorIs(t, err, table.ErrClosed)
	require.ErrorIs(t, m.FSM.Restore(io.NopCloser(bytes.NewReader(nil))), table.ErrBadBackup)
}

// TestLikeAMap applies random entries in random groups, again from earlier indices as
// raft does after a restart, with snapshots, and compares with a map that applies
// each once.
func TestLikeAMap(t *testing.T) {
	rapid.Check(t, func(run *rapid.T) {
		m := newMachine(t)
		var entries []*raft.Log
		states := []map[string]string{{}} // by index
		responses := []any{nil}
		word := rapid.SampledFrom([]string{"set a 1", "set b 2", "del a", "del b", "get a", "get b", "add n", "get n", "add m", "fail"})
		draw := func(t *rapid.T) {
			data := ""
			for _, w := range rapid.SliceOfN(word, 1, 4).Draw(t, "words") {
				data += w + " "
			}
			e := entry(uint64(len(entries)+1), data)
			entries = append(entries, e)
			state, response := oneByOne(states[len(states)-1], e)
			states, responses = append(states, state), append(responses, response)
		}
		var snapshot []byte
		applied := 0
		run.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				from := rapid.IntRange(max(0, applied-5), applied).Draw(t, "from") // some again
				for range rapid.IntRange(1, 5).Draw(t, "entries") {
					draw(t)
				}
				got := m.ApplyBatch(entries[from:])
				for i := range got {
					if from+i < applied {
						require.Nil(t, got[i])
					} else {
						require.Equal(t, responses[from+i+1], got[i])
					}
				}
				applied = len(entries)
			},
			"reopen": func(t *rapid.T) { m.reopen(t) },
			"snapshot": func(t *rapid.T) {
				if applied > 0 { // after reopening, as raft does
					m.Apply(entries[applied-1])
				}
				snapshot = m.snapshotBytes(t)
			},
			"restore": func(t *rapid.T) {
				if snapshot == nil {
					return
				}
				require.NoError(t, m.FSM.Restore(io.NopCloser(bytes.NewReader(snapshot))))
				index, _ := m.Applied()
				applied = int(index)
				entries, states, responses = entries[:applied], states[:applied+1], responses[:applied+1]
			},
			"": func(t *rapid.T) {
				require.Equal(t, states[applied], m.contents(t))
				index, _ := m.Applied()
				require.Equal(t, uint64(applied), index)
			},
		})
	})
}

// oneByOne is what script does to a map.
func oneByOne(before map[string]string, e *raft.Log) (after map[string]string, response any) {
	after = maps.Clone(before)
	var out []string
	words := bytes.Fields(e.Data)
	for i := 0; i < len(words); {
		word, key := string(words[i]), ""
		if word == "fail" {
			return before, errRefused
		}
		key = string(words[i+1])
		i += 2
		switch word {
		case "set":
			after[key] = string(words[i])
			i++
		case "del":
			delete(after, key)
		case "add":
			n := uint64(0)
			if v, ok := after[key]; ok {
				n = binary.BigEndian.Uint64([]byte(v))
			}
			after[key] = string(binary.BigEndian.AppendUint64(nil, n+1))
		case "get":
			v, ok := after[key]
			if !ok {
				v = "none"
			}
			out = append(out, v)
		}
	}
	return after, out
}
