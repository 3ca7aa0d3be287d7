package table_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

// recorder is a slog.Handler that keeps what it is given.
type recorder struct {
	least slog.Level

	mu      sync.Mutex
	records []map[string]any
}

func (r *recorder) Enabled(_ context.Context, level slog.Level) bool { return level >= r.least }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler               { panic("not expected") }
func (r *recorder) WithGroup(string) slog.Handler                    { panic("not expected") }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	m := map[string]any{"msg": record.Message, "level": record.Level}
	record.Attrs(func(a slog.Attr) bool {
		m[a.Key] = a.Value.Any()
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, m)
	return nil
}

// take returns the records with a message, and forgets all.
func (r *recorder) take(msg string) (found []map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.records {
		if m["msg"] == msg {
			found = append(found, m)
		}
	}
	r.records = nil
	return found
}

// slowTable is a table whose clock goes on by step at every look.
func slowTable(t *testing.T, step, threshold time.Duration) (*table.Table, *recorder, *pmem.Heap) {
	logs := &recorder{least: slog.LevelDebug}
	h := pmem.NewHeap(nil, 8<<20)
	tab := openOn(t, h, pmem.Options{Geometry: tiny(2), Media: pmem.PageCache, Logger: slog.New(logs)},
		&table.Options{Durability: table.OnSync, SlowOperation: threshold})
	t.Cleanup(func() { _ = tab.Close() })
	var clock atomic.Int64
	tab.SetSlowClock(func() int64 { return clock.Add(int64(step)) })
	return tab, logs, h
}

// TestSlowOperations: every call that writes is reported by its name when it takes
// longer than the threshold, with where its time went.
func TestSlowOperations(t *testing.T) {
	tab, logs, _ := slowTable(t, time.Second, time.Second)
	v := []byte("value")
	one := func(name string, do func() error) map[string]any {
		t.Helper()
		logs.take("")
		require.NoError(t, do())
		found := slices.DeleteFunc(logs.take("slow operation"), func(m map[string]any) bool { return m["operation"] == "checkpoint" })
		require.Len(t, found, 1, name)
		require.Equal(t, name, found[0]["operation"])
		require.Equal(t, slog.LevelWarn, found[0]["level"])
		require.Equal(t, "heap", found[0]["path"])
		total := time.Duration(0)
		for _, p := range []string{"filling", "taking_space", "lock_wait", "changing", "commit_wait"} {
			if spent, ok := found[0][p]; ok {
				total += spent.(time.Duration)
			}
		}
		require.Equal(t, found[0]["took"], total, "all of the time went somewhere: %v", found[0])
		return found[0]
	}
	m := one("put", func() error { return tab.Put(key(1), v) })
	require.EqualValues(t, len(key(1)), m["key_bytes"])
	require.EqualValues(t, len(v), m["value_bytes"])
	one("put if absent", func() error { _, err := tab.PutIfAbsent(key(1), v); return err })
	one("compare and swap", func() error { _, err := tab.CompareAndSwap(key(1), v, v); return err })
	one("compare and delete", func() error { _, err := tab.CompareAndDelete(key(2), v); return err })
	one("delete", func() error { return tab.Delete(key(2)) })
	one("update", func() error {
		return tab.Update(key(2), func([]byte, bool) ([]byte, table.Op) { return nil, table.Keep })
	})
	m = one("put many", func() error { return tab.PutMany([][]byte{key(1), key(2)}, [][]byte{v, v}) })
	require.EqualValues(t, 2, m["keys"])
	m = one("batch", func() error {
		b := table.NewBatch()
		b.Put(key(3), v)
		b.Delete(key(1))
		return tab.Apply(b)
	})
	require.EqualValues(t, 2, m["keys"])
	m = one("sync", tab.Sync)
	require.Equal(t, "waiting for a commit", m["mostly"])
	m = one("put", func() error { return tab.Put(key(2), v) })
	require.EqualValues(t, 1, m["copies"], "the commit froze the segment")
	one("clear", tab.Clear)
	for _, m := range logs.take("slow operation") {
		require.NotContains(t, m, "key")
	}
}

// TestSlowSplit: a call that had to split says so.
func TestSlowSplit(t *testing.T) {
	tab, logs, _ := slowTable(t, time.Second, time.Second)
	splits := int64(0)
	for i := range 500 {
		require.NoError(t, tab.Put(key(i), nil))
		for _, m := range logs.take("slow operation") {
			if n, ok := m["splits"]; ok {
				splits += n.(int64)
			}
		}
	}
	require.Positive(t, splits)
	require.EqualValues(t, tab.Stats().Splits, splits)
}

// TestSlowLock: a call that waited for a stripe's mutex says so.
func TestSlowLock(t *testing.T) {
	tab, logs, _ := slowTable(t, 0, time.Second)
	require.NoError(t, tab.Put(key(1), nil)) // the segment is there
	var clock atomic.Int64
	looks := make(chan int64, 100)
	tab.SetSlowClock(func() int64 {
		at := clock.Load()
		looks <- at
		return at
	})
	unlock := []func(){tab.HoldStripe(0), tab.HoldStripe(1)}
	done := make(chan error)
	go func() { done <- tab.Delete(key(1)) }()
	<-looks // the call begins
	<-looks // it is about to wait
	clock.Store(int64(3 * time.Second))
	for _, u := range unlock {
		u()
	}
	require.NoError(t, <-done)
	found := logs.take("slow operation")
	require.Len(t, found, 1)
	require.Equal(t, "waiting for the lock", found[0]["mostly"])
	require.Equal(t, 3*time.Second, found[0]["lock_wait"])
	require.Equal(t, 3*time.Second, found[0]["took"])
	require.NotContains(t, found[0], "changing")
}

