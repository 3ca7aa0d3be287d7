package table_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

// The failure looked for here: a sync fails, and what was not durable is
// acknowledged all the same; or a reader, this session's or the next one's, sees
// what the kernel left of it.

var errIO = errors.New("input/output error")

// failure is one way in which the k-th sync fails.
type failure struct {
	name    string
	forever bool // all later ones too
	drops   bool // the kernel drops what it could not write
}

// run is a program on a disk whose k-th sync fails.
type failingRun struct {
	t       *testing.T
	disk    *disk
	options table.Options
	history diskHistory
}

// change does the n-th call of the program.
func (f *failingRun) change(tab *table.Table, n int) (diskChange, error) {
	k := fmt.Sprint("key ", n%7)
	v := string(told(uint32(n), uint32(n), 1+n%9))
	switch {
	case n == 9:
		return diskChange{what: "clear", clear: true}, tab.Clear()
	case n%4 == 3:
		b := table.NewBatch()
		b.Put([]byte(k), []byte(v))
		b.Delete(fmt.Append(nil, "key ", (n+2)%7))
		b.SetMetadata([]byte(v))
		return diskChange{what: "batch", puts: [][2]string{{k, v}}, removes: []string{fmt.Sprint("key ", (n+2)%7)}, setMeta: true, meta: v}, tab.Apply(b)
	}
	return diskChange{what: "put", puts: [][2]string{{k, v}}}, tab.Put([]byte(k), []byte(v))
}

// program runs until the failure, and returns its error, nil if none came.
func (f *failingRun) program(tab *table.Table) error {
	for n := range 14 {
		c, err := f.change(tab, n)
		f.history.add(c)
		if err != nil { // also OnSync: the walk of a cleared tree commits
			return err
		}
		if f.options.Durability == table.Always {
			f.history.settled()
		} else if n%3 == 2 {
			if err := tab.Sync(); err != nil {
				return err
			}
			f.history.settled()
		}
	}
	return nil
}

