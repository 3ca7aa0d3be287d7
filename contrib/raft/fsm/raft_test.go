package fsm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"pmemtable/contrib/raft/store"
)

// cluster is raft's own code on a log and a state of ours: one node, which is all
// that these tests need.
type cluster struct {
	*raft.Raft
	machine   *machine
	log       *store.Store
	snapshots *raft.FileSnapshotStore
	dir       string
}

func startCluster(t *testing.T, dir string) *cluster {
	c := &cluster{machine: &machine{path: filepath.Join(dir, "state.pmt")}, dir: dir}
	c.machine.open(t)
	var err error
	c.log, err = store.Open(filepath.Join(dir, "log.pmt"), quick)
	require.NoError(t, err)
	c.snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, 2, hclog.NewNullLogger())
	require.NoError(t, err)
	config := raft.DefaultConfig()
	config.LocalID, config.Logger = "only", hclog.NewNullLogger()
	config.HeartbeatTimeout, config.ElectionTimeout = 50*time.Millisecond, 50*time.Millisecond
	config.LeaderLeaseTimeout, config.CommitTimeout = 50*time.Millisecond, time.Millisecond
	config.TrailingLogs = 10
	config.NoSnapshotRestoreOnStart, err = c.machine.Holds(c.snapshots)
	require.NoError(t, err)
	address, transport := raft.NewInmemTransport("")
	existing, err := raft.HasExistingState(c.log, c.log, c.snapshots)
	require.NoError(t, err)
	if !existing {
		require.NoError(t, raft.BootstrapCluster(config, c.log, c.log, c.snapshots, transport,
			raft.Configuration{Servers: []raft.Server{{ID: "only", Address: address}}}))
	}
	c.Raft, err = raft.NewRaft(config, c.machine, c.log, c.log, c.snapshots, transport)
	require.NoError(t, err)
	require.True(t, <-c.LeaderCh())
	require.NoError(t, c.Barrier(0).Error())
	return c
}

func (c *cluster) end(t *testing.T) {
	require.NoError(t, c.Shutdown().Error())
	require.NoError(t, c.machine.Table().Close())
	require.NoError(t, c.log.Close())
}

func (c *cluster) propose(t *testing.T, data string) {
	future := c.Apply([]byte(data), 0)
	require.NoError(t, future.Error())
	require.IsType(t, []string(nil), future.Response(), "%v", future.Response())
}

// TestUserRestore brings a snapshot of a long-lived cluster into a young one: the
// index in it is far ahead of the young one's log, and nothing that is written
// afterwards may be taken for applied already.
func TestUserRestore(t *testing.T) {
	old := startCluster(t, t.TempDir())
	defer old.end(t)
	for i := range 100 {
		old.propose(t, fmt.Sprintf("set k%d old add n", i%7))
	}
	want := old.machine.contents(t)
	taken := old.Snapshot()
	require.NoError(t, taken.Error())
	meta, stream, err := taken.Open()
	require.NoError(t, err)
	defer stream.Close()

	young := startCluster(t, t.TempDir())
	young.propose(t, "set gone 1")
	require.NoError(t, young.Restore(meta, stream, 0))
	require.Equal(t, want, young.machine.contents(t))
	for range 3 {
		young.propose(t, "add m")
		young.end(t)
		young = startCluster(t, young.dir)
	}
	defer young.end(t)
	young.propose(t, "add m")
	want["m"] = "\x00\x00\x00\x00\x00\x00\x00\x04"
	require.Equal(t, want, young.machine.contents(t))
	require.Zero(t, young.machine.Restores(), "a state that holds the snapshot needs no restore")
}

// TestRestarts: with snapshots, and the log cut off behind them, every restart
// comes back to the state that was, whether the table is there or gone.
func TestRestarts(t *testing.T) {
	c := startCluster(t, t.TempDir())
	n := 0
	for round := range 6 {
		for range 30 {
			c.propose(t, "add n")
			n++
		}
		if round%2 == 0 {
			require.NoError(t, c.Snapshot().Error())
		}
		want := c.machine.contents(t)
		c.end(t)
		gone := round%3 == 2
		if gone {
			require.NoError(t, os.Remove(c.machine.path))
		}
		c = startCluster(t, c.dir)
		require.Equal(t, want, c.machine.contents(t))
		require.Equal(t, gone, c.machine.Restores() == 1)
	}
	c.end(t)
}
