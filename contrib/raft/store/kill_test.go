package store_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/store"
	"pmemtable/internal/killtest"
	"pmemtable/table"
)

// The failure looked for here: an entry whose call returned that is not there after
// kill -9, a call of which a part is there, or ends of the log that do not fit its
// entries. A child, which is this test binary again, changes a log and says after
// each call that it returned; the parent kills it at a random one, opens the log and
// compares. All rounds use the same file.

func TestMain(m *testing.M) { killtest.Main(m, killChild) }

// model is what the log and the stable keys hold.
type model struct {
	first, end uint64
	terms      map[uint64]uint64
	value      uint64 // of the stable key
	highest    uint64 // index that was ever stored
}

// call is one change, the same in the child and in the parent.
type call struct {
	seed, number uint64
	from, to     uint64 // half open
	remove       bool
	set          bool
}

const killBatch = 4 // changes a batch: so many calls take several

// next is the call of the given number on what the model holds.
func (m *model) next(seed, number uint64) call {
	r := rand.New(rand.NewPCG(seed, number))
	c := call{seed: seed, number: number}
	size := m.end - m.first
	switch n := r.IntN(100); {
	case n < 15:
		c.set = true
	case n < 35 && size > 0: // compaction, now and then of everything
		c.remove, c.from, c.to = true, m.first, m.first+1+r.Uint64N(size)
	case n < 50 && size > 0: // a conflict
		c.remove, c.from, c.to = true, m.first+r.Uint64N(size), m.end
	case n < 55 && size > killBatch:
		c.from = m.first + r.Uint64N(size-killBatch) // replaces
		c.to = c.from + 1 + r.Uint64N(killBatch)
	default:
		c.from = m.end
		if size == 0 {
			c.from = m.highest + 1
		}
		c.to = c.from + 1 + r.Uint64N(5*killBatch)
	}
	return c
}

// term makes the entries of each call different.
func (c call) term() uint64 { return c.number }

func (c call) do(s *store.Store) error {
	switch {
	case c.set:
		return s.SetUint64([]byte("CurrentTerm"), c.number)
	case c.remove:
		return s.DeleteRange(c.from, c.to-1)
	}
	var logs []*raft.Log
	for i := c.from; i < c.to; i++ {
		logs = append(logs, c.entry(i))
	}
	return s.StoreLogs(logs)
}

func (c call) entry(index uint64) *raft.Log {
	r := rand.New(rand.NewPCG(c.seed, index))
	return &raft.Log{Index: index, Term: c.term(), Data: make([]byte, 1+r.IntN(2000))}
}

func (m *model) apply(c call) {
	switch {
	case c.set:
		m.value = c.number
		return
	case c.remove:
		for i := c.from; i < c.to; i++ {
			delete(m.terms, i)
		}
		if c.from == m.first {
			m.first = c.to
		} else {
			m.end = c.from
		}
		if m.first == m.end {
			m.first, m.end = 0, 0
		}
		return
	}
	for i := c.from; i < c.to; i++ {
		m.terms[i] = c.term()
	}
	if m.first == m.end {
		m.first = c.from
	}
	m.end, m.highest = max(m.end, c.to), max(m.highest, c.to-1)
}

// differs says how the store differs from the model, nil if it does not.
func (m *model) differs(s *store.Store) error {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if first != m.first || last != max(m.end, 1)-1 {
		return fmt.Errorf("the log goes from %d to %d, not from %d to before %d", first, last, m.first, m.end)
	}
	for i := uint64(0); i <= m.highest+30; i++ {
		var l raft.Log
		err := s.GetLog(i, &l)
		switch term, there := m.terms[i]; {
		case !there && err != raft.ErrLogNotFound:
			return fmt.Errorf("entry %d, which should not be there: term %d, %v", i, l.Term, err)
		case there && err != nil:
			return fmt.Errorf("entry %d: %w", i, err)
		case there && l.Term != term:
			return fmt.Errorf("entry %d is of call %d, not of %d", i, l.Term, term)
		}
	}
	value, err := s.GetUint64([]byte("CurrentTerm"))
	if err != nil && !errors.Is(err, table.ErrNotFound) || value != m.value {
		return fmt.Errorf("the stable key is %d (%v), not %d", value, err, m.value)
	}
	return nil
}

