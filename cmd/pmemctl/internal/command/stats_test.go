package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/recovery"
	"pmemtable/table"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, have string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(have), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, strings.ReplaceAll(string(want), "\r\n", "\n"), have)
}

func buffered() (*output, *bytes.Buffer) {
	var text bytes.Buffer
	return &output{Writer: bufio.NewWriter(&text)}, &text
}

// madeStats is a document of figures that are all different.
func madeStats(beside bool) statsDocument {
	values := newSizes()
	for _, n := range []int64{0, 0, 1, 2, 3, 100, 100, 100, 5000, 1 << 20} {
		values.add(n)
	}
	survey := table.Survey{
		Entries: 10, KeyBytes: 160, ValueBytes: 1053882, Directories: 2, Segments: 3, Chains: 1, Slots: 6120,
		ProbeLengths: []int64{7, 2, 0, 0, 1},
		Classes: []table.ClassUse{
			{BlockBytes: 32, Blocks: 7, PayloadBytes: 150, Chunks: 1, ChunkBlocks: 2048},
			{BlockBytes: 5120, Blocks: 1, PayloadBytes: 5032, Chunks: 1, ChunkBlocks: 12},
			{BlockBytes: 16384, Blocks: 3, PayloadBytes: 49152, Chunks: 1, ChunkBlocks: 4},
		},
		Runs: table.ClassUse{Blocks: 1, PayloadBytes: 1048608, Chunks: 17},
	}
	if !beside {
		survey.Log = table.PendingLog{Generation: 3, RingBytes: 1 << 18, LogFigures: recovery.LogFigures{Frames: 21, Changes: 22, Bytes: 2300}}
	}
	stats := table.Stats{FileSizeBytes: 7 << 20, ChunkSizeBytes: 64 << 10, Snapshots: 0}
	activity := table.Activity{Generation: 4, Epoch: 17, CommitSequence: 12, Collections: 345}
	if beside {
		activity.Counters = table.Counters{Counted: true, CountedSince: time.Unix(1700000000, 0), PutNew: 1001, PutOver: 1002, Deleted: 1003,
			Swapped: 1004, SwapFailed: 1005, Unchanged: 1006, Batched: 1007, Moved: 1008, Batches: 1009, Clears: 1010, Splits: 1011, Merges: 1012,
			Copies: 1013, Chains: 1014, GrownExtents: 1015, Conflicts: 1016,
			CheckpointTimes: latencies(17, 34*time.Millisecond), DrainTimes: latencies(18, 18*300*time.Nanosecond),
			LogFlushTimes: latencies(19, 19*time.Millisecond), LogFlushes: 19, LogFrames: 20, LogChanges: 57, LogBytes: 5700, LogSizeBytes: 1 << 18, LogUsedBytes: 4096}
	}
	return newStatsDocument("t.pmt", survey, values, stats, activity, beside)
}

// latencies are so many that took as long in all, each the same.
func latencies(n uint64, total time.Duration) table.Latencies {
	l := table.Latencies{Count: n, Total: total}
	if n > 0 {
		l.Last = total / time.Duration(n)
		l.Longest = l.Last
		l.Buckets[layout.LatencyBucket(uint64(l.Last))] = n
	}
	return l
}

func TestStatsText(t *testing.T) {
	for _, beside := range []bool{false, true} {
		out, text := buffered()
		printStats(out, madeStats(beside))
		require.NoError(t, out.Flush())
		golden(t, fmt.Sprintf("stats-beside-%v.txt", beside), text.String())
	}
}

func TestStatsJSON(t *testing.T) {
	for _, beside := range []bool{false, true} {
		out, text := buffered()
		require.NoError(t, out.document(madeStats(beside)))
		golden(t, fmt.Sprintf("stats-beside-%v.json", beside), text.String())
	}
}

