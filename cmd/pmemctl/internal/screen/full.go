package screen

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// FullScreen is a terminal that one view has to itself until Leave, which puts back
// what was there.
type FullScreen struct {
	out     io.Writer
	restore func()
}

// EnterFullScreen takes the terminal out. Where in is a terminal, too, its keys come
// as they are pressed, Ctrl-C among them (byte 3).
func EnterFullScreen(in io.Reader, out io.Writer) *FullScreen {
	s := &FullScreen{out: out, restore: func() {}}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		if before, err := term.MakeRaw(int(file.Fd())); err == nil {
			s.restore = func() { _ = term.Restore(int(file.Fd()), before) }
		}
	}
	_, _ = io.WriteString(out, "\x1b[?1049h\x1b[?25l") // the other screen; no cursor
	return s
}

// Show replaces what is on the screen by lines, in one write, so that it does not
// flicker.
func (s *FullScreen) Show(lines []string) error {
	var frame strings.Builder
	frame.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			frame.WriteString("\r\n")
		}
		frame.WriteString(line + "\x1b[K")
	}
	frame.WriteString("\x1b[J")
	_, err := io.WriteString(s.out, frame.String())
	return err
}

// Leave gives the terminal back.
func (s *FullScreen) Leave() {
	_, _ = io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
	s.restore()
}

// Sparkline draws values as columns of up to eight eighths, the last ones that fit.
func Sparkline(values []float64, width int) string {
	if len(values) > width {
		values = values[len(values)-width:]
	}
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var line strings.Builder
	for _, v := range values {
		switch {
		case v <= 0:
			line.WriteRune(' ')
		default:
			line.WriteRune([]rune("▁▂▃▄▅▆▇█")[min(7, int(v/most*8))])
		}
	}
	return line.String()
}
