package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// A world is a table on a heap medium beside a Go map that says what must be in
// it. The model test and the fuzz target drive it.
type world struct {
	t    require.TestingT
	heap *pmem.Heap
	po   pmem.Options
	o    table.Options
	hash func([]byte) uint64 // nil: the table's own
	keys int

	tab   *table.Table
	want  map[string]string
	count uint32 // operations, so that no value is stored twice

	// What power loss falls back to, where the medium's truth is the committed
	// root: the contents at the last Sync, the sequence of its commit, and every
	// change since, in order. A commit that nobody asked for (for want of room,
	// behind a Clear) may have caught a part of those.
	synced   map[string]string
	sequence uint64
	since    []change

	// What Restore puts back: a backup, and what it holds.
	backup []byte
	saved  map[string]string

	deaths, reboots, fulls, commitsUnasked int
}

// change is one change of the contents.
type change struct {
	clear      bool
	restore    map[string]string // if not nil
	key, value string
	remove     bool
}

func (c change) apply(m map[string]string) {
	switch {
	case c.clear:
		clear(m)
	case c.restore != nil:
		clear(m)
		maps.Copy(m, c.restore)
	case c.remove:
		delete(m, c.key)
	default:
		m[c.key] = c.value
	}
}

// opKind is an operation of a world.
type opKind uint8

const (
	opPut opKind = iota
	opDelete
	opPutIfAbsent
	opCompareAndSwap
	opCompareAndDelete
	opSwap
	opGetAndDelete
	opUpdate
	opRead
	opView
	opIterate
	opClear
	opSync
	opCheck
	opReadOnly
	opReopen
	opKill
	opReboot
	opMove
	opRestore
	opKinds
)

func (k opKind) String() string {
	return [...]string{"Put", "Delete", "PutIfAbsent", "CompareAndSwap", "CompareAndDelete", "Swap", "GetAndDelete",
		"Update", "Read", "View", "Iterate", "Clear", "Sync", "Check", "ReadOnly", "Reopen", "Kill", "Reboot", "Move", "Restore"}[k]
}

// op is an operation with what it needs; numbers are taken modulo what there is.
type op struct {
	kind opKind
	key  uint16
	size uint16 // of a value that is stored
	how  uint8  // variants: the expectation is right or wrong, what Update does
}

func newWorld(t require.TestingT, po pmem.Options, o table.Options, maxBytes, keys int) *world {
	w := &world{t: t, heap: pmem.NewHeap(nil, maxBytes), po: po, o: o, keys: keys,
		want: make(map[string]string), synced: make(map[string]string)}
	w.open()
	w.noteSync()
	return w
}

func (w *world) open() {
	p, err := pmem.OpenHeap(w.heap, w.po)
	require.NoError(w.t, err)
	w.tab, err = table.OpenColliding(p, &w.o, w.hash)
	require.NoError(w.t, err)
}

// key is the i-th key: of many lengths, none among them.
func (w *world) key(i uint16) []byte {
	n := int(i) % w.keys
	if w.po.Geometry.Inline {
		return inlineBytes(uint64(n))
	}
	k := fmt.Appendf(nil, "%d", n)
	if n == 0 {
		return nil
	}
	return append(k, bytes.Repeat([]byte{byte(n)}, n*n%311)...)
}

// value is one that no other operation stores.
func (w *world) value(size uint16) []byte {
	v := fmt.Appendf(nil, "%d:", w.count)
	if w.po.Geometry.Inline {
		return inlineBytes(uint64(w.count) * uint64(size%16)) // often 0
	}
	if size%16 == 0 {
		return nil // often the same, so that compare-and-swap meets it again
	}
	return append(v, value(int(w.count), int(size))...)
}

