package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/recovery/crashtest"
	"pmemtable/table"
)

// The failure looked for here: a Restore of which a part is there, before it
// returns, after an error or after a crash; one that takes something from a reader
// or a snapshot; or space that it does not give back.

// otherBackup is a backup of n entries and, if meta is not empty, a metadata record.
func otherBackup(t *testing.T, n int, meta string) ([]byte, diskState) {
	tab := onHeap(t, pmem.Auto, 2, 24<<20)
	s := diskState{entries: map[string]string{}, meta: meta}
	b := table.NewBatch()
	b.SetMetadata([]byte(meta))
	require.NoError(t, tab.Apply(b))
	for i := range n {
		k, v := fmt.Sprint("key ", 2*i), fmt.Sprint("restored ", i)
		require.NoError(t, tab.Put([]byte(k), []byte(v)))
		s.entries[k] = v
	}
	return backup(t, tab), s
}

func requireState(t *testing.T, tab *table.Table, want diskState) {
	t.Helper()
	have, err := readState(tab)
	require.NoError(t, err)
	require.True(t, have.equal(want), "%v", diffOf(want, have))
	require.Equal(t, len(want.entries), tab.Len())
	require.Equal(t, len(want.entries), checked(t, tab).Entries)
}

func TestRestoreReplacesEverything(t *testing.T) {
	t.Parallel()
	eachTable(t, func(t *testing.T, tab *table.Table) {
		empty, nothing := otherBackup(t, 0, "")
		stream, full := otherBackup(t, 500, "meta")
		fill := func(r *rand.Rand) diskState {
			s := diskState{entries: map[string]string{}}
			require.NoError(t, tab.Apply(randomBatch(r, &s, 100)))
			return s
		}
		r := seeded(t)
		was := fill(r)
		snap, err := tab.Snapshot()
		require.NoError(t, err)
		defer func() { require.NoError(t, snap.Close()) }()
		require.NoError(t, tab.Restore(bytes.NewReader(stream)))
		requireState(t, tab, full)
		require.Equal(t, len(was.entries), snap.Len())
		for k, v := range snap.All() {
			require.Equal(t, was.entries[string(k)], string(v))
		}
		require.NoError(t, snap.Err())

		require.NoError(t, tab.Put([]byte("more"), []byte("later")))
		full.entries["more"] = "later"
		requireState(t, tab, full)
		require.NoError(t, tab.Restore(bytes.NewReader(empty)))
		requireState(t, tab, nothing)
		require.NoError(t, tab.Clear())
		require.NoError(t, tab.Restore(bytes.NewReader(stream)))
		delete(full.entries, "more")
		requireState(t, tab, full)
	})
}

// TestRestoreSurvivesReopening on every medium, by Close and by kill -9.
func TestRestoreSurvivesReopening(t *testing.T) {
	stream, want := otherBackup(t, 300, "meta")
	for _, media := range append(mediaHere(), pmem.Auto) {
		h := pmem.NewHeap(nil, 24<<20)
		po := pmem.Options{Geometry: tiny(2), Media: media}
		tab := openOn(t, h, po, &table.Options{Durability: table.OnSync})
		require.NoError(t, tab.Put([]byte("old"), nil))
		require.NoError(t, tab.Restore(bytes.NewReader(stream)))
		kill(tab)
		tab = openOn(t, h, po, &table.Options{Durability: table.OnSync})
		requireState(t, tab, want)
		require.NoError(t, tab.Restore(bytes.NewReader(stream)))
		require.NoError(t, tab.Close())
		tab = openOn(t, h, po, &table.Options{Durability: table.OnSync})
		requireState(t, tab, want)
		require.NoError(t, tab.Close())
	}
}

// TestRestoreThatFails leaves the table as it was, and takes no room.
func TestRestoreThatFails(t *testing.T) {
	stream, _ := otherBackup(t, 300, "meta")
	broken := errors.New("broken")
	flipped := bytes.Clone(stream)
	flipped[len(flipped)/2] ^= 1
	for name, test := range map[string]struct {
		stream io.Reader
		want   error
	}{
		"empty":     {bytes.NewReader(nil), table.ErrBadBackup},
		"cut off":   {bytes.NewReader(stream[:len(stream)-3]), table.ErrBadBackup},
		"cut early": {bytes.NewReader(stream[:40]), table.ErrBadBackup},
		"changed":   {bytes.NewReader(flipped), table.ErrBadBackup},
		"too long":  {io.MultiReader(bytes.NewReader(stream), bytes.NewReader([]byte{0})), table.ErrBadBackup},
		"broken":    {io.MultiReader(bytes.NewReader(stream[:len(stream)/2]), iotest.ErrReader(broken)), broken},
	} {
		t.Run(name, func(t *testing.T) {
			tab := onHeap(t, pmem.Auto, 2, 24<<20)
			before := diskState{entries: map[string]string{}}
			require.NoError(t, tab.Apply(randomBatch(seeded(t), &before, 50)))
			require.ErrorIs(t, tab.Restore(test.stream), test.want)
			requireState(t, tab, before)
		})
	}
}

