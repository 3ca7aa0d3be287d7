package command

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"pmemtable/cmd/pmemctl/internal/screen"
	"pmemtable/table"
)

func topVerb() verb {
	var interval time.Duration
	return verb{
		usage: "top FILE",
		short: "Watch a table that another process uses",
		long: `Watch on the terminal what happens in a table that another process writes:
changes by kind, splits, copies on write, conflicts, commits and how long they take,
how entries and file grow, now, on average, at most, and as a line of the last
intervals. q ends it.

It reads counters in the file and asks nothing of the process. Reads are not counted:
a lookup writes no memory that another processor reads. pmemctl stats --help says what
each line is, and its --interval prints lines. With --json top prints the documents of
pmemctl stats --interval instead, and needs no terminal.`,
		example: `  pmemctl top debs.pmt
  pmemctl top --interval 200ms /mnt/pmem/index.pmt`,
		flags: func(flags *pflag.FlagSet) {
			flags.DurationVar(&interval, "interval", time.Second, "time from one look to the next")
		},
		run: func(c *call) error {
			switch {
			case interval < time.Millisecond:
				return usagef("--interval: not a time of at least 1ms")
			case c.json:
				return c.reading(func(t *table.Table) error { return c.watch(t, interval, 0) })
			case !c.IsTerminal(c.Out):
				return usagef("standard output is no terminal; pmemctl stats --interval prints lines")
			}
			return c.reading(func(t *table.Table) error { return c.top(c.ctx, c.args[0], t, interval) })
		},
	}
}

func (a *App) top(ctx context.Context, file string, t *table.Table, interval time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	full := screen.EnterFullScreen(a.In, a.Out)
	defer full.Leave()
	if a.IsTerminal(a.In) {
		go a.untilQuit(stop)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	v := newTopView(file, screen.NewStyle(true, a.Getenv))
	return v.run(ctx, t.Activity, time.Now(), ticker.C, func() error {
		return full.Show(v.lines(screen.Width(a.Out)))
	})
}

// untilQuit waits for a key that ends the view.
func (a *App) untilQuit(stop func()) {
	var key [1]byte
	for {
		_, err := a.In.Read(key[:])
		switch {
		case err != nil:
			return // keys are gone, the view goes on: a signal ends it
		case key[0] == 'q', key[0] == 'Q', key[0] == 3, key[0] == 4: // Ctrl-C, Ctrl-D
			stop()
			return
		}
	}
}

// topView is what top shows.
type topView struct {
	file  string
	style screen.Style
	now   table.Activity
	last  intervalDocument
	rates []*topRate
}

// topRate is one line: a measure and its past.
type topRate struct {
	*measure
	past  []float64
	known bool // of the last interval
	sum   float64
	count int
	most  float64
}

// keepPast bounds what a line remembers.
const keepPast = 512

func newTopView(file string, style screen.Style) *topView {
	v := &topView{file: file, style: style}
	for i := range measures {
		v.rates = append(v.rates, &topRate{measure: &measures[i]})
	}
	return v
}

// run looks at every tick and shows what is new, until ctx ends, which is no error.
func (v *topView) run(ctx context.Context, look func() table.Activity, began time.Time, ticks <-chan time.Time, show func() error) error {
	v.now = look()
	for {
		if err := show(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case at := <-ticks:
			before := v.now
			v.now = look()
			v.add(newIntervalDocument(v.file, before, v.now, at.Sub(began)))
			began = at
		}
	}
}

func (v *topView) add(d intervalDocument) {
	v.last = d
	for _, r := range v.rates {
		rate, known := r.of(&d)
		if r.known = known; !known {
			continue
		}
		r.past = append(r.past, rate)
		if len(r.past) > keepPast {
			r.past = r.past[len(r.past)-keepPast:]
		}
		r.sum, r.count = r.sum+rate, r.count+1
		if r.count == 1 || rate > r.most {
			r.most = rate
		}
	}
}

// lines is the screen, no wider than a terminal.
func (v *topView) lines(width int) []string {
	entries := "not counted yet"
	if v.now.EntriesKnown {
		entries = countText(v.now.Entries) + " at the last commit"
	}
	lines := []string{
		v.style.Bold(clipped("pmemctl top  "+screen.Escape(v.file), width)),
		clipped(fmt.Sprintf("size %s, entries %s", bytesText(v.now.FileSizeBytes), entries), width),
		clipped(fmt.Sprintf("session %d, epoch %d, commit %d", v.now.Generation, v.now.Epoch, v.now.CommitSequence), width),
		v.style.Faint(clipped(fmt.Sprintf("%-14s %11s %11s %11s  last intervals", "", "now", "mean", "most"), width)),
	}
	for _, r := range v.rates {
		now, mean, most := "?", "?", "?"
		if r.known {
			now = r.text(r.past[len(r.past)-1])
		}
		if r.count > 0 {
			mean, most = r.text(r.sum/float64(r.count)), r.text(r.most)
		}
		head := clipped(fmt.Sprintf("%-14s %11s %11s %11s  ", r.name, now, mean, most), width)
		line := head
		if room := width - utf8.RuneCountInString(head); room > 0 {
			line += v.style.Cyan(screen.Sparkline(r.past, room))
		}
		lines = append(lines, line)
	}
	return append(lines, v.style.Faint(clipped("q quits", width)))
}

// clipped cuts text off at a width, with a mark.
func clipped(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width-1)]) + "…"
}
