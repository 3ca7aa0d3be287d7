package fsm

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/raft"

	"pmemtable/table"
)

// Limits, the same on every node: what goes over them must fail everywhere alike.
const (
	MaxKeyBytes   = 65_535  // of a key
	MaxValueBytes = 1 << 30 // of a value
	MaxChanges    = 1_000   // keys that one entry may change
)

// groupChanges bounds the changes of the entries that share a Batch, which may be
// over it by those of the last one.
const groupChanges = 1_000

// change is what becomes of a key.
type change struct {
	value  []byte
	remove bool
}

// Tx is the state as one entry sees it: with the changes of the entries before it,
// and its own.
type Tx struct {
	group *group
	own   map[string]change
	limit error // of the change that went over one
}

// Get returns a copy of the value of key, and whether it is there. An error of the
// table is none of the Command's: it fails the FSM, and Get says false.
func (tx *Tx) Get(key []byte) (value []byte, ok bool) {
	c, changed := tx.own[string(key)]
	if !changed {
		c, changed = tx.group.changes[string(key)]
	}
	if changed {
		return slices.Clone(c.value), !c.remove
	}
	if len(key) > MaxKeyBytes {
		return nil, false
	}
	value, err := tx.group.fsm.table.Get(key)
	if err != nil && !errors.Is(err, table.ErrNotFound) {
		tx.group.err = err
	}
	return value, err == nil
}

// Put stores value under key. It copies both. What goes over a limit makes the entry
// fail as a whole, with table.ErrTooLarge as its response.
func (tx *Tx) Put(key, value []byte) {
	if len(key) > MaxKeyBytes || len(value) > MaxValueBytes {
		tx.limit = fmt.Errorf("%w: a key of %d bytes with a value of %d", table.ErrTooLarge, len(key), len(value))
		return
	}
	tx.change(key, change{value: slices.Clone(value)})
}

// Delete removes key.
func (tx *Tx) Delete(key []byte) {
	if len(key) <= MaxKeyBytes { // else there is none
		tx.change(key, change{remove: true})
	}
}

func (tx *Tx) change(key []byte, c change) {
	if tx.own[string(key)] = c; len(tx.own) > MaxChanges {
		tx.limit = fmt.Errorf("%w: an entry of more than %d changes", table.ErrTooLarge, MaxChanges)
	}
}

// group is entries that are applied in one Batch.
type group struct {
	fsm     *FSM
	changes map[string]change
	to      position
	err     error // of the table
}

// Apply applies one entry.
func (f *FSM) Apply(entry *raft.Log) any {
	return f.ApplyBatch([]*raft.Log{entry})[0]
}

// ApplyBatch applies entries, as many as fit in one Batch of the table. An entry
// that the table has already gets no response but nil: whoever proposed it was
// answered, or cut off, in another life of the process.
func (f *FSM) ApplyBatch(entries []*raft.Log) []any {
	responses := make([]any, len(entries))
	g := &group{fsm: f, changes: make(map[string]change)}
	err := f.begin(g, entries)
	begin := 0 // of the entries that the group holds
	for i, entry := range entries {
		if err == nil && entry.Index > g.to.index {
			responses[i], err = g.apply(entry)
		}
		if last := i == len(entries)-1; err == nil && (last || len(g.changes) >= groupChanges) {
			if err = g.flush(); err == nil {
				begin = i + 1
			}
		}
	}
	if err != nil {
		err = f.fail(err)
		for i := begin; i < len(entries); i++ {
			responses[i] = err
		}
	}
	return responses
}

// begin tells the group where the state is, and notes where raft is.
func (f *FSM) begin(g *group, entries []*raft.Log) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	g.to = f.applied
	f.given = entries[len(entries)-1].Index
	return f.failed
}

// apply adds an entry to the group.
func (g *group) apply(entry *raft.Log) (response any, err error) {
	if entry.Type == raft.LogCommand {
		tx := &Tx{group: g, own: make(map[string]change)}
		var refused error
		response, refused = g.fsm.command(tx, entry)
		if g.err != nil {
			return nil, g.err
		}
		if tx.limit != nil {
			refused = tx.limit
		}
		if refused == nil {
			maps.Copy(g.changes, tx.own)
		} else {
			response = refused
		}
	}
	g.to = position{entry.Index, entry.Term}
	return response, nil
}

// flush applies what the group holds, and empties it.
func (g *group) flush() error {
	if index, _ := g.fsm.Applied(); g.to.index == index {
		return nil
	}
	b := table.NewBatch()
	for key, c := range g.changes {
		if c.remove {
			b.Delete([]byte(key))
		} else {
			b.Put([]byte(key), c.value)
		}
	}
	if err := g.fsm.commit(b, g.to); err != nil {
		return err
	}
	clear(g.changes)
	return nil
}
