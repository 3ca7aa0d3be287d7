// Package kv is a replicated key-value store of a few hundred lines: raft
// (github.com/hashicorp/raft) over TCP, its log in a store.Store, its state in an
// fsm.FSM, and HTTP for clients. Command kvnode runs a node of it.
//
//	PUT    /kv/KEY         store the body
//	POST   /kv/KEY         append the body to the value
//	DELETE /kv/KEY
//	GET    /kv/KEY         as of the last write that was acknowledged; ?local=1: what this node has
//	GET    /all            all entries of this node, at one instant, as lines of JSON
//	GET    /status
//
// A node that does not lead sends clients to the one that does (307). 204 for a
// write says that a majority has it on its media: no kill -9 of any nodes, and no
// power cut where the disks keep what they say, takes it back. 503 may also mean
// that the outcome is unknown.
package kv
