package table_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// TestCountersByKind: every change is counted once, under its kind, and a reader of
// another process sees the same.
func TestCountersByKind(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	tab := openOn(t, h, pmem.Options{Geometry: tiny(4), Media: pmem.PageCache}, &table.Options{Durability: table.OnSync})
	defer tab.Close()
	reader := openOn(t, h, pmem.Options{ReadOnly: true}, nil)
	defer reader.Close()
	k := func(i int) []byte { return key(i) }
	v := []byte("value")

	var want table.Counters
	check := func(what string, do func(), expect func(c *table.Counters)) {
		t.Helper()
		do()
		expect(&want)
		s := tab.Stats()
		for from, have := range map[string]table.Counters{"Stats": s.Counters, "the reader's Activity": reader.Activity().Counters} {
			require.True(t, have.Counted)
			require.Equal(t, want.Changes(), have.Changes(), "%s, %s", what, from)
			for name, pair := range map[string][2]uint64{
				"new": {want.PutNew, have.PutNew}, "over": {want.PutOver, have.PutOver}, "deleted": {want.Deleted, have.Deleted},
				"swapped": {want.Swapped, have.Swapped}, "swap failed": {want.SwapFailed, have.SwapFailed},
				"unchanged": {want.Unchanged, have.Unchanged}, "batched": {want.Batched, have.Batched},
				"batches": {want.Batches, have.Batches}, "clears": {want.Clears, have.Clears},
			} {
				require.Equal(t, pair[0], pair[1], "%s: %s, by %s", what, name, from)
			}
		}
		require.Equal(t, want.Changes(), s.Writes)
	}
	ok := func(err error) { t.Helper(); require.NoError(t, err) }
	is := func(want bool) func(bool, error) {
		return func(have bool, err error) { t.Helper(); ok(err); require.Equal(t, want, have) }
	}
	check("put", func() { ok(tab.Put(k(1), v)); ok(tab.Put(k(2), v)) }, func(c *table.Counters) { c.PutNew += 2 })
	check("put over", func() { ok(tab.Put(k(1), v)) }, func(c *table.Counters) { c.PutOver++ })
	check("put many", func() { ok(tab.PutMany([][]byte{k(1), k(3)}, [][]byte{v, v})) }, func(c *table.Counters) { c.PutOver++; c.PutNew++ })
	check("put if absent", func() { is(true)(tab.PutIfAbsent(k(4), v)) }, func(c *table.Counters) { c.PutNew++ })
	check("put if absent, present", func() { is(false)(tab.PutIfAbsent(k(4), v)) }, func(c *table.Counters) { c.Unchanged++ })
	check("compare and swap", func() { is(true)(tab.CompareAndSwap(k(4), v, []byte("w"))) }, func(c *table.Counters) { c.Swapped++ })
	check("compare and swap, failed", func() { is(false)(tab.CompareAndSwap(k(4), v, v)) }, func(c *table.Counters) { c.SwapFailed++ })
	check("compare and delete", func() { is(true)(tab.CompareAndDelete(k(4), []byte("w"))) }, func(c *table.Counters) { c.Swapped++ })
	check("compare and delete, failed", func() { is(false)(tab.CompareAndDelete(k(4), v)) }, func(c *table.Counters) { c.SwapFailed++ })
	check("delete", func() { ok(tab.Delete(k(3))) }, func(c *table.Counters) { c.Deleted++ })
	check("delete, absent", func() { ok(tab.Delete(k(3))) }, func(c *table.Counters) { c.Unchanged++ })
	check("swap", func() {
		_, _, err := tab.Swap(k(1), v)
		ok(err)
	}, func(c *table.Counters) { c.PutOver++ })
	update := func(op table.Op) func() {
		return func() {
			ok(tab.Update(k(1), func(old []byte, _ bool) ([]byte, table.Op) { return append(old, '+'), op }))
		}
	}
	check("update", update(table.Store), func(c *table.Counters) { c.Swapped++ })
	check("update that keeps", update(table.Keep), func(c *table.Counters) { c.Unchanged++ })
	check("update that removes", update(table.Remove), func(c *table.Counters) { c.Swapped++ })
	check("restore", func() { ok(tab.Restore(bytes.NewReader(backup(t, tab)))) }, func(c *table.Counters) { c.Clears++ })
	check("batch", func() {
		b := table.NewBatch()
		b.Put(k(5), v)
		b.Delete(k(2))
		b.Delete(k(6)) // absent: no change
		ok(tab.Apply(b))
	}, func(c *table.Counters) { c.Batched += 2; c.Batches++ })
	check("sync", func() { ok(tab.Sync()) }, func(*table.Counters) {})
	// At least this one's: the tree that Restore replaced is given back after a commit.
	require.Positive(t, reader.Activity().Checkpoints)
	check("reads", func() {
		for range 100 {
			_, _ = tab.Get(k(5))
			_, _ = tab.Has(k(6))
		}
	}, func(*table.Counters) {})
	check("clear", func() { ok(tab.Clear()) }, func(c *table.Counters) { c.Clears++ })
}