// TestRestoreGivesBack: space for two contents is enough for any number of times,
// whether they succeed or not; where there is not so much, the error is ErrFull.
func TestRestoreGivesBack(t *testing.T) {
	t.Parallel()
	stream, want := otherBackup(t, 1000, "meta")
	tab := onHeap(t, pmem.Auto, 1, 1<<20)
	for range alone(50, 50, 10) {
		require.ErrorIs(t, tab.Restore(bytes.NewReader(stream[:len(stream)-1])), table.ErrBadBackup)
		require.NoError(t, tab.Restore(bytes.NewReader(stream)))
	}
	requireState(t, tab, want)

	narrow := onHeap(t, pmem.Auto, 1, 192<<10)
	before := diskState{entries: map[string]string{}}
	require.NoError(t, narrow.Apply(randomBatch(seeded(t), &before, 50)))
	large, _ := otherBackup(t, 5000, "meta")
	for range 3 {
		require.ErrorIs(t, narrow.Restore(bytes.NewReader(large)), table.ErrFull)
		requireState(t, narrow, before)
	}
	require.NoError(t, narrow.Put([]byte("room"), nil))
}

// TestRestoreBesideOthers: a reader sees all of the one content or all of the
// other, key by key; writers, Clear, Compact and Check go on.
func TestRestoreBesideOthers(t *testing.T) {
	for _, media := range mediaHere() {
		t.Run(media.String(), func(t *testing.T) {
			tab := onHeap(t, media, 4, 24<<20)
			stream, want := otherBackup(t, 200, "meta")
			require.NoError(t, tab.Restore(bytes.NewReader(stream)))
			var stop atomic.Bool
			var others sync.WaitGroup
			beside := func(fn func(i int) error) {
				others.Go(func() {
					for i := 0; !stop.Load(); i++ {
						if err := fn(i); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			beside(func(i int) error {
				k := fmt.Sprint("key ", 2*(i%200))
				v, err := tab.Get([]byte(k))
				if err == nil && string(v) != want.entries[k] {
					err = fmt.Errorf("%s: %q", k, v)
				}
				return err
			})
			beside(func(int) error {
				meta, err := tab.Metadata()
				if err == nil && string(meta) != "meta" {
					err = fmt.Errorf("metadata %q", meta)
				}
				return err
			})
			beside(func(i int) error { return tab.Put(fmt.Append(nil, "passing ", i%300), value(i, i%300)) })
			beside(func(int) error { return tab.Compact() })
			beside(func(int) error { _, err := tab.Check(); return err })
			for range rounds(60, 15) {
				if err := tab.Restore(bytes.NewReader(stream)); err != nil {
					t.Error(err)
				}
			}
			stop.Store(true)
			others.Wait()
			require.NoError(t, tab.Restore(bytes.NewReader(stream)))
			requireState(t, tab, want)
		})
	}
}

// TestRestoreThatClosed ends with the table, and a closed or read-only one takes none.
func TestRestoreThatClosed(t *testing.T) {
	large := onHeap(t, pmem.Auto, 2, 24<<20)
	require.NoError(t, large.Put([]byte("large"), make([]byte, 1<<20))) // many reads
	stream := backup(t, large)
	h := pmem.NewHeap(nil, 24<<20)
	po := pmem.Options{Geometry: tiny(2)}
	tab := openOn(t, h, po, &table.Options{Durability: table.OnSync})
	r, w := io.Pipe()
	result := make(chan error)
	go func() { result <- tab.Restore(r) }()
	_, err := w.Write(stream[:50]) // it has begun
	require.NoError(t, err)
	closed := make(chan error)
	go func() { closed <- tab.Close() }()
	for tab.Put(nil, nil) == nil { // until the table closes
	}
	go func() { _, _ = w.Write(stream[50:]) }() // the read that it waits in, and more
	require.ErrorIs(t, <-result, table.ErrClosed)
	require.NoError(t, r.Close())
	require.NoError(t, <-closed)
	require.ErrorIs(t, tab.Restore(bytes.NewReader(stream)), table.ErrClosed)

	po.ReadOnly = true
	tab = openOn(t, h, po, nil)
	require.ErrorIs(t, tab.Restore(bytes.NewReader(stream)), table.ErrReadOnly)
	require.NoError(t, tab.Close())
}

// TestRestoreCrashes crashes one Restore everywhere.
func TestRestoreCrashes(t *testing.T) {
	for _, w := range batchWorlds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			r := seeded(t)
			var figures crashtest.Figures
			for _, meta := range []string{"", "other metadata"} {
				const maxBytes = 256 << 10
				h := pmem.NewHeap(nil, maxBytes)
				tab, err := w.open(h, throughHook{})
				require.NoError(t, err)
				before := diskState{entries: map[string]string{}}
				require.NoError(t, tab.Apply(randomBatch(r, &before, 10)))
				require.NoError(t, tab.Close())
				image := h.State()
				image = append(image, make([]byte, maxBytes-len(image))...)
				stream, after := otherBackup(t, 1+r.IntN(rounds(40, 12)), meta)
				figures.Add(w.everyCrash(t, r, image, before, after, func(tab *table.Table) error {
					return tab.Restore(bytes.NewReader(stream))
				}))
			}
			t.Log(figures)
		})
	}
}
