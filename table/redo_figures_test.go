package table_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"pmemtable/pmem"
	"pmemtable/table"
)

// The failure looked for here: what is said of a log, by who writes it, who reads beside,
// and who comes upon it before anybody has taken it up.

// TestFiguresOfTheLog of a writer are those that a reader of another process sees.
func TestFiguresOfTheLog(t *testing.T) {
	g := newLogged(t, 512<<10)
	reader := openOn(t, g.disk.heap, pmem.Options{ReadOnly: true}, nil)
	defer reader.Close()
	before := g.tab.Stats()
	for i := range 10 {
		require.NoError(t, g.tab.Put(key(i), value(i, 50)))
	}
	b := table.NewBatch()
	b.Put(key(20), nil)
	b.Delete(key(1))
	b.SetMetadata([]byte("meta"))
	require.NoError(t, g.tab.Apply(b))
	s := g.tab.Stats()
	require.EqualValues(t, 11, s.LogFlushes-before.LogFlushes)
	require.EqualValues(t, 11, s.LogFrames-before.LogFrames)
	require.EqualValues(t, 13, s.LogChanges-before.LogChanges)
	require.Equal(t, s.LogFlushes, s.LogFlushTimes.Count)
	require.GreaterOrEqual(t, s.LogFlushTimes.Total, s.LogFlushTimes.Longest)
	require.Positive(t, s.LogFlushTimes.Longest)
	require.EqualValues(t, 8<<10, s.LogSizeBytes)
	require.Equal(t, int64(s.LogBytes-before.LogBytes), s.LogUsedBytes-before.LogUsedBytes)
	for _, have := range []table.Counters{reader.Stats().Counters, reader.Activity().Counters} {
		have.GrownExtents = s.GrownExtents // the file grows ahead of need
		require.Equal(t, s.Counters, have)
	}
	require.Zero(t, s.LogPending)
	require.Zero(t, reader.Stats().LogPending, "the writer has it all in its tree")
	require.NoError(t, g.tab.Compact()) // commits
	require.Zero(t, g.tab.Stats().LogUsedBytes)
	require.Zero(t, reader.Activity().LogUsedBytes)
	require.NoError(t, g.tab.Close())
	require.Zero(t, reader.Activity().LogSizeBytes, "a closed table has no log")
}

// TestFiguresOfAPendingLog: a read-only open of a table that lost its power says what the
// log holds, and a check verifies it.
func TestFiguresOfAPendingLog(t *testing.T) {
	l := loggedImages(t)[0]
	h := l.heap(l.image)
	tab := openOn(t, h, pmem.Options{ReadOnly: true}, nil)
	defer tab.Close()
	pending := tab.Stats().LogPending
	require.Equal(t, l.log.Generation, pending.Generation)
	require.EqualValues(t, l.log.RingBytes, pending.RingBytes)
	require.Equal(t, 8*5+1, pending.Frames)
	require.Equal(t, 8*5+3, pending.Changes)
	require.Positive(t, pending.Bytes)
	report, err := tab.Check()
	require.NoError(t, err)
	require.Equal(t, pending, report.Log)
	survey, err := tab.Survey(nil)
	require.NoError(t, err)
	require.Equal(t, pending, survey.Log)
	require.EqualValues(t, report.Entries, survey.Entries)
	require.NotEqual(t, len(l.want), report.Entries, "of the root alone")
	require.Equal(t, len(l.want), tab.Len())

	p, err := pmem.OpenHeap(l.heap(l.image), pmem.Options{})
	require.NoError(t, err)
	at := p.Regions().Log + l.log.Start%l.log.RingBytes
	p.Store(at+16, p.Load(at+16)^1)
	damaged, err := table.OpenPool(p, nil)
	require.ErrorIs(t, err, table.ErrCorrupt)
	require.Nil(t, damaged)
	image := l.heap(l.image)
	reader := openOn(t, image, pmem.Options{ReadOnly: true}, nil)
	defer reader.Close()
	rot, err := pmem.OpenHeap(image, pmem.Options{Media: pmem.Tmpfs})
	require.NoError(t, err)
	rot.Store(at+16, rot.Load(at+16)^1) // after the open
	report, err = reader.Check()
	require.ErrorIs(t, err, table.ErrCorrupt)
	require.Len(t, report.Problems, 1)
	require.Equal(t, "log", report.Problems[0].Where)
	require.Equal(t, at, report.Problems[0].Offset)
	require.Zero(t, report.Log.Frames)
}