// TestCountersOfStructure: splits, copies, merges and growth are counted, and what a
// checkpoint took.
func TestCountersOfStructure(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	tab := openOn(t, h, pmem.Options{Geometry: tiny(2), Media: pmem.PageCache}, &table.Options{Durability: table.OnSync})
	defer tab.Close()
	for i := range 2000 {
		require.NoError(t, tab.Put(key(i), value(i, 100)))
	}
	filled := tab.Stats()
	require.Positive(t, filled.Splits)
	require.Positive(t, filled.GrownExtents)
	require.Zero(t, filled.Copies)
	require.NoError(t, tab.Sync())
	require.NoError(t, tab.Put(key(0), value(1, 100)))
	require.EqualValues(t, 1, tab.Stats().Copies)
	for i := range 1990 {
		require.NoError(t, tab.Delete(key(i)))
	}
	require.NoError(t, tab.Compact())
	s := tab.Stats()
	require.Positive(t, s.Merges)
	require.Positive(t, s.Checkpoints)
	require.Equal(t, s.Checkpoints, s.CheckpointTimes.Count)
	require.GreaterOrEqual(t, s.CheckpointTimes.Total, s.CheckpointTimes.Longest)
	require.GreaterOrEqual(t, s.CheckpointTimes.Longest, s.CheckpointTimes.Last)
	require.Positive(t, s.CheckpointTimes.Last)
	require.EqualValues(t, 1990, s.Deleted)
}

// TestCountersOfDrains: some of the drains of persistent memory are timed.
func TestCountersOfDrains(t *testing.T) {
	if !canFlush() {
		return // nothing passes for persistent memory: nothing drains
	}
	tab := onHeap(t, pmem.DAX, 1, 8<<20)
	defer tab.Close()
	for i := range 1000 {
		require.NoError(t, tab.Put(key(i), nil))
	}
	s := tab.Stats()
	require.EqualValues(t, 1000/256, s.DrainTimes.Count)
	require.Positive(t, s.DrainTimes.Total)
}

// TestCountersAreOfASession: each begins with zeros, and nothing depends on what the
// region holds.
func TestCountersAreOfASession(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	options := pmem.Options{Geometry: tiny(4), Media: pmem.PageCache}
	tab := openOn(t, h, options, nil)
	require.NoError(t, tab.Put([]byte("k"), []byte("v")))
	require.EqualValues(t, 1, tab.Stats().PutNew)
	require.WithinDuration(t, time.Now(), tab.Stats().CountedSince, time.Hour)
	require.NoError(t, tab.Close())

	image := h.Image()
	reader := openOn(t, pmem.NewHeap(image, 8<<20), pmem.Options{ReadOnly: true}, nil)
	require.EqualValues(t, 1, reader.Stats().PutNew, "the last session's are there for who looks later")
	require.NoError(t, reader.Close())

	for _, r := range tiny(4).CounterRanges() {
		for i := range r[1] {
			image[r[0]+i] = byte(0xa5 + i)
		}
	}
	h = pmem.NewHeap(image, 8<<20)
	reader = openOn(t, h, pmem.Options{ReadOnly: true}, nil)
	require.Equal(t, table.Counters{}, reader.Activity().Counters, "counters of no session are not shown")
	require.NoError(t, reader.Close())
	tab = openOn(t, h, options, nil)
	defer tab.Close()
	s := tab.Stats()
	require.True(t, s.Counted)
	require.Zero(t, s.Writes+s.Splits+s.Checkpoints+s.Conflicts+s.GrownExtents+s.Unchanged+s.SwapFailed)
	require.Equal(t, table.Latencies{}, s.DrainTimes)
	got, err := tab.Get([]byte("k"))
	require.NoError(t, err)
	require.Equal(t, "v", string(got))
	checked(t, tab)
}

