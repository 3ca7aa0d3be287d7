package demo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/table"
)

func testEntries(n int) (entries []entry) {
	for i := range n {
		entries = append(entries, entry{fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "value %d", i)})
	}
	return entries
}

func newTable(t *testing.T, entries []entry) *table.Table {
	t.Helper()
	tab, err := table.Open(filepath.Join(t.TempDir(), "t.pmt"), &table.Options{Stripes: 2, Durability: table.OnSync})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tab.Close() })
	for _, e := range entries {
		require.NoError(t, tab.Put(e.key, e.value))
	}
	return tab
}

// A demo that cannot fail proves nothing: each way to break the promise must
// be found.
func TestVerifyFindsBrokenPromises(t *testing.T) {
	entries := testEntries(200)
	acknowledged := make([]bool, len(entries))
	for i := range 100 {
		acknowledged[i] = true
	}
	for name, c := range map[string]struct {
		broken  func(tab *table.Table) error
		problem string
	}{
		"nothing": {func(*table.Table) error { return nil }, ""},
		"in time": {func(tab *table.Table) error { return tab.Put(entries[105].key, entries[105].value) }, ""},
		"lost":    {func(tab *table.Table) error { return tab.Delete(entries[50].key) }, "lost: \"key 50\""},
		"changed": {func(tab *table.Table) error { return tab.Put(entries[50].key, entries[51].value) }, "changed: \"key 50\""},
		"mixed":   {func(tab *table.Table) error { return tab.Put(entries[150].key, []byte("other")) }, "mixed: \"key 150\""},
		"foreign": {func(tab *table.Table) error { return tab.Put([]byte("else\n"), nil) }, `foreign: "else\n"`},
		"too many": {func(tab *table.Table) error {
			for _, e := range entries[100:] {
				if err := tab.Put(e.key, e.value); err != nil {
					return err
				}
			}
			return nil
		}, "too many: 100 writes"},
	} {
		t.Run(name, func(t *testing.T) {
			tab := newTable(t, entries[:100])
			require.NoError(t, c.broken(tab))
			f, err := verify(tab, entries, acknowledged)
			require.NoError(t, err)
			assert.Equal(t, 100, f.acknowledged)
			if c.problem == "" {
				assert.Empty(t, f.problems)
				assert.Equal(t, 100, f.there)
				return
			}
			require.NotEmpty(t, f.problems)
			assert.Contains(t, strings.Join(f.problems, "\n"), c.problem)
		})
	}
}

func acknowledgements(numbers ...uint32) (stream []byte) {
	for _, i := range numbers {
		stream = binary.LittleEndian.AppendUint32(stream, i)
	}
	return stream
}

func TestCollectCountsEachAcknowledgementOnce(t *testing.T) {
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, func(r io.Reader) io.Reader { return r }} {
		d := &demo{entries: testEntries(10), acknowledged: make([]bool, 10), show: NewScreen(io.Discard, false, func(string) string { return "" })}
		stream := append(acknowledgements(0, 2, 1, 2, 4), 5, 0) // the kill cut the last one
		kills := 0
		var credits bytes.Buffer
		killed, err := d.collect(wrap(bytes.NewReader(stream)), &credits, 3, func() error { kills++; return nil })
		require.NoError(t, err)
		assert.True(t, killed)
		assert.Equal(t, 1, kills)
		assert.Equal(t, 4, d.count, "what was in the pipe counts, too")
		assert.Equal(t, 3, d.from)
	}
	d := &demo{entries: testEntries(10), acknowledged: make([]bool, 10), show: NewScreen(io.Discard, false, func(string) string { return "" })}
	_, err := d.collect(bytes.NewReader(acknowledgements(10)), io.Discard, neverKill, func() error { return nil })
	assert.ErrorContains(t, err, "entry 10 of 10")
}

func TestWriteNeedsItsParent(t *testing.T) {
	tab := newTable(t, nil)
	path := tab.Stats().Path
	require.NoError(t, tab.Close())
	var acks bytes.Buffer
	err := Write(path, "", 0, 4, strings.NewReader(""), &acks)
	assert.ErrorContains(t, err, "parent process has gone")
	assert.LessOrEqual(t, acks.Len(), 4900/100*2*ackBytes)

	broken := errors.New("pipe broke")
	never, _ := io.Pipe()
	err = Write(path, "", 0, 4, never, writerFunc(func([]byte) (int, error) { return 0, broken }))
	assert.ErrorIs(t, err, broken)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestPackagesAreWhatTheTextSays(t *testing.T) {
	entries, err := load("")
	require.NoError(t, err)
	assert.Len(t, entries, 4900)
	assert.LessOrEqual(t, len(Packages()), 1<<20)
	assert.Contains(t, string(entries[0].value), "Package: "+string(entries[0].key))
}

func TestScreen(t *testing.T) {
	var text bytes.Buffer
	s := NewScreen(&text, true, func(name string) string { return map[string]string{"LANG": "en_US.UTF-8"}[name] })
	s.heading("round 1")
	s.progress(5, 10)
	s.bar(10, 10, "done")
	s.problems(make([]string, 9))
	s.fail(errors.New("a\x1b[2Jb"))
	assert.Contains(t, text.String(), strings.Repeat("█", barWidth))
	assert.Contains(t, text.String(), "and 4 more problems")
	assert.Contains(t, text.String(), `a\x1b[2Jb`)

	text.Reset()
	s = NewScreen(&text, false, func(string) string { return "" })
	s.heading("round 1")
	s.progress(5, 10)
	s.bar(5, 10, "done")
	s.pass("all")
	assert.Equal(t, "\nround 1   ############------------ done\n\nPASS: all\n", text.String())
}
