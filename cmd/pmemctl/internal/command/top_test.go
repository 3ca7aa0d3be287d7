package command

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

// TestTopView: what is shown follows from what was seen, at any width.
func TestTopView(t *testing.T) {
	began := time.Unix(1000, 0)
	ticks := make(chan time.Time, 60)
	for i := range 60 {
		ticks <- began.Add(time.Duration(i+1) * time.Second)
	}
	n := uint64(0)
	look := func() table.Activity {
		n++
		return table.Activity{Generation: 3, Epoch: n * n / 2, CommitSequence: 10 * n, Collections: 1000 * (n % 10), EntriesKnown: n > 2,
			Entries: int64(100 * n * n), FileSizeBytes: int64(n/7) << 22,
			Counters: table.Counters{Counted: n > 5, PutNew: 1000 * n * n, PutOver: 77 * n, Deleted: n / 2, Splits: n * n / 10, Copies: 3 * n,
				CheckpointTimes: latencies(10*n, time.Duration(n)*15*time.Millisecond)}}
	}
	v := newTopView("a\x1b[2J.pmt", screen.Style{})
	ctx, stop := context.WithCancel(t.Context())
	shown := 0
	require.NoError(t, v.run(ctx, look, began, ticks, func() error {
		for width := range 130 {
			for _, line := range v.lines(width) {
				if n := utf8.RuneCountInString(line); n > max(1, width) { // require would take most of the test's time
					t.Fatalf("%d of %d columns: %q", n, width, line)
				}
			}
		}
		if shown++; shown == 61 {
			stop()
		}
		return nil
	}))
	golden(t, "top-80.txt", strings.Join(v.lines(80), "\n")+"\n")
	golden(t, "top-120.txt", strings.Join(v.lines(120), "\n")+"\n")

	gone := errors.New("the terminal has gone")
	assert.ErrorIs(t, v.run(t.Context(), look, began, ticks, func() error { return gone }), gone)
}

func TestTopUsage(t *testing.T) {
	file := newTable(t)
	fails(t, ExitUsage, "no terminal", "top", file)
	fails(t, ExitUsage, "--interval", "top", "--interval", "1us", file)
	r := world{terminal: true, stdin: "xq"}.run(t, "top", file)
	assert.Equal(t, ExitOK, r.code, r.err)
	assert.True(t, strings.HasSuffix(r.out, "\x1b[?25h\x1b[?1049l"), "the terminal is given back")
	assert.Contains(t, r.out, "commits/s")
}