// TestReadsStoreNothing: not a byte of the file changes by reading, counters included.
func TestReadsStoreNothing(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	options := pmem.Options{Geometry: tiny(4), Media: pmem.PageCache}
	tab := openOn(t, h, options, &table.Options{Durability: table.OnSync})
	for i := range 100 {
		require.NoError(t, tab.Put(key(i), key(i)))
	}
	require.NoError(t, tab.Close())
	tab = openOn(t, h, options, nil) // so that no growth ahead is under way
	defer tab.Close()
	<-tab.Pool().Swept()
	before := h.Image()
	var keys [][]byte
	for i := range 120 {
		_, _ = tab.Get(key(i))
		_, _ = tab.Has(key(i))
		_ = tab.View(key(i), func([]byte) error { return nil })
		keys = append(keys, key(i))
	}
	tab.GetMany(keys, func(int, []byte, error) {})
	for range tab.All() {
	}
	_ = tab.Stats()
	_ = tab.Activity()
	require.True(t, bytes.Equal(before, h.Image()))
}

func TestLatencies(t *testing.T) {
	var l table.Latencies
	require.Zero(t, l.Mean())
	require.Zero(t, l.AtMost(0.99))
	l = table.Latencies{Count: 100, Total: 100 * time.Millisecond, Longest: 40 * time.Millisecond}
	l.Buckets[layout.LatencyBucket(uint64(time.Millisecond/2))] = 98
	l.Buckets[layout.LatencyBucket(uint64(40*time.Millisecond))] = 2
	require.Equal(t, time.Millisecond, l.Mean())
	require.Equal(t, time.Duration(1<<19), l.AtMost(0.5))
	require.Equal(t, time.Duration(1<<19), l.AtMost(0.98))
	require.Equal(t, 40*time.Millisecond, l.AtMost(0.99), "no more than the longest")
	require.Equal(t, 40*time.Millisecond, l.AtMost(1))
	require.Equal(t, time.Duration(1<<19), l.AtMost(0))
	before := table.Latencies{Count: 60, Total: 30 * time.Millisecond}
	before.Buckets[layout.LatencyBucket(uint64(time.Millisecond/2))] = 60
	since := l.Since(before)
	require.EqualValues(t, 40, since.Count)
	require.Equal(t, 70*time.Millisecond, since.Total)
	require.EqualValues(t, 38, since.Buckets[13])
	require.Equal(t, uint64(0), before.Since(l).Count, "counters that went back are 0, not huge")
	require.Equal(t, time.Duration(64), table.LatencyBound(0))
	_ = table.Latencies{Count: math.MaxUint64}.Since(l)
}

// TestConflictsAreCounted: a read that met a version that moved is counted, from the
// process that writes, and a reader of another counts its own.
func TestConflictsAreCounted(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	tab := openOn(t, h, pmem.Options{Geometry: tiny(1), Media: pmem.PageCache}, &table.Options{Durability: table.OnSync})
	defer tab.Close()
	require.NoError(t, tab.Put(key(1), value(1, 100)))
	reader := openOn(t, h, pmem.Options{ReadOnly: true}, nil)
	defer reader.Close()
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
				tab.NextVersions()
			}
		}
	}()
	for tab.Stats().Conflicts == 0 || reader.Stats().Conflicts == 0 {
		_, err := tab.Get(key(1))
		require.NoError(t, err)
		_, _ = reader.Get(key(1)) // it may give up: there is always another version
	}
	close(stop)
	require.NoError(t, <-done)
	require.Equal(t, tab.Stats().Conflicts, reader.Activity().Conflicts, "the writer's own are in the file")
}