// poisoned checks what a table does after the failure.
func (f *failingRun) poisoned(tab *table.Table, snap *table.Snapshot) {
	t, want := f.t, f.history.base
	calls := everyCall(tab)
	calls["Sync"] = tab.Sync()
	calls["PutMany"] = tab.PutMany([][]byte{key(1)}, [][]byte{nil})
	calls["Apply"] = tab.Apply(table.NewBatch())
	calls["Backup"] = tab.Backup(discard{})
	_, calls["Snapshot"] = tab.Snapshot()
	if snap != nil {
		_, calls["Get of a snapshot"] = snap.Get(key(1))
		_, calls["Has of a snapshot"] = snap.Has(key(1))
		calls["Backup of a snapshot"] = snap.Backup(discard{})
		require.NoError(t, snap.Close())
	}
	for name, err := range calls {
		switch name {
		case "Get", "AppendGet", "Has", "View", "All", "Scan":
			assert.NotErrorIs(t, err, table.ErrPoisoned, name)
		case "Check":
		default:
			assert.ErrorIs(t, err, table.ErrPoisoned, name)
			assert.ErrorIs(t, err, errIO, name)
		}
	}
	for i := range 3 {
		have := diskState{entries: map[string]string{}}
		for k, v := range tab.All() {
			have.entries[string(k)] = string(v)
			got, err := tab.Get(k)
			require.NoError(t, err)
			require.Equal(t, v, got)
		}
		require.NoError(t, tab.Err())
		meta, err := tab.Metadata()
		require.NoError(t, err)
		have.meta = string(meta)
		if i == 0 && f.options.Durability == table.OnSync {
			// The walk of a cleared tree may have committed meanwhile.
			_, _, err := f.history.find(have, 0)
			require.NoError(t, err)
			f.history.base, want = have.clone(), have
		}
		require.Empty(t, diffOf(want, have), "a reader after the failed sync")
		require.Equal(t, len(want.entries), tab.Len())
	}
	require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func TestFailedSync(t *testing.T) {
	t.Parallel()
	for _, durability := range []table.Durability{table.Always, table.OnSync} {
		for _, how := range []failure{{"once", false, false}, {"forever", true, false}, {"once, pages dropped", false, true}} {
			t.Run(durability.String()+"/"+how.name, func(t *testing.T) {
				r := seeded(t)
				opens := 0
				step := alone(1, 1, 5)
				for k := 1 + r.IntN(step); ; k += step {
					require.Less(t, k, 200)
					failed, inOpen := failAt(t, r, durability, how, k)
					if !failed {
						require.Greater(t, k, 10)
						break
					}
					if inOpen {
						opens++
					}
				}
				t.Logf("%d opens failed", opens)
			})
		}
	}
}

// failAt runs the program on a file that holds something, with the k-th sync
// failing, and all that comes after.
func failAt(t *testing.T, r *rand.Rand, durability table.Durability, how failure, k int) (failed, inOpen bool) {
	const maxBytes = 512 << 10
	image := formatted(t, tiny(2))
	image = append(image, make([]byte, maxBytes-len(image))...)
	f := failingRun{t: t, disk: newDisk(image, maxBytes, 0), options: table.Options{Durability: durability}}
	f.history.base = diskState{entries: map[string]string{}}
	tab, err := f.disk.open(&f.options)
	require.NoError(t, err)
	require.NoError(t, f.program(tab))
	require.NoError(t, tab.Sync())
	f.history.settled()
	if r.IntN(2) == 0 { // something that is not durable when the next session begins
		c, err := f.change(tab, 20)
		require.NoError(t, err)
		f.history.add(c)
		f.history.durable = 0
		if durability == table.Always {
			f.history.settled()
		}
	}
	kill(tab)

	if how.drops {
		f.disk.dropping(t, r)
	}
	first := f.disk.syncs
	f.disk.beforeSync = func(n int, _ bool) error {
		if n == first+k || how.forever && n > first+k {
			failed = true
			return errIO
		}
		return nil
	}
	tab, err = f.disk.open(&f.options)
	if err != nil {
		require.ErrorIs(t, err, errIO)
		f.reopen(r, how, "")
		return true, true
	}
	// The sync by which an open settles what is committed comes in the background.
	<-tab.Pool().Swept()
	snap, err := tab.Snapshot()
	if err == nil {
		have, readErr := readState(tab)
		require.NoError(t, readErr)
		require.Empty(t, diffOf(f.history.current(), have))
		err = f.program(tab)
	}
	if err == nil {
		require.NoError(t, snap.Close())
		if err = tab.Close(); err == nil {
			require.False(t, failed)
			return false, false
		}
		require.ErrorIs(t, err, errIO) // in Close: it may be clean or not
		f.reopen(r, how, "")
		return true, false
	}
	require.ErrorIs(t, err, table.ErrPoisoned)
	require.ErrorIs(t, err, errIO)
	sequence := tab.Stats().CommitSequence
	f.poisoned(tab, snap)
	// The second where the sync was that by which an open settles what is committed.
	f.reopen(r, how, fmt.Sprintf(`known to be durable \(sequence %d\)|newest committed root that is whole`, sequence))
	return true, false
}

// reopen opens the file again: in the same boot, or after a power cut, or both.
func (f *failingRun) reopen(r *rand.Rand, how failure, says string) {
	t := f.t
	f.disk.beforeSync, f.disk.dropped = nil, nil
	if r.IntN(2) == 0 {
		f.disk = f.disk.after(f.disk.cutNow(r))
		says = "" // on the medium anything between may have arrived
	}
	look := func(exactly bool) {
		tab, err := f.disk.open(&f.options)
		require.NoError(t, err)
		have, err := readState(tab)
		require.NoError(t, err)
		from := tab.Stats().OpenedFrom
		require.Regexp(t, says, from)
		if exactly {
			require.Empty(t, diffOf(f.history.base, have), from)
		}
		if strings.Contains(from, "the working root") {
			require.NoError(t, f.history.rewind(have, 0))
		} else {
			require.NoError(t, f.history.resume(have))
		}
		kill(tab)
	}
	look(says != "")
	// That session found a poisoned one, and settled what is the truth: neither a
	// kill nor a power cut brings anything else up afterwards.
	settled := says != ""
	says = ""
	if r.IntN(2) == 0 {
		look(settled)
	}
	f.disk = f.disk.after(f.disk.cutNow(r))
	look(settled)
	tab, err := f.disk.open(&f.options)
	require.NoError(t, err)
	require.NoError(t, f.program(tab))
	require.NoError(t, tab.Close())
	look(false)
}

// TestFailedSyncWakesEveryWaiter: of many writers that wait for a commit, each
// learns that it failed, or that an earlier one that held its write did not.
func TestFailedSyncWakesEveryWaiter(t *testing.T) {
	for k := 1; k <= 4; k++ {
		d := newDisk(formatted(t, tiny(4)), 1<<20, 0)
		tab, err := d.open(nil)
		require.NoError(t, err)
		require.NoError(t, tab.Put([]byte("before"), nil))
		const writers = 16
		var begun atomic.Int32
		first, held := d.syncs, make(chan struct{})
		d.beforeSync = func(n int, whole bool) error {
			if n == first+1 && whole { // so long that all others wait for the next commit
				<-held
			}
			if n == first+k {
				return errIO
			}
			return nil
		}
		var wg sync.WaitGroup
		var errs [writers]error
		for i := range writers {
			wg.Go(func() {
				begun.Add(1)
				errs[i] = tab.Put(key(i), told(uint32(i), 1, 3))
			})
		}
		require.Eventually(t, func() bool { return begun.Load() == writers && tab.Stats().Writes == writers+1 }, 20*time.Second, time.Millisecond)
		close(held)
		wg.Wait()
		kept, lost := 0, 0
		for i, err := range errs {
			value, getErr := tab.Get(key(i))
			if err == nil {
				kept++
				require.NoError(t, getErr)
				require.Equal(t, told(uint32(i), 1, 3), value)
				continue
			}
			lost++
			require.ErrorIs(t, err, table.ErrPoisoned)
			require.ErrorIs(t, getErr, table.ErrNotFound)
		}
		t.Logf("sync %d failed: %d acknowledged, %d not", k, kept, lost)
		if k == 1 {
			require.Zero(t, kept)
		} else if k == 4 { // a commit has two syncs at most
			require.Positive(t, kept)
		}
		require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
	}
}

// TestReadersBesideFailedSync: readers that look all the time see each key go
// forward, and at the failure back to what was committed, and nothing else.
func TestReadersBesideFailedSync(t *testing.T) {
	r := seeded(t)
	for range rounds(20, 4) {
		const maxBytes, keys = 512 << 10, 8
		image := formatted(t, tiny(2))
		d := newDisk(append(image, make([]byte, maxBytes-len(image))...), maxBytes, 0)
		d.dropping(t, r)
		tab, err := d.open(&table.Options{Durability: table.OnSync})
		require.NoError(t, err)
		failAt, committed := r.IntN(12), uint32(0)
		var failing, done atomic.Bool
		d.beforeSync = func(int, bool) error {
			if failing.Load() {
				return errIO
			}
			return nil
		}
		for i := range keys {
			require.NoError(t, tab.Put(key(i), told(uint32(i), 0, 4)))
		}
		require.NoError(t, tab.Sync())
		// While the sync fails, pages lie under the readers that nobody stored so: a
		// reader may learn that, but gets no value that was never written.
		fine := func(i int, value []byte, err error) {
			if err == nil && i >= 0 {
				_, err = readTold(uint32(i), value)
			}
			if failing.Load() && (errors.Is(err, table.ErrCorrupt) || errors.Is(err, table.ErrNotFound)) {
				return
			}
			assert.NoError(t, err)
		}
		var all [][]byte
		for i := range keys {
			all = append(all, key(i))
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for !done.Load() {
					for i := range keys {
						v, err := tab.Get(key(i))
						fine(i, v, err)
					}
					for k, v := range tab.All() {
						fine(slices.IndexFunc(all, func(key []byte) bool { return string(key) == string(k) }), v, nil)
					}
					fine(-1, nil, tab.Err())
				}
			})
		}
		for version := uint32(1); ; version++ {
			for i := range keys {
				require.NoError(t, tab.Put(key(i), told(uint32(i), version, 4)))
			}
			failing.Store(int(version) == failAt+1)
			if err = tab.Sync(); err != nil {
				break
			}
			committed = version
		}
		require.ErrorIs(t, err, table.ErrPoisoned)
		for range 10 {
			for i := range keys {
				v, err := tab.Get(key(i))
				require.NoError(t, err)
				version, err := readTold(uint32(i), v)
				require.NoError(t, err)
				require.Equal(t, committed, version)
			}
		}
		done.Store(true)
		wg.Wait()
		require.ErrorIs(t, tab.Close(), table.ErrPoisoned)
	}
}