func killStore(path, durability string) (*store.Store, error) {
	d, err := table.ParseDurability(durability)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(path, &table.Options{Durability: d, SegmentSize: 512, MaxSize: 1 << 30})
	if err == nil {
		s.LimitChanges(killBatch)
	}
	return s, err
}

// killChild changes the log until it is killed. Its arguments are the file, the
// durability, the seed and the call to begin with.
func killChild(args string) error {
	var path, durability string
	var seed, number uint64
	if _, err := fmt.Sscan(args, &path, &durability, &seed, &number); err != nil {
		return err
	}
	s, err := killStore(path, durability)
	if err != nil {
		return err
	}
	m, err := readModel(s)
	if err != nil {
		return err
	}
	for ; ; number++ {
		c := m.next(seed, number)
		if err := c.do(s); err != nil {
			return fmt.Errorf("call %d: %w", number, err)
		}
		m.apply(c)
		if err := killtest.Acknowledge(binary.LittleEndian.AppendUint64(nil, number)); err != nil {
			return err
		}
	}
}

// readModel takes over what the store holds; only the parent knows whether it should.
func readModel(s *store.Store) (*model, error) {
	first, err1 := s.FirstIndex()
	last, err2 := s.LastIndex()
	value, err3 := s.GetUint64([]byte("highest"))
	m := &model{first: first, highest: max(value, last), terms: make(map[uint64]uint64)}
	if last > 0 {
		m.end = last + 1
	}
	return m, errors.Join(err1, err2, err3)
}

func TestKill(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed ", seed)
	for _, durability := range []table.Durability{table.OnSync, table.Always} {
		t.Run(durability.String(), func(t *testing.T) {
			k := &killer{
				path: filepath.Join(t.TempDir(), "raft.pmt"), durability: durability.String(),
				model: &model{terms: make(map[uint64]uint64)}, rand: rand.New(rand.NewPCG(seed, 0)),
			}
			for range rounds {
				k.round(t)
			}
			k.between(t, func(s *store.Store) {
				require.NoError(t, s.DeleteRange(0, math.MaxUint64))
				require.LessOrEqual(t, s.Table().Len(), 2, "only the stable keys are left in the table")
			})
			t.Logf("%d calls returned, %d more had happened", k.next-k.happened, k.happened)
		})
	}
}

type killer struct {
	path, durability string
	model            *model
	rand             *rand.Rand
	next, happened   uint64
}

// round kills a child, and compares what it left.
func (k *killer) round(t *testing.T) {
	k.between(t, func(s *store.Store) { // the child cannot know what was deleted
		require.NoError(t, s.SetUint64([]byte("highest"), k.model.highest))
	})
	seed := k.rand.Uint64()
	args, later := fmt.Sprintf("%s %s %d %d", k.path, k.durability, seed, k.next), time.Duration(k.rand.IntN(2000))*time.Microsecond
	killtest.Run(t, args, 1+k.rand.IntN(60), later, 8, func(b []byte) {
		require.Equal(t, k.next, binary.LittleEndian.Uint64(b))
		k.model.apply(k.model.next(seed, k.next))
		k.next++
	})
	k.between(t, func(s *store.Store) {
		without := k.model.differs(s)
		if without == nil {
			return
		}
		k.model.apply(k.model.next(seed, k.next)) // the call under way happened, all of it
		k.next++
		k.happened++
		require.NoError(t, k.model.differs(s), "after call %d, and without it: %v", k.next-1, without)
	})
}

func (k *killer) between(t *testing.T, fn func(*store.Store)) {
	s, err := killStore(k.path, k.durability)
	require.NoError(t, err)
	fn(s)
	report, err := s.Table().Check()
	require.NoError(t, err)
	require.NotNil(t, report)
	require.NoError(t, s.Close())
}
