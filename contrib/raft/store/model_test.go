package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"pmemtable/contrib/raft/store"
	"pmemtable/table"
)

// both is what the references and the store have in common.
type both interface {
	raft.LogStore
	raft.StableStore
}

// pair is a store under test beside a reference that the same is done to.
type pair struct {
	path      string
	store     *store.Store
	reference both
	limit     int
	highest   uint64 // index that was ever used
}

// directory is for the files of one run of a property.
func directory(t *testing.T, run *rapid.T) string {
	dir, err := os.MkdirTemp(t.TempDir(), "")
	require.NoError(run, err)
	run.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newPair returns a pair whose store is closed when t ends.
func newPair(t *rapid.T, dir string, reference both) *pair {
	p := &pair{
		path:      filepath.Join(dir, "raft.pmt"),
		reference: reference,
		limit:     rapid.IntRange(1, 6).Draw(t, "changes a batch"),
	}
	p.open(t)
	t.Cleanup(func() { _ = p.store.Close() })
	return p
}

func (p *pair) open(t *rapid.T) {
	s, err := store.Open(p.path, &table.Options{Durability: table.OnSync, MaxSize: 1 << 28, SegmentSize: 512})
	require.NoError(t, err)
	s.LimitChanges(p.limit)
	p.store = s
}

func (p *pair) storeLogs(t *rapid.T, logs []*raft.Log) {
	err := p.store.StoreLogs(logs)
	if last, _ := p.reference.LastIndex(); len(logs) > p.limit && lowest(logs) <= last {
		require.ErrorIs(t, err, table.ErrTooLarge)
		return
	}
	require.NoError(t, err)
	require.NoError(t, p.reference.StoreLogs(logs))
	for _, l := range logs {
		p.highest = max(p.highest, l.Index)
	}
}

func lowest(logs []*raft.Log) uint64 {
	n := logs[0].Index
	for _, l := range logs {
		n = min(n, l.Index)
	}
	return n
}

func (p *pair) deleteRange(t *rapid.T, from, to uint64) {
	require.NoError(t, p.store.DeleteRange(from, to))
	require.NoError(t, p.reference.DeleteRange(from, to))
}

// check compares all that can be read.
func (p *pair) check(t *rapid.T) {
	for name, index := range map[string]func(raft.LogStore) (uint64, error){
		"first": raft.LogStore.FirstIndex, "last": raft.LogStore.LastIndex,
	} {
		want, err := index(p.reference)
		require.NoError(t, err)
		got, err := index(p.store)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
	}
	var logs []*raft.Log
	stable := 0
	for i := uint64(0); i <= p.highest+1; i++ {
		var want, got raft.Log
		wantErr := p.reference.GetLog(i, &want)
		require.Equal(t, wantErr, p.store.GetLog(i, &got), "entry %d", i)
		if wantErr == nil {
			logs = append(logs, &want)
			require.Equal(t, want, got)
		}
	}
	for _, key := range stableKeys {
		want, wantErr := p.reference.Get([]byte(key))
		got, err := p.store.Get([]byte(key))
		if require.Equal(t, wantErr == nil, err == nil, "%v, %v", wantErr, err); err == nil {
			stable++
			require.Equal(t, want, got)
		} else {
			require.EqualError(t, err, wantErr.Error())
		}
	}
	requireNothingElse(t, p.store, logs, stable)
}

var stableKeys = []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"}

// actions are those of the log, and with them those that all properties have.
func (p *pair) actions(log map[string]func(*rapid.T)) map[string]func(*rapid.T) {
	log["Set"] = func(t *rapid.T) {
		key := []byte(rapid.SampledFrom(stableKeys).Draw(t, "key"))
		value := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "value")
		require.NoError(t, p.store.Set(key, value))
		require.NoError(t, p.reference.Set(key, value))
	}
	log["reopen"] = func(t *rapid.T) {
		require.NoError(t, p.store.Close())
		p.open(t)
	}
	log[""] = p.check
	return log
}

func drawEntry(t *rapid.T, index uint64) *raft.Log {
	l := &raft.Log{Index: index, Term: rapid.Uint64().Draw(t, "term"), Type: raft.LogType(rapid.IntRange(0, 5).Draw(t, "type"))}
	if size := rapid.SampledFrom([]int{0, 1, 50, 1200}).Draw(t, "size"); size > 0 {
		l.Data = make([]byte, size)
		l.Data[0] = rapid.Byte().Draw(t, "data")
	}
	return l
}

// TestLikeInmemStore does what raft does, appending, cutting either end off, to the
// store and to raft's own in-memory one.
func TestLikeInmemStore(t *testing.T) {
	rapid.Check(t, func(run *rapid.T) {
		p := newPair(run, directory(t, run), raft.NewInmemStore())
		ends := func() (first, last uint64) {
			first, _ = p.reference.FirstIndex()
			last, _ = p.reference.LastIndex()
			return first, last
		}
		run.Repeat(p.actions(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				_, last := ends()
				if last == 0 && p.highest > 0 { // behind a snapshot
					last = p.highest + rapid.Uint64Range(0, 5).Draw(t, "ahead")
				}
				var logs []*raft.Log
				for range rapid.IntRange(1, 10).Draw(t, "entries") {
					last++
					logs = append(logs, drawEntry(t, last))
				}
				p.storeLogs(t, logs)
			},
			"replace": func(t *rapid.T) {
				first, last := ends()
				if last == 0 {
					t.Skip("nothing to replace")
				}
				p.storeLogs(t, []*raft.Log{drawEntry(t, rapid.Uint64Range(first, last).Draw(t, "index"))})
			},
			"compact": func(t *rapid.T) {
				if first, last := ends(); last > 0 {
					p.deleteRange(t, first, rapid.Uint64Range(first, last).Draw(t, "to"))
				}
			},
			"clear suffix": func(t *rapid.T) {
				if first, last := ends(); last > 0 {
					p.deleteRange(t, rapid.Uint64Range(first, last).Draw(t, "from"), last)
				}
			},
		}))
	})
}

// TestLikeBoltStore stores and deletes anywhere, with gaps and twice, in the store
// and in raft-boltdb's. (raft's in-memory store knows its ends only without gaps.)
func TestLikeBoltStore(t *testing.T) {
	rapid.Check(t, func(run *rapid.T) {
		dir := directory(t, run)
		bolt, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.bolt"), NoSync: true})
		require.NoError(run, err)
		run.Cleanup(func() { _ = bolt.Close() })
		p := newPair(run, dir, bolt)
		index := rapid.Uint64Range(1, 50)
		run.Repeat(p.actions(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				var logs []*raft.Log
				for _, i := range rapid.SliceOfN(index, 1, 8).Draw(t, "indices") {
					logs = append(logs, drawEntry(t, i))
				}
				p.storeLogs(t, logs)
			},
			"append": func(t *rapid.T) {
				last, _ := p.reference.LastIndex()
				p.storeLogs(t, []*raft.Log{drawEntry(t, last+1), drawEntry(t, last+3), drawEntry(t, last+2)})
			},
			"delete": func(t *rapid.T) { p.deleteRange(t, index.Draw(t, "from"), index.Draw(t, "to")) },
		}))
	})
}