// TestSlowIsBounded: ten reports a second, and how many were left out.
func TestSlowIsBounded(t *testing.T) {
	tab, logs, _ := slowTable(t, 0, 1)
	var clock atomic.Int64
	step := int64(1)
	clock.Store(int64(time.Hour))
	tab.SetSlowClock(func() int64 { return clock.Add(step) })
	for i := range 100 {
		require.NoError(t, tab.Put(key(i), nil))
	}
	require.Len(t, logs.take("slow operation"), 10)
	clock.Add(int64(time.Second))
	require.NoError(t, tab.Delete(key(1)))
	found := logs.take("slow operation")
	require.Len(t, found, 1)
	require.EqualValues(t, 90, found[0]["not_reported"])
	require.NoError(t, tab.Delete(key(2)))
	require.NotContains(t, logs.take("slow operation")[0], "not_reported")
}

// TestQuickIsNotReported: nothing below the threshold, and nothing without one.
func TestQuickIsNotReported(t *testing.T) {
	tab, logs, _ := slowTable(t, time.Millisecond, time.Hour)
	for i := range 100 {
		require.NoError(t, tab.Put(key(i), nil))
	}
	require.NoError(t, tab.Sync())
	require.Empty(t, logs.take("slow operation"))

	logs = &recorder{}
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Logger: slog.New(logs), Durability: table.OnSync})
	require.NoError(t, err)
	defer tab.Close()
	require.NoError(t, tab.Put(key(1), nil))
	require.NoError(t, tab.Sync())
	require.Empty(t, logs.take("slow operation"))
}

// TestSlowCheckpoint: reported by itself.
func TestSlowCheckpoint(t *testing.T) {
	tab, logs, _ := slowTable(t, 0, time.Nanosecond)
	require.NoError(t, tab.Put(key(1), nil))
	require.NoError(t, tab.Sync())
	found := slices.DeleteFunc(logs.take("slow operation"), func(m map[string]any) bool { return m["operation"] != "checkpoint" })
	require.Len(t, found, 1)
	require.Positive(t, found[0]["took"])
	require.Positive(t, found[0]["held_locks"])
	require.Positive(t, found[0]["sequence"])
}

// TestRecoveryIsLogged: which root, why, how long, and what was damaged.
func TestRecoveryIsLogged(t *testing.T) {
	h := pmem.NewHeap(nil, 8<<20)
	options := pmem.Options{Geometry: tiny(2), Media: pmem.PageCache}
	tab := openOn(t, h, options, &table.Options{Durability: table.OnSync})
	for i := range 100 {
		require.NoError(t, tab.Put(key(i), key(i)))
	}
	kill(tab)
	image := h.Image()

	open := func(h *pmem.Heap, least slog.Level) (*table.Table, *recorder) {
		logs := &recorder{least: least}
		o := options
		o.Logger = slog.New(logs)
		tab := openOn(t, h, o, nil)
		t.Cleanup(func() { _ = tab.Close() })
		require.Eventually(t, func() bool { return !tab.Stats().Marking }, 20*time.Second, time.Millisecond)
		return tab, logs
	}
	tab, logs := open(h, slog.LevelInfo)
	all := logs.records
	require.Len(t, all, 2)
	slices.SortFunc(all, func(a, b map[string]any) int { return len(b["msg"].(string)) - len(a["msg"].(string)) })
	require.Equal(t, "opened after an unclean end", all[0]["msg"])
	require.Equal(t, tab.Stats().OpenedFrom, all[0]["root"])
	require.Equal(t, tab.Stats().OpenDuration, all[0]["took"])
	require.EqualValues(t, tab.Stats().Generation, all[0]["generation"])
	require.Equal(t, "free space found", all[1]["msg"])
	require.EqualValues(t, 100, all[1]["entries"])
	require.Equal(t, tab.Stats().MarkDuration, all[1]["took"])
	require.NoError(t, tab.Close())

	tab, logs = open(h, slog.LevelInfo)
	require.Empty(t, logs.records, "an open in order is of no interest")
	require.NoError(t, tab.Close())
	_, logs = open(h, slog.LevelDebug)
	require.Len(t, logs.take("opened"), 1)

	word := func(at uint64) uint64 { return binary.LittleEndian.Uint64(image[at:]) }
	area := word(tiny(2).Regions().Control + layout.ControlRoot)
	dir, _, ok := layout.DecodeStripeRoot(word(area + layout.RootStripes))
	require.True(t, ok)
	image[dir+layout.DirectoryHeaderBytes+7] ^= 0x80 // a bit that must be zero
	tab, logs = open(pmem.NewHeap(image, 8<<20), slog.LevelInfo)
	found := logs.take("damage found: the file's free space stays out of use")
	require.Len(t, found, 1)
	require.Equal(t, slog.LevelError, found[0]["level"])
	require.NotZero(t, found[0]["offset"])
	require.NotEmpty(t, found[0]["object"])
	require.Equal(t, tab.Stats().Damage, found[0]["err"].(error).Error())
}
