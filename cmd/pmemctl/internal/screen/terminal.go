package screen

import (
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether a stream is a terminal. Anything but a file is
// not one, so buffers in tests behave as pipes do.
func IsTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Width is the number of columns of a terminal, 80 where it does not tell.
func Width(stream any) int {
	if file, ok := stream.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// Style paints text when it is on, and returns it as it is otherwise.
type Style struct{ on bool }

// NewStyle decides on colour: only on a terminal that understands it, and
// never against the user's wish (see no-color.org).
func NewStyle(terminal bool, getenv func(string) string) Style {
	return Style{on: terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

func (s Style) Bold(text string) string  { return s.paint("1", text) }
func (s Style) Faint(text string) string { return s.paint("2", text) }
func (s Style) Red(text string) string   { return s.paint("31", text) }
func (s Style) Green(text string) string { return s.paint("32", text) }
func (s Style) Cyan(text string) string  { return s.paint("36", text) }

func (s Style) paint(code, text string) string {
	if !s.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Block is a place of a map: a coloured block, the fuller the denser, where there is
// colour, and else a letter.
func (s Style) Block(letter, colour string, fill float64) string {
	if !s.on {
		return letter
	}
	shades := []string{"░", "▒", "▓", "█"}
	return s.paint(colour, shades[min(3, max(0, int(fill*4)))])
}
