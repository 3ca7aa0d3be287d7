package screen

import (
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
)

// ProgressMode says how progress is shown.
type ProgressMode string

// The modes: Auto is a bar on a terminal and nothing elsewhere, for a log full of
// redrawn bars helps nobody.
const (
	ProgressAuto  ProgressMode = "auto"
	ProgressPlain ProgressMode = "plain" // a line now and then
	ProgressJSON  ProgressMode = "json"  // the same as JSON documents
	ProgressNone  ProgressMode = "none"
)

func (m ProgressMode) String() string { return string(m) }

// ParseProgressMode is the inverse of String.
func ParseProgressMode(text string) (ProgressMode, error) {
	switch m := ProgressMode(text); m {
	case ProgressAuto, ProgressPlain, ProgressJSON, ProgressNone:
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: auto, plain, json or none", text)
}

// Progress shows how much of some work is done. The zero value shows nothing.
type Progress struct {
	bar  *progressbar.ProgressBar
	line func(what string, done int64) // writes one, in the modes that have lines
	next time.Time                     // when the next line is due
	what atomic.Pointer[string]
	drew *string // what the bar says
	done atomic.Int64
}

// Unit is what progress counts.
type Unit bool

// The units.
const (
	Bytes Unit = false
	Items Unit = true
)

// NewProgress draws on w. A total of -1 means that it is not known.
func NewProgress(w io.Writer, terminal bool, mode ProgressMode, what string, total int64, unit Unit) *Progress {
	p := new(Progress)
	p.Step(what)
	switch {
	case mode == ProgressPlain:
		p.lines(func(what string, done int64) { fmt.Fprintln(w, plainProgress(what, done, total, unit)) })
	case mode == ProgressJSON:
		p.lines(func(what string, done int64) {
			_ = json.NewEncoder(w).Encode(newProgressDocument(what, done, total, unit))
		})
	case mode == ProgressAuto && terminal:
		p.drew = p.what.Load()
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription(Escape(what)),
			progressbar.OptionShowBytes(unit == Bytes),
			progressbar.OptionShowCount(),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(60*time.Millisecond),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine that draws by itself
		)
	}
	return p
}

// lineInterval is the time between two lines of the modes that have lines.
const lineInterval = time.Second

// lines begins with one that says that the work has begun.
func (p *Progress) lines(line func(what string, done int64)) {
	p.line, p.next = line, time.Now().Add(lineInterval)
	p.line(*p.what.Load(), 0)
}

func plainProgress(what string, done, total int64, unit Unit) string {
	text := humanize.Comma
	if unit == Bytes {
		text = func(n int64) string { return humanize.IBytes(uint64(n)) }
	}
	if total <= 0 {
		return fmt.Sprintf("%s: %s", Escape(what), text(done))
	}
	return fmt.Sprintf("%s: %.0f %%, %s of %s", Escape(what), 100*float64(done)/float64(total), text(done), text(total))
}

// progressDocument is a line of --progress json.
type progressDocument struct {
	SchemaVersion int    `json:"schema_version"`
	What          string `json:"progress"`
	Done          int64  `json:"done"`
	Total         *int64 `json:"total"` // null where nobody knows
	Unit          string `json:"unit"`
}

func newProgressDocument(what string, done, total int64, unit Unit) progressDocument {
	d := progressDocument{SchemaVersion: 1, What: what, Done: done, Unit: "bytes"}
	if total >= 0 {
		d.Total = &total
	}
	if unit == Items {
		d.Unit = "items"
	}
	return d
}

func (p *Progress) shows() bool { return p.bar != nil || p.line != nil }

// Add counts work that is done; many goroutines may. The drawing is left to Draw,
// so that the terminal is written by one.
func (p *Progress) Add(n int64) { p.done.Add(n) }

// Set is Add for work that knows how much of it is done.
func (p *Progress) Set(done int64) { p.done.Store(done) }

// Step says what is done next.
func (p *Progress) Step(what string) { p.what.Store(&what) }

// Reader counts what is read through it.
func (p *Progress) Reader(r io.Reader) io.Reader {
	if !p.shows() {
		return r
	}
	return countingReader{r, p}
}

// Draw brings the picture up to date, at most a few times a second. A terminal
// that cannot be written must not stop the work.
func (p *Progress) Draw() {
	switch {
	case p.bar != nil:
		if what := p.what.Load(); what != p.drew {
			p.bar.Describe(Escape(*what))
			p.drew = what
		}
		_ = p.bar.Set64(p.done.Load())
	case p.line != nil && time.Now().After(p.next):
		p.line(*p.what.Load(), p.done.Load())
		p.next = time.Now().Add(lineInterval)
	}
}

// Done takes the bar off the screen, so that what is printed next stands alone.
func (p *Progress) Done() {
	switch {
	case p.bar != nil:
		_ = p.bar.Exit()
		_ = p.bar.Clear()
	case p.line != nil:
		p.line(*p.what.Load(), p.done.Load())
	}
}

// Follow draws until the work, which has no time for that, returns.
func (p *Progress) Follow(work func() error) error {
	if !p.shows() {
		return work()
	}
	finished, drawn := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(drawn)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.Draw()
			case <-finished:
				p.Done()
				return
			}
		}
	}()
	err := work()
	close(finished)
	<-drawn
	return err
}

type countingReader struct {
	io.Reader
	progress *Progress
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.progress.Add(int64(n))
	return n, err
}
