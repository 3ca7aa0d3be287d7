package fsm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/fsm"
	"pmemtable/internal/killtest"
	"pmemtable/table"
)

// The failure looked for here: a state that is not that of the index it says, after
// kill -9 in the middle of entries, or of a Restore; or one that lost what an Apply
// or a Restore that returned had done. What the state is at an index follows from
// the index. A child, this test binary again, applies entries and now and then goes
// back to a snapshot of an earlier index; the parent kills it at any moment.

func TestMain(m *testing.M) { killtest.Main(m, killChild) }

const killKeys = 200

// count adds one to a counter, and stores the index under one of some keys.
func count(tx *fsm.Tx, e *raft.Log) (any, error) {
	n := uint64(0)
	if v, ok := tx.Get([]byte("count")); ok {
		n = binary.BigEndian.Uint64(v)
	}
	tx.Put([]byte("count"), binary.BigEndian.AppendUint64(nil, n+1))
	tx.Put(fmt.Append(nil, "key ", e.Index%killKeys), make([]byte, e.Index%700))
	tx.Delete(fmt.Append(nil, "key ", (e.Index+killKeys/2)%killKeys))
	return nil, nil
}

// differs says how the state is not that of its index, nil if it is.
func differs(m *fsm.FSM) error {
	index, term := m.Applied()
	if term != index {
		return fmt.Errorf("index %d with term %d", index, term)
	}
	entries := 0
	if v, err := m.Table().Get([]byte("count")); err == nil {
		if n := binary.BigEndian.Uint64(v); n != index {
			return fmt.Errorf("%d entries were applied, the index is %d", n, index)
		}
		entries++
	}
	for i := index; i > 0 && i+killKeys/2 > index; i-- { // the rest was deleted since
		v, err := m.Table().Get(fmt.Append(nil, "key ", i%killKeys))
		if err != nil || uint64(len(v)) != i%700 {
			return fmt.Errorf("at index %d: entry %d: %d bytes, %w", index, i, len(v), err)
		}
		entries++
	}
	if n := m.Table().Len(); n != entries {
		return fmt.Errorf("%d entries at index %d, not %d", n, index, entries)
	}
	return nil
}

func openKilled(path string) (*fsm.FSM, error) {
	t, err := table.Open(path, &table.Options{Durability: table.OnSync, Stripes: 2, SegmentSize: 512, MaxSize: 1 << 30})
	if err != nil {
		return nil, err
	}
	return fsm.New(t, count)
}

// killChild applies and restores until it is killed, and says at which index it is.
func killChild(args string) error {
	var path string
	var seed uint64
	if _, err := fmt.Sscan(args, &path, &seed); err != nil {
		return err
	}
	m, err := openKilled(path)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	var saved sink
	for {
		index, _ := m.Applied()
		kind := byte('a')
		switch n := r.IntN(20); {
		case n == 0 || n < 3 && saved.Len() == 0:
			saved.Reset()
			if index > 0 { // as raft does after a restart
				m.Apply(&raft.Log{Index: index, Term: index})
			}
			s, err := m.Snapshot()
			if err != nil {
				return err
			}
			if err := s.Persist(&saved); err != nil {
				return err
			}
			s.Release()
			kind = 's'
		case n < 3:
			kind = 'r'
			if err := m.Restore(io.NopCloser(bytes.NewReader(saved.Bytes()))); err != nil {
				return err
			}
		default:
			var entries []*raft.Log
			for i := range 1 + r.Uint64N(30) {
				entries = append(entries, &raft.Log{Index: index + 1 + i, Term: index + 1 + i})
			}
			m.ApplyBatch(entries)
			if err := m.Err(); err != nil {
				return err
			}
		}
		index, _ = m.Applied()
		if err := killtest.Acknowledge(binary.BigEndian.AppendUint64([]byte{kind}, index)); err != nil {
			return err
		}
	}
}

func TestKill(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	seed := uint64(time.Now().UnixNano())
	t.Log("seed ", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "state.pmt")
	restores := 0
	for range rounds {
		last, saved := uint64(0), uint64(0)
		args, later := fmt.Sprintf("%s %d", path, r.Uint64()), time.Duration(r.IntN(3000))*time.Microsecond
		killtest.Run(t, args, 1+r.IntN(100), later, 9, func(b []byte) {
			last = binary.BigEndian.Uint64(b[1:])
			switch b[0] {
			case 's':
				saved = last
			case 'r':
				restores++
			}
		})
		m, err := openKilled(path)
		require.NoError(t, err)
		require.NoError(t, differs(m))
		index, _ := m.Applied()
		// Behind the last answer only one call can have happened: entries, or a Restore
		// of an earlier index.
		if index != saved {
			require.GreaterOrEqual(t, index, last)
			require.LessOrEqual(t, index, last+30)
		}
		_, err = m.Table().Check()
		require.NoError(t, err)
		require.NoError(t, m.Table().Close())
	}
	require.Positive(t, restores)
}
