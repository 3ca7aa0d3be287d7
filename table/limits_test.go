package table_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/race"
	"pmemtable/pmem"
	"pmemtable/table"
)

// The limits of docs/limits.md; those of sizes are in TestSizes, TestLargestValue and
// TestTooLarge.

// TestManyTables: 1,000 small tables that are open in one process at the same time. Each
// takes one descriptor and a small file, and keeps no goroutine.
func TestManyTables(t *testing.T) {
	count := 1000
	if testing.Short() || race.Enabled {
		count = 100
	}
	dir := t.TempDir()
	// Forced, so that no open waits for a disk.
	o := &table.Options{Stripes: 1, MaxSize: 64 << 20, Media: pmem.Tmpfs}
	before, files := runtime.NumGoroutine(), openFiles()
	tables := make([]*table.Table, count)
	for i := range tables {
		tab, err := table.Open(filepath.Join(dir, fmt.Sprint(i)), o)
		require.NoError(t, err, "table %d", i)
		defer tab.Close()
		require.NoError(t, tab.Put(key(i), value(i, 100)))
		tables[i] = tab
	}
	for i, tab := range tables {
		got, err := tab.Get(key(i))
		require.NoError(t, err)
		require.Equal(t, value(i, 100), got)
		require.Equal(t, 1, tab.Len())
		require.LessOrEqual(t, tab.Stats().FileSizeBytes, int64(1<<20))
	}
	require.LessOrEqual(t, openFiles()-files, count, "one descriptor each")
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+10 }, time.Minute, time.Millisecond,
		"what opening began has ended")
	for _, tab := range tables {
		require.NoError(t, tab.Close())
	}
}

// TestManyGoroutines: 10,000 of them, each of which waits for the disk, adds to a counter
// that they share, and reads what it wrote.
func TestManyGoroutines(t *testing.T) {
	count := 10_000
	if race.Enabled { // whose own limit is 8,128
		count = 2000
	}
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Stripes: 8, MaxSize: 1 << 30})
	require.NoError(t, err)
	const counters = 4
	var group sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range count {
		group.Go(func() {
			if err := oneOfMany(tab, i, i%counters); err != nil {
				failed.Store(&err)
			}
		})
	}
	group.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	total := uint64(0)
	for c := range counters {
		got, err := tab.Get(fmt.Appendf(nil, "counter %d", c))
		require.NoError(t, err)
		total += binary.LittleEndian.Uint64(got)
	}
	require.EqualValues(t, count, total)
	require.Equal(t, count+counters, tab.Len())
	require.Less(t, tab.Stats().Checkpoints, uint64(count), "they shared commits")
	require.NoError(t, tab.Close())
}

func oneOfMany(tab *table.Table, i, counter int) error {
	if err := tab.Put(key(i), value(i, 16)); err != nil {
		return err
	}
	got, err := tab.Get(key(i))
	if err != nil {
		return err
	}
	if string(got) != string(value(i, 16)) {
		return fmt.Errorf("%d reads %q", i, got)
	}
	return tab.Update(fmt.Appendf(nil, "counter %d", counter), func(old []byte, exists bool) ([]byte, table.Op) {
		n := uint64(0)
		if exists {
			n = binary.LittleEndian.Uint64(old)
		}
		return binary.LittleEndian.AppendUint64(nil, n+1), table.Store
	})
}

// TestSpaceOfUpdates: values of all sizes, overwritten again and again with commits in
// between: the file does not grow any more once it has been through some of them.
func TestSpaceOfUpdates(t *testing.T) {
	t.Parallel()
	rounds, each := 40, 10_000
	if testing.Short() || race.Enabled {
		rounds, each = 20, alone(5000, 5000, 2500)
	}
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"),
		&table.Options{Stripes: 4, MaxSize: 1 << 30, Durability: table.OnSync})
	require.NoError(t, err)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const keys = 2000
	largest := value(1, 3000)
	warm := int64(0)
	for round := range rounds {
		for range each {
			require.NoError(t, tab.Put(key(r.IntN(keys)), largest[:r.IntN(len(largest))]))
		}
		require.NoError(t, tab.Sync())
		switch size := tab.Stats().FileSizeBytes; {
		case round < rounds/4:
			warm = size
		default:
			require.LessOrEqual(t, size, warm+warm/4, "round %d", round)
		}
	}
	require.Equal(t, keys, tab.Len())
	require.NoError(t, tab.Close())
}
