// Package fsm is a state machine for github.com/hashicorp/raft whose state is a
// pmemtable: raft.FSM and raft.BatchingFSM. What a log entry does is up to a Command;
// its changes and its index go to the table in one Batch, so that whatever kills the
// process, an entry has been applied as a whole or not at all, and a restart does
// not apply it twice. So a restart need not restore a snapshot either:
//
//	machine, err := fsm.New(t, command)
//	...
//	config.NoSnapshotRestoreOnStart, err = machine.Holds(snapshots)
//	...
//	node, err := raft.NewRaft(config, machine, log, log, snapshots, transport)
//
// The table may be opened with table.OnSync: raft's log is what makes an entry
// durable. A table that lost its newest writes to a power cut knows by its index
// which these were, and raft applies them again, from its log or after a snapshot.
package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"pmemtable/table"
)

// Command is what a log entry means. It reads and changes the state through tx and
// returns the response for whoever proposed the entry. It must come to the same on
// every node: it may depend on nothing but the entry and the state. After an error
// none of its changes are made, and the error is the response. tx is not valid any
// more when it returns.
type Command func(tx *Tx, entry *raft.Log) (response any, err error)

// FSM applies the entries of raft's log to a table. Others may read the table
// meanwhile, and stay readers of it through a Restore; only the FSM may write it.
// A read of several keys that must not meet half of an entry takes a Snapshot.
type FSM struct {
	table   *table.Table
	command Command

	mu      sync.Mutex // guards what follows; raft's own calls come one at a time
	applied position
	given   uint64 // index of the last entry that raft gave in this life of the process
	failed  error
	onFail  func(error)
	restore uint64 // how often Restore succeeded
}

var _ raft.BatchingFSM = (*FSM)(nil)

// position says which entry was applied last.
type position struct{ index, term uint64 }

// The metadata record: the magic, index and term, 8 bytes each, big-endian.
const metadataMagic = "pmtfsm_1"

func (p position) encode() []byte {
	b := append(make([]byte, 0, len(metadataMagic)+16), metadataMagic...)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, p.index), p.term)
}

func decodePosition(b []byte) (p position, err error) {
	if len(b) != len(metadataMagic)+16 || string(b[:len(metadataMagic)]) != metadataMagic {
		return p, fmt.Errorf("its metadata record (%d bytes) is not that of a raft state machine", len(b))
	}
	b = b[len(metadataMagic):]
	return position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// New returns the state machine whose state is in t: an empty table, or one that an
// FSM has written. The caller closes it, after raft has been shut down. O(1).
func New(t *table.Table, command Command) (*FSM, error) {
	f := &FSM{table: t, command: command, onFail: func(error) {}}
	meta, err := t.Metadata()
	if err == nil && len(meta) > 0 {
		f.applied, err = decodePosition(meta)
	} else if n := t.Len(); err == nil && n > 0 {
		err = fmt.Errorf("it holds %d entries of something else", n)
	} else if err == nil {
		err = f.commit(table.NewBatch(), position{})
	}
	if err != nil {
		return nil, fmt.Errorf("state machine in %s: %w", t.Stats().Path, err)
	}
	return f, nil
}

// OnFail has fn called when the table fails the state machine: a full disk, a
// damaged file, a failed sync. From then on no entry is applied, each gets the
// error as its response, and there are no snapshots: else raft would drop entries
// from its log that the state lacks. fn should shut the node down (not itself wait
// for that); when the cause is gone, a restart applies what is missing. A Restore
// that succeeds ends the state too. Call it before raft is started.
func (f *FSM) OnFail(fn func(error)) { f.onFail = fn }

// Table returns the table, for readers.
func (f *FSM) Table() *table.Table { return f.table }

// Applied returns the index and the term of the last entry whose effects are in the
// table; 0 if there is none. Entries that are not commands do not count.
func (f *FSM) Applied() (index, term uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied.index, f.applied.term
}

// Restores counts the snapshots that were restored since New.
func (f *FSM) Restores() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.restore
}

// Err returns why the state machine has failed, nil if it has not.
func (f *FSM) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Holds tells whether the table holds all that the newest snapshot does, so that
// raft need not restore it: for raft.Config's NoSnapshotRestoreOnStart. It does not
// after a crash between the arrival of a snapshot and the end of its Restore, nor
// after a power cut that took the table back behind it.
func (f *FSM) Holds(snapshots raft.SnapshotStore) (bool, error) {
	list, err := snapshots.List()
	if err != nil {
		return false, fmt.Errorf("state machine: snapshots: %w", err)
	}
	index, _ := f.Applied()
	return len(list) == 0 || list[0].Index <= index, nil
}

// fail ends the application of entries.
func (f *FSM) fail(err error) error {
	f.mu.Lock()
	first := f.failed == nil
	if first {
		f.failed = fmt.Errorf("state machine: %w", err)
	}
	err = f.failed
	f.mu.Unlock()
	if first {
		f.onFail(err)
	}
	return err
}

// commit applies a batch together with the position that it leads to.
func (f *FSM) commit(b *table.Batch, to position) error {
	b.SetMetadata(to.encode())
	if err := f.table.Apply(b); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = to
	return nil
}

// Snapshot freezes the state for raft. The cost does not grow with the state. It is
// refused while raft, after a restart, still gives entries that the state has: raft
// would call the snapshot older than it is.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	given, applied, err := f.given, f.applied.index, f.failed
	f.mu.Unlock()
	if err == nil && given < applied {
		err = fmt.Errorf("state machine: no snapshot yet: raft is at entry %d, the state at %d", given, applied)
	}
	if err != nil {
		return nil, err
	}
	s, err := f.table.Snapshot()
	if err != nil {
		return nil, err
	}
	return &snapshot{s}, nil
}

// A snapshot is this magic and a backup of the table.
const snapshotMagic = "pmemtable raft snapshot 1\n"

type snapshot struct{ frozen *table.Snapshot }

// Persist streams the state to sink.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	_, err := io.WriteString(sink, snapshotMagic)
	if err == nil {
		err = s.frozen.Backup(sink)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("state machine: snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release lets the table reuse what only the snapshot holds.
func (s *snapshot) Release() { _ = s.frozen.Close() } // which has no errors

// Restore replaces the state by a snapshot's, all or nothing, also across kill -9:
// the table exchanges its root. Until then readers find the old state, and after an
// error they still do.
func (f *FSM) Restore(stream io.ReadCloser) error {
	magic := make([]byte, len(snapshotMagic))
	if n, err := io.ReadFull(stream, magic); string(magic[:n]) != snapshotMagic {
		if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
			err = table.ErrBadBackup
		}
		return fmt.Errorf("state machine: restore: %w: it does not begin as a snapshot", err)
	}
	if err := f.table.Restore(stream); err != nil {
		return fmt.Errorf("state machine: %w", err)
	}
	meta, err := f.table.Metadata()
	if err != nil {
		return f.fail(err)
	}
	applied, err := decodePosition(meta)
	if err != nil {
		return f.fail(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied, f.given, f.failed = applied, applied.index, nil
	f.restore++
	return nil
}
