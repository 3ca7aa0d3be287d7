package kv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"pmemtable/contrib/raft/fsm"
	"pmemtable/contrib/raft/store"
	"pmemtable/table"
)

// Peer is a node as the others know it.
type Peer struct{ Raft, HTTP string } // addresses

// Config says what a node is.
type Config struct {
	ID    string
	Dir   string          // for its files; made if it is not there
	Peers map[string]Peer // by ID, itself included; the same on all nodes

	// Heartbeat is how long followers wait for the leader. 0: raft's default, a second.
	Heartbeat time.Duration
	// SnapshotEvery is how many entries make a snapshot worth while; half as many stay
	// in the log behind one. 0: raft's default, 8192.
	SnapshotEvery uint64
	// LogDurability of raft's log; the zero value, Always, is what raft expects.
	LogDurability table.Durability
	Logger        hclog.Logger // nil: to standard error
}

// Node is a node that runs.
type Node struct {
	config    Config
	raft      *raft.Raft
	machine   *fsm.FSM
	log       *store.Store
	transport *raft.NetworkTransport
	snapshots raft.SnapshotStore
	failed    chan error
}

// Open starts a node on the files in its directory. The first time all nodes make
// the same cluster of all peers.
func Open(c Config) (n *Node, err error) {
	self, known := c.Peers[c.ID]
	if !known {
		return nil, fmt.Errorf("node %q is none of the peers", c.ID)
	}
	if c.Logger == nil {
		c.Logger = hclog.New(&hclog.LoggerOptions{Name: c.ID, Level: hclog.Info})
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	n = &Node{config: c, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.log, err = store.Open(filepath.Join(c.Dir, "log.pmt"), &table.Options{Durability: c.LogDurability}); err != nil {
		return n, err
	}
	// Not durable by itself: the log is, and the state knows how far it is.
	state, err := table.Open(filepath.Join(c.Dir, "state.pmt"), &table.Options{Durability: table.OnSync})
	if err != nil {
		return n, err
	}
	if n.machine, err = fsm.New(state, apply); err != nil {
		return n, errors.Join(err, state.Close())
	}
	n.machine.OnFail(func(err error) {
		select {
		case n.failed <- err:
		default: // it has failed before
		}
	})
	if n.snapshots, err = raft.NewFileSnapshotStoreWithLogger(c.Dir, 2, c.Logger); err != nil {
		return n, err
	}
	if n.transport, err = raft.NewTCPTransportWithLogger(self.Raft, nil, 3, 10*time.Second, c.Logger); err != nil {
		return n, err
	}
	return n, n.start()
}

// start starts raft.
func (n *Node) start() error {
	rc := raft.DefaultConfig()
	rc.LocalID, rc.Logger = raft.ServerID(n.config.ID), n.config.Logger
	if h := n.config.Heartbeat; h > 0 {
		rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout, rc.CommitTimeout = h, h, h/2, h/10
	}
	if every := n.config.SnapshotEvery; every > 0 {
		rc.SnapshotThreshold, rc.TrailingLogs, rc.SnapshotInterval = every, every/2, 100*time.Millisecond
	}
	rc.BatchApplyCh = true
	var err error
	if rc.NoSnapshotRestoreOnStart, err = n.machine.Holds(n.snapshots); err != nil {
		return err
	}
	existing, err := raft.HasExistingState(n.log, n.log, n.snapshots)
	if err != nil {
		return err
	}
	if !existing {
		if err := raft.BootstrapCluster(rc, n.log, n.log, n.snapshots, n.transport, n.cluster()); err != nil {
			return err
		}
	}
	n.raft, err = raft.NewRaft(rc, n.machine, n.log, n.log, n.snapshots, n.transport)
	return err
}

// cluster is what all nodes begin with.
func (n *Node) cluster() (c raft.Configuration) {
	for id, p := range n.config.Peers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(p.Raft)})
	}
	return c
}

// Failed receives the error that stopped the state machine; then the node is of no
// more use, and should be closed.
func (n *Node) Failed() <-chan error { return n.failed }

// Close stops the node.
func (n *Node) Close() error {
	var errs []error
	if n.raft != nil {
		errs = append(errs, n.raft.Shutdown().Error())
	}
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
	}
	if n.machine != nil {
		errs = append(errs, n.machine.Table().Close())
	}
	if n.log != nil {
		errs = append(errs, n.log.Close())
	}
	return errors.Join(errs...)
}

// Status is what GET /status answers.
type Status struct {
	ID        string
	State     string // Follower, Candidate, Leader
	Leader    string // its ID, "" if there is none
	Term      uint64
	Applied   uint64 // index of the last command in the state
	FirstLog  uint64 // index of the first entry of the log
	LastLog   uint64
	Restores  uint64 // snapshots that were restored since the node began
	Entries   int    // of the state
	Survives  string // what an acknowledged write of the log survives
	Condition string // why the state machine stopped, "" if it has not
}

// Status describes the node.
func (n *Node) Status() (s Status) {
	_, leader := n.raft.LeaderWithID()
	s.ID, s.State, s.Leader, s.Term = n.config.ID, n.raft.State().String(), string(leader), n.raft.CurrentTerm()
	s.Applied, _ = n.machine.Applied()
	s.FirstLog, _ = n.log.FirstIndex() // which has no errors
	s.LastLog, _ = n.log.LastIndex()
	s.Restores = n.machine.Restores()
	s.Entries = n.machine.Table().Len()
	s.Survives = n.log.Table().Stats().Survives
	if err := n.machine.Err(); err != nil {
		s.Condition = err.Error()
	}
	return s
}
