package screen

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress shows how much of an input has been read. The zero value shows
// nothing, which is what a stream that is not a terminal gets: a log full of
// redrawn bars helps nobody.
type Progress struct {
	bar  *progressbar.ProgressBar
	read atomic.Int64
}

// NewProgress draws on w, which must be a terminal. totalBytes of -1 means
// that the length is not known.
func NewProgress(w io.Writer, what string, totalBytes int64) *Progress {
	return &Progress{bar: progressbar.NewOptions64(totalBytes,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(Escape(what)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(60*time.Millisecond),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine that draws by itself
	)}
}

// Reader counts what is read through it. The count is only taken here; the
// drawing is left to Draw, so that the terminal is written by one goroutine.
func (p *Progress) Reader(r io.Reader) io.Reader {
	if p.bar == nil {
		return r
	}
	return countingReader{r, &p.read}
}

// Draw brings the bar up to date, at most a few times a second. A terminal
// that cannot be written must not stop the work.
func (p *Progress) Draw() {
	if p.bar != nil {
		_ = p.bar.Set64(p.read.Load())
	}
}

// Done takes the bar off the screen, so that what is printed next stands
// alone.
func (p *Progress) Done() {
	if p.bar != nil {
		_ = p.bar.Exit()
		_ = p.bar.Clear()
	}
}

type countingReader struct {
	io.Reader
	count *atomic.Int64
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.count.Add(int64(n))
	return n, err
}