// TestStatsIntervals: rates are of the time that passed, whatever the ticker does.
func TestStatsIntervals(t *testing.T) {
	began := time.Unix(1000, 0)
	looks := []table.Activity{
		{Generation: 1, Epoch: 10, CommitSequence: 5, Collections: 100, FileSizeBytes: 1 << 20, Entries: 10, EntriesKnown: true,
			Counters: table.Counters{Counted: true, CountedSince: began, PutNew: 10, CheckpointTimes: latencies(5, 5*time.Millisecond)}},
		{Generation: 1, Epoch: 30, CommitSequence: 15, Collections: 7100, FileSizeBytes: 3 << 20, Entries: 5010, EntriesKnown: true,
			Counters: table.Counters{Counted: true, CountedSince: began, PutNew: 5010, PutOver: 2000, Deleted: 7, Swapped: 8, SwapFailed: 9, Unchanged: 10,
				Batched: 11, Moved: 12, Batches: 13, Clears: 14, Splits: 15, Merges: 16, Copies: 17, Chains: 18, GrownExtents: 19, Conflicts: 20,
				CheckpointTimes: latencies(15, 15*time.Millisecond), DrainTimes: latencies(28, 28*300*time.Nanosecond),
				LogFlushTimes: latencies(30, 60*time.Millisecond), LogFlushes: 30, LogChanges: 75, LogFrames: 31, LogBytes: 7500, LogSizeBytes: 1 << 18}},
		{Generation: 1, Epoch: 31, CommitSequence: 15, Collections: 7100, FileSizeBytes: 3 << 20, Entries: 5010, EntriesKnown: true},
		{Generation: 2, Epoch: 40, CommitSequence: 16, Collections: 7200, FileSizeBytes: 2 << 20,
			Counters: table.Counters{Counted: true, CountedSince: began.Add(time.Hour), PutNew: 4}}, // another session
	}
	for _, asJSON := range []bool{false, true} {
		n := 0
		look := func() table.Activity { n++; return looks[n-1] }
		ticks := make(chan time.Time, 3)
		for _, seconds := range []float64{1, 3, 3.5} {
			ticks <- began.Add(time.Duration(seconds * float64(time.Second)))
		}
		out, text := buffered()
		w := watcher{out: out, json: asJSON, file: "t.pmt"}
		require.NoError(t, w.watch(t.Context(), look, began, ticks, 3))
		golden(t, fmt.Sprintf("stats-interval-json-%v.txt", asJSON), text.String())
	}
}

// TestStatsOfATable: the figures are those of the table.
func TestStatsOfATable(t *testing.T) {
	flat, _ := manyEntries(500)
	file := newTable(t, flat...)
	var d statsDocument
	decoder := json.NewDecoder(strings.NewReader(must(t, "stats", "--json", file)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&d))
	assert.Equal(t, 1, d.SchemaVersion)
	assert.Equal(t, file, d.File)
	values, largest := int64(0), int64(0)
	distinct := map[string]string{}
	for i := 0; i < len(flat); i += 2 {
		distinct[flat[i]] = flat[i+1]
	}
	for _, v := range distinct {
		values, largest = values+int64(len(v)), max(largest, int64(len(v)))
	}
	assert.EqualValues(t, len(distinct), d.Entries)
	assert.Equal(t, values, d.ValueBytes)
	assert.Equal(t, largest, d.ValueSizes.MaxBytes)
	var probes, buckets, blocks int64
	for _, p := range d.ProbeLengths {
		probes += p.Entries
	}
	for _, b := range d.ValueSizes.Buckets {
		buckets += b.Entries
	}
	for _, c := range d.SizeClasses {
		blocks += c.Used
	}
	assert.Equal(t, d.Entries, probes)
	assert.Equal(t, d.Entries, buckets)
	assert.Equal(t, d.Entries+d.Segments+d.Directories, blocks+d.Runs.Blocks)
	assert.False(t, d.BesideWriter)
	assert.Zero(t, *d.Snapshots)
	assert.Positive(t, d.LoadFactor)

	text := must(t, "stats", file)
	assert.Contains(t, text, "\nentries      500; keys ")
	assert.Contains(t, text, "load factor  ")
	lines := strings.Split(strings.TrimSpace(must(t, "stats", "--interval=1ms", "--count=2", file)), "\n")
	assert.Len(t, lines, 3)
	empty := newTable(t)
	assert.Contains(t, must(t, "stats", empty), "\nentries      0; keys 0 B, values 0 B\n")
}

// TestStatsBesideAWriter: what a writer that has the file open counts is seen at once.
func TestStatsBesideAWriter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.pmt")
	tab, err := table.Open(file, &table.Options{Durability: table.OnSync})
	require.NoError(t, err)
	defer tab.Close()
	for i := range 300 {
		require.NoError(t, tab.Put(fmt.Append(nil, i%200), []byte("v")))
	}
	require.NoError(t, tab.Delete([]byte("7")))
	var d statsDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "stats", "--json", file)), &d))
	require.True(t, d.BesideWriter)
	require.NotNil(t, d.Activity.Operations)
	assert.Equal(t, operationsDocument{PutNew: 200, PutOver: 100, Deleted: 1}, *d.Activity.Operations)
	assert.Contains(t, must(t, "stats", file), "\nsince then   put 200 new and 100 over, 1 deleted, ")
}

func TestStatsUsage(t *testing.T) {
	file := newTable(t)
	fails(t, ExitUsage, "--interval", "stats", "--interval=-1s", file)
	fails(t, ExitUsage, "--interval", "stats", "--interval=1us", file)
	fails(t, ExitUsage, "--count", "stats", "--count=3", file)
	fails(t, ExitIO, "no such file", "stats", file+".missing")
	r := world{terminal: true}.run(t, "stats", newTable(t, hostileKey, hostileKey))
	assert.Equal(t, ExitOK, r.code)
	assertHarmless(t, r.out)
}
