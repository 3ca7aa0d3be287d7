package kv_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/store"
	"pmemtable/table"
)

// The failures looked for here: a write that was acknowledged and is not there when
// nodes were killed by kill -9, one at a time, the leader, two or all; one that was
// applied twice; nodes that do not agree; a node that does not come back.

// TestKilledUnderLoad. PMEMTABLE_RAFT_ROUNDS is how many rounds of kills it makes,
// PMEMTABLE_RAFT_SEED repeats the choice of victims.
func TestKilledUnderLoad(t *testing.T) {
	rounds := number(t, "PMEMTABLE_RAFT_ROUNDS", 12)
	if testing.Short() && os.Getenv("PMEMTABLE_RAFT_ROUNDS") == "" {
		rounds = 4
	}
	seed := number(t, "PMEMTABLE_RAFT_SEED", uint64(time.Now().UnixNano()))
	t.Logf("PMEMTABLE_RAFT_SEED=%d repeats the choice of victims", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t)
	c.leader()
	l := startLoad(seed, 4, c.nodes)
	defer l.end()
	kinds := []string{"leader", "all", "late", "set back", "any", "two"}
	for round := range int(rounds) {
		kind := kinds[round%len(kinds)]
		began := time.Now()
		c.progress(l)
		switch kind {
		case "late":
			c.comesLate(l, r)
		case "set back":
			c.setBack(l, r)
		default:
			c.killSome(r, kind)
		}
		t.Logf("round %d: %s, %d acknowledged so far, %s", round, kind, l.acked.Load(), time.Since(began).Round(time.Millisecond))
	}
	c.progress(l)
	l.end()
	c.agree(l)
}

func number(t *testing.T, env string, otherwise uint64) uint64 {
	s := os.Getenv(env)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	require.NoError(t, err, env)
	return n
}

// progress waits until more writes are acknowledged.
func (c *cluster) progress(l *load) {
	c.t.Helper()
	target := l.acked.Load() + 50
	c.until("50 more writes acknowledged", func() bool { return l.acked.Load() >= target })
}

// pause is for a random time, no condition of anything.
func pause(r *rand.Rand, most time.Duration) { time.Sleep(time.Duration(r.Int64N(int64(most)))) }

// killSome kills nodes at random moments, and starts them again.
func (c *cluster) killSome(r *rand.Rand, kind string) {
	victims := make([]*process, 0, 3)
	for _, i := range r.Perm(len(c.nodes)) {
		victims = append(victims, c.nodes[i])
	}
	switch kind {
	case "leader":
		victims = []*process{c.leader()}
	case "any":
		victims = victims[:1]
	case "two":
		victims = victims[:2]
	}
	for _, p := range victims {
		pause(r, 30*time.Millisecond)
		c.kill(p)
	}
	for _, p := range victims {
		pause(r, 300*time.Millisecond)
		c.start(p)
	}
}

// comesLate has a node miss so much that the leader has to send it a snapshot, and
// kills it while it takes that over.
func (c *cluster) comesLate(l *load, r *rand.Rand) {
	leader := c.leader()
	late := c.nodes[r.IntN(len(c.nodes))]
	for late == leader {
		late = c.nodes[r.IntN(len(c.nodes))]
	}
	c.until("its status", func() bool { _, err := c.status(late); return err == nil })
	s, err := c.status(late)
	require.NoError(c.t, err)
	c.kill(late)
	c.until("a log that begins behind what the dead node has", func() bool {
		now, err := c.status(c.leader())
		return err == nil && now.FirstLog > s.LastLog+1
	})
	for range 3 {
		c.start(late)
		pause(r, 500*time.Millisecond)
		c.kill(late)
	}
	c.start(late)
	c.progress(l)
	c.caughtUp(late)
}

// setBack takes the state of a node away while it is dead, as a power cut may that
// finds a table without a Sync, or most of it. Raft has dropped entries since.
func (c *cluster) setBack(l *load, r *rand.Rand) {
	p := c.nodes[r.IntN(len(c.nodes))]
	c.until("a log that begins behind some entries", func() bool {
		s, err := c.status(p)
		return err == nil && s.FirstLog > 1
	})
	c.kill(p)
	require.NoError(c.t, os.Remove(filepath.Join(p.dir, "state.pmt")))
	c.start(p)
	c.progress(l)
	c.caughtUp(p)
	s, err := c.status(p)
	require.NoError(c.t, err)
	require.Positive(c.t, s.Restores, "it restored its own snapshot")
}

// caughtUp waits until a node has applied all that the leader had.
func (c *cluster) caughtUp(p *process) {
	var want uint64
	c.until("the leader's status", func() bool {
		s, err := c.status(c.leader())
		want = s.Applied
		return err == nil
	})
	c.until(fmt.Sprint(p.id, " has applied ", want), func() bool {
		s, err := c.status(p)
		return err == nil && s.Applied >= want
	})
}

// agree checks every node's state against the records, and against the others'; and
// that their files are in order.
func (c *cluster) agree(l *load) {
	t := c.t
	c.until("the same index on all nodes", func() bool {
		applied := make(map[uint64]bool)
		led := false
		for _, p := range c.nodes {
			s, err := c.status(p)
			if err != nil || s.Condition != "" {
				return false
			}
			led = led || s.State == "Leader"
			applied[s.Applied] = true
		}
		return led && len(applied) == 1
	})
	first := c.all(c.nodes[0])
	for _, p := range c.nodes {
		state := c.all(p)
		require.True(t, maps.Equal(first, state), "%s and %s do not agree", c.nodes[0].id, p.id)
		for _, client := range l.clients {
			require.NoError(t, client.check(state), p.id)
		}
		require.Empty(t, state, "nobody wrote this")
	}
	t.Logf("%d writes acknowledged, %d entries on each node", l.acked.Load(), len(first))
	for _, p := range c.nodes {
		c.stop(p)
		for _, name := range []string{"log.pmt", "state.pmt"} {
			tab, err := table.Open(filepath.Join(p.dir, name), &table.Options{ReadOnly: true})
			require.NoError(t, err)
			_, err = tab.Check()
			require.NoError(t, err)
			require.NoError(t, tab.Close())
		}
		log, err := store.Open(filepath.Join(p.dir, "log.pmt"), nil)
		require.NoError(t, err)
		require.NoError(t, log.Close())
	}
}
