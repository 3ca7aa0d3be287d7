// Package store keeps a raft log, and raft's few stable keys, in a pmemtable: it
// is a raft.LogStore, a raft.StableStore and a raft.MonotonicLogStore for
// github.com/hashicorp/raft.
//
//	s, err := store.Open("raft.pmt", nil)
//	...
//	node, err := raft.NewRaft(config, machine, s, s, snapshots, transport)
//
// # What is in the table
//
//	'p' number, 8 bytes big-endian   a page: the entries of 16 indices
//	'e' index, 8 bytes big-endian    an entry of more than 1 KiB, which its page names
//	's' key                          a stable key
//	the metadata record              the state of the log: which indices it has
//
// Every change of the log is one Batch that sets the state with the entries. So
// FirstIndex and LastIndex cost nothing at open, and agree with the entries after
// any crash. An entry that the state does not cover is not in the log, whether the
// table has it or not: that makes calls atomic which are larger than a Batch.
//
// # Errors
//
// What raft compares is what raft expects: raft.ErrLogNotFound from GetLog, and an
// error whose text is "not found" from Get and GetUint64, which is table.ErrNotFound.
// All others wrap the table's: errors.Is with table.ErrFull, ErrTooLarge,
// ErrCorrupt, ErrPoisoned, ErrReadOnly, ErrClosed.
package store