// do carries an operation out on both sides.
func (w *world) do(o op) {
	w.count++
	k := w.key(o.key)
	old, exists := w.want[string(k)]
	switch o.kind {
	case opRead, opView, opIterate, opCheck:
		w.look(o.kind, k)
	case opClear:
		if w.acknowledged(w.tab.Clear()) {
			w.note(change{clear: true})
		}
	case opRestore:
		w.restore(o.how%2 == 0)
	case opSync:
		require.NoError(w.t, w.tab.Sync())
		w.noteSync()
	case opReadOnly:
		require.Equal(w.t, w.want, w.readOnly())
	case opReopen, opKill, opReboot, opMove:
		if w.hash != nil && (o.kind == opMove || o.kind == opReboot && w.tab.Stats().Medium != pmem.PageCache) {
			return // what nothing vouches for is checked whole, with the pool's own hash
		}
		w.end(o)
	default:
		w.write(o, k, []byte(old), exists)
	}
}

// restore makes a backup for another time, or puts that of another time back.
func (w *world) restore(save bool) {
	if save || w.saved == nil {
		var b bytes.Buffer
		require.NoError(w.t, w.tab.Backup(&b))
		w.backup, w.saved = b.Bytes(), maps.Clone(w.want)
		return
	}
	if w.acknowledged(w.tab.Restore(bytes.NewReader(w.backup))) {
		w.note(change{restore: w.saved})
	}
}

