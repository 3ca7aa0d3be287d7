package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hashicorp/raft"

	"pmemtable/table"
)

// MaxBodyBytes bounds what a client may store at a time.
const MaxBodyBytes = 8 << 20

// proposeTimeout is how long a proposal waits to be taken, not to be committed.
const proposeTimeout = 5 * time.Second

// Handler answers clients.
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /kv/{key...}", n.proposes(opPut))
	mux.HandleFunc("POST /kv/{key...}", n.proposes(opAppend))
	mux.HandleFunc("DELETE /kv/{key...}", n.proposes(opDelete))
	mux.HandleFunc("GET /kv/{key...}", n.get)
	mux.HandleFunc("GET /all", n.all)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(n.Status())
	})
	return mux
}

// proposes handles a write.
func (n *Node) proposes(op byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if n.sentToLeader(w, r) {
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
		if err != nil {
			answer(w, fmt.Errorf("%w: %w", table.ErrTooLarge, err))
			return
		}
		future := n.raft.Apply(encodeCommand(op, []byte(r.PathValue("key")), body), proposeTimeout)
		if err := future.Error(); err != nil {
			answer(w, err)
			return
		}
		err, _ = future.Response().(error)
		answer(w, err)
	}
}

// sentToLeader sends the client to the leader, unless this is it.
func (n *Node) sentToLeader(w http.ResponseWriter, r *http.Request) bool {
	if n.raft.State() == raft.Leader {
		return false
	}
	_, leader := n.raft.LeaderWithID()
	peer, known := n.config.Peers[string(leader)]
	if !known || string(leader) == n.config.ID {
		answer(w, raft.ErrNotLeader)
		return true
	}
	http.Redirect(w, r, "http://"+peer.HTTP+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	return true
}

// answer answers a write, or says why there is nothing to answer with.
func answer(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, table.ErrTooLarge):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case errors.Is(err, table.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, table.ErrFull):
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
	case errors.Is(err, table.ErrCorrupt), errors.Is(err, table.ErrPoisoned):
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default: // no leader, or not any more
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (n *Node) get(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("local") == "" {
		if n.sentToLeader(w, r) {
			return
		}
		// When the barrier is applied so is every write that was acknowledged before, and
		// this node was the leader still.
		if err := n.raft.Barrier(proposeTimeout).Error(); err != nil {
			answer(w, err)
			return
		}
	}
	value, err := n.machine.Table().Get([]byte(r.PathValue("key")))
	if err != nil {
		answer(w, err)
		return
	}
	_, _ = w.Write(value)
}

// Entry is a line of what GET /all answers.
type Entry struct{ Key, Value []byte }

func (n *Node) all(w http.ResponseWriter, _ *http.Request) {
	s, err := n.machine.Table().Snapshot()
	if err != nil {
		answer(w, err)
		return
	}
	defer s.Close()
	lines := json.NewEncoder(w)
	for k, v := range s.All() {
		if lines.Encode(Entry{k, v}) != nil { // the client went away
			return
		}
	}
	if s.Err() != nil {
		panic(http.ErrAbortHandler) // so that the client does not take it for all
	}
}
