package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"pmemtable/cmd/pmemctl/internal/screen"
)

// Screen is where the demo tells its story: lines for a log, and the same lines
// with colour and a moving bar for a terminal.
type Screen struct {
	w        io.Writer
	terminal bool
	style    screen.Style
	width    int    // of a line
	full     string // a cell of the bar that is done
	empty    string
	drawn    time.Time
}

// NewScreen tells the story on w.
func NewScreen(w io.Writer, terminal bool, getenv func(string) string) *Screen {
	s := &Screen{w: w, terminal: terminal, style: screen.NewStyle(terminal, getenv), width: mostWidth, full: "#", empty: "-"}
	if terminal {
		s.width = min(max(screen.Width(w), leastWidth), mostWidth)
	}
	locale := getenv("LC_ALL") + getenv("LC_CTYPE") + getenv("LANG")
	if terminal && strings.Contains(strings.ToLower(strings.ReplaceAll(locale, "-", "")), "utf8") {
		s.full, s.empty = "█", "░"
	}
	return s
}

const (
	mostWidth  = 100 // longer lines are hard to read
	leastWidth = 40
	labelWidth = 10
	barWidth   = 24
)

func (s *Screen) title(format string, args ...any) {
	fmt.Fprintf(s.w, "%s\n\n", s.style.Bold(fmt.Sprintf(format, args...)))
}

func (s *Screen) heading(text string) {
	fmt.Fprintf(s.w, "\n%s", s.style.Cyan(fmt.Sprintf("%-*s", labelWidth, text)))
}

func (s *Screen) strong(text string) string { return s.style.Bold(text) }

func (s *Screen) gap() { fmt.Fprintln(s.w) }

// line prints text beside a label, in as many lines as it takes. An empty label
// is for what follows a heading or another line.
func (s *Screen) line(label, format string, args ...any) {
	for _, part := range wrap(fmt.Sprintf(format, args...), s.width-labelWidth) {
		fmt.Fprintf(s.w, "%s%s\n", s.style.Cyan(fmt.Sprintf("%-*s", labelWidth, label)), part)
		label = ""
	}
}

// wrap breaks text between words. A word that is longer than a line, such as a
// path, stays in one piece, so that it can be copied.
func wrap(text string, width int) (lines []string) {
	line, used := "", 0
	for word := range strings.SplitSeq(text, " ") {
		n := utf8.RuneCountInString(colour.ReplaceAllString(word, ""))
		if used > 0 && used+1+n > width {
			lines, line, used = append(lines, line), word, n
			continue
		}
		if used > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	return append(lines, line)
}

// colour is what Style adds to a text, which takes no room on the screen.
var colour = regexp.MustCompile("\x1b\\[[0-9]*m")

// bar ends the line that a heading began.
func (s *Screen) bar(done, total int, text string) {
	s.rewind()
	fmt.Fprintf(s.w, "%s %s\n", s.cells(done, total), text)
}

// progress shows the bar while it moves, on a terminal.
func (s *Screen) progress(done, total int) {
	if !s.terminal || time.Since(s.drawn) < 30*time.Millisecond {
		return
	}
	s.drawn = time.Now()
	s.rewind()
	fmt.Fprintf(s.w, "%s %s", s.cells(done, total), number(done))
}

// rewind goes back to the end of the label on the line that is being drawn.
func (s *Screen) rewind() {
	if s.terminal {
		fmt.Fprintf(s.w, "\x1b[%dG\x1b[K", labelWidth+1)
	}
}

func (s *Screen) cells(done, total int) string {
	n := done * barWidth / max(total, 1)
	return s.style.Green(strings.Repeat(s.full, n)) + s.style.Faint(strings.Repeat(s.empty, barWidth-n))
}

func (s *Screen) result(good bool, format string, args ...any) {
	mark := s.style.Green("ok  ")
	if !good {
		mark = s.style.Red("BAD ")
	}
	s.line("", "%s%s", mark, fmt.Sprintf(format, args...))
}

const listedProblems = 5

func (s *Screen) problems(list []string) {
	for i, problem := range list {
		if i == listedProblems {
			s.result(false, "and %d more problems", len(list)-i)
			return
		}
		s.result(false, "%s", problem)
	}
}

func (s *Screen) pass(verdict string) {
	fmt.Fprintf(s.w, "\n%s %s\n", s.style.Green(s.style.Bold("PASS:")), verdict)
}

func (s *Screen) fail(err error) {
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	if s.terminal {
		text = screen.EscapeError(text)
	}
	fmt.Fprintf(s.w, "\n%s %s\n", s.style.Red(s.style.Bold("FAIL:")), text)
}

func number(n int) string { return humanize.Comma(int64(n)) }

func sizeText(n int64) string { return humanize.IBytes(uint64(n)) }

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Nanoseconds())/1e6)
}