// look reads in every way.
func (w *world) look(kind opKind, k []byte) {
	t, tab := w.t, w.tab
	want, exists := w.want[string(k)]
	switch kind {
	case opRead:
		got, err := tab.Get(k)
		has, hasErr := tab.Has(k)
		require.NoError(t, hasErr)
		require.Equal(t, exists, has)
		if !exists {
			require.ErrorIs(t, err, table.ErrNotFound)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	case opView:
		err := tab.View(k, func(v []byte) error {
			// The record holds whatever happens beside it.
			other := w.key(uint16(w.count))
			w.write(op{kind: opPut, size: 33}, other, []byte(w.want[string(other)]), false)
			w.write(op{kind: opDelete}, k, []byte(want), true)
			require.Equal(t, want, string(v))
			return nil
		})
		require.Equal(t, exists, err == nil, "%v", err)
		if !exists {
			require.ErrorIs(t, err, table.ErrNotFound)
		}
	case opIterate:
		require.Equal(t, w.want, contents(t, tab))
		require.Equal(t, len(w.want), tab.Len())
	case opCheck:
		require.Equal(t, len(w.want), checked(t, tab).Entries)
	}
}

// write is every operation on one key.
func (w *world) write(o op, k, old []byte, exists bool) {
	t, tab := w.t, w.tab
	v := w.value(o.size)
	expect, equal := old, exists
	if o.how%3 == 0 {
		expect, equal = append(bytes.Clone(old), 'x'), false
	}
	stores := change{key: string(k), value: string(v)}
	removes := change{key: string(k), remove: true}
	var (
		c    change
		did  bool
		err  error
		done = true // what the call says it did, when it says that
		want = true
		got  []byte
		had  = exists
	)
	switch o.kind {
	case opPut:
		c, did, err = stores, true, tab.Put(k, v)
	case opDelete:
		c, did, err = removes, exists, tab.Delete(k)
	case opPutIfAbsent:
		c, did, want = stores, !exists, !exists
		done, err = tab.PutIfAbsent(k, v)
	case opCompareAndSwap:
		c, did, want = stores, equal, equal
		done, err = tab.CompareAndSwap(k, expect, v)
	case opCompareAndDelete:
		c, did, want = removes, equal, equal
		done, err = tab.CompareAndDelete(k, expect)
	case opSwap:
		c, did = stores, true
		got, had, err = tab.Swap(k, v)
	case opGetAndDelete:
		c, did = removes, exists
		got, had, err = tab.GetAndDelete(k)
	case opUpdate:
		do := table.Op(o.how % 3)
		c, did = stores, do == table.Store
		if do == table.Remove {
			c, did = removes, exists
		}
		err = tab.Update(k, func(seen []byte, saw bool) ([]byte, table.Op) {
			require.Equal(t, exists, saw)
			require.Equal(t, string(old), string(seen))
			return v, do
		})
	}
	if !w.acknowledged(err) {
		return
	}
	require.Equal(t, want, done, "%v", o.kind)
	if o.kind == opSwap || o.kind == opGetAndDelete {
		require.Equal(t, exists, had)
		require.Equal(t, string(old), string(got))
	}
	if did {
		w.note(c)
	}
}

// acknowledged tells whether a call succeeded. All it may fail of is want of room,
// and then nothing changed.
func (w *world) acknowledged(err error) bool {
	if errors.Is(err, table.ErrFull) {
		w.fulls++
		return false
	}
	require.NoError(w.t, err)
	return true
}

func (w *world) note(c change) {
	c.apply(w.want)
	w.since = append(w.since, c)
	if w.o.Durability == table.Always {
		w.noteSync()
	}
}

// noteSync: what is there now survives power loss.
func (w *world) noteSync() {
	for _, c := range w.since {
		c.apply(w.synced)
	}
	w.since = w.since[:0]
	w.sequence = w.tab.Stats().CommitSequence
}

// end ends the session in one of four ways, and begins the next.
func (w *world) end(o op) {
	t, kind := w.t, o.kind
	if kind == opReopen {
		require.NoError(t, w.tab.Close())
	} else {
		kill(w.tab)
		w.deaths++
	}
	asked := w.tab.Stats().CommitSequence == w.sequence
	cached := w.tab.Stats().Medium == pmem.PageCache
	switch kind {
	case opReboot:
		w.heap.Reboot()
	case opMove:
		w.heap.Move()
	}
	var shown map[string]string
	if o.how%2 == 0 {
		shown = w.readOnly() // stores nothing: the open after it finds the same
	}
	w.open()
	if (kind == opReboot || kind == opMove) && cached {
		w.reboots++
		w.fallBack(asked)
	}
	if o.how%2 == 0 {
		require.Equal(t, w.want, shown)
	}
	require.Equal(t, len(w.want), w.tab.Len())
	require.Equal(t, w.want, contents(t, w.tab))
	report := checked(t, w.tab)
	require.Equal(t, len(w.want), report.Entries)
	if kind == opReopen {
		w.noteSync() // Close committed
	}
	if (kind == opReboot || kind == opMove) && !cached {
		w.sequence = 0 // commits say nothing on these media
	}
}

// fallBack makes of want what power loss left: exactly what was there at the last
// Sync, or, if the table committed of its own accord, at some moment since.
func (w *world) fallBack(asked bool) {
	have := contents(w.t, w.tab)
	m := maps.Clone(w.synced)
	n := 0
	for !asked && !maps.Equal(m, have) && n < len(w.since) {
		w.since[n].apply(m)
		n++
	}
	if !asked {
		w.commitsUnasked++
	}
	require.Equal(w.t, m, have, "after power loss (asked for the last commit: %v)", asked)
	w.want, w.since = m, w.since[:0]
	w.synced = maps.Clone(m)
	w.sequence = w.tab.Stats().CommitSequence
}

// readOnly opens the table read-only, beside the writer if there is one, and
// returns what it shows.
func (w *world) readOnly() map[string]string {
	po := w.po
	po.ReadOnly = true
	p, err := pmem.OpenHeap(w.heap, po)
	require.NoError(w.t, err)
	tab, err := table.OpenColliding(p, &w.o, w.hash)
	require.NoError(w.t, err)
	have := contents(w.t, tab)
	require.Equal(w.t, len(have), tab.Len())
	for k, v := range have {
		got, err := tab.Get([]byte(k))
		require.NoError(w.t, err)
		require.Equal(w.t, v, string(got))
	}
	require.NoError(w.t, tab.Close())
	return have
}

func (w *world) close() {
	require.NoError(w.t, w.tab.Close())
}
