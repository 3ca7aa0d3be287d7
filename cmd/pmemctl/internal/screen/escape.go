// Package screen is what pmemctl knows about terminals: whether a stream is
// one, how to show foreign bytes on it so that they cannot drive it, colour,
// and progress.
package screen

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendEscaped appends text to dst as one line that is safe to show.
//
// Keys and values are somebody else's bytes. Shown as they are, they could
// move the cursor, retitle the window, forge a line of output or, with
// bidirectional overrides, show a name that is not theirs. So everything that
// draws no mark of its own (C0, DEL, C1, format characters, line separators,
// private use) and every byte that is not UTF-8 becomes a backslash escape,
// and a backslash is doubled, so that no two inputs look the same.
func AppendEscaped(dst, text []byte) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, '\\', 'x', hexDigits[text[0]>>4], hexDigits[text[0]&15])
		case r == '\\':
			dst = append(dst, `\\`...)
		case strconv.IsGraphic(r):
			dst = append(dst, text[:size]...)
		default:
			dst = appendRuneEscape(dst, r)
		}
		text = text[size:]
	}
	return dst
}

func appendRuneEscape(dst []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(dst, `\n`...)
	case r == '\t':
		return append(dst, `\t`...)
	case r == '\r':
		return append(dst, `\r`...)
	case r < utf8.RuneSelf:
		return append(dst, '\\', 'x', hexDigits[r>>4], hexDigits[r&15])
	case r <= 0xFFFF:
		return fmt.Appendf(dst, `\u%04x`, r)
	default:
		return fmt.Appendf(dst, `\U%08x`, r)
	}
}

// Escape is AppendEscaped for text at hand as a string.
func Escape(text string) string {
	return string(AppendEscaped(nil, []byte(text)))
}

// EscapeError is Escape without the doubled backslash: most error texts quote
// names in Go syntax already, and what must not pass is control, not a
// backslash.
func EscapeError(text string) string {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] == '\\' {
			out = append(out, '\\')
			i++
			continue
		}
		_, size := utf8.DecodeRuneInString(text[i:])
		out = AppendEscaped(out, []byte(text[i:i+size]))
		i += size
	}
	return string(out)
}

// AppendJSONEscaped appends a JSON document in a form that says the same and
// is safe to show. Outside its strings JSON is plain ASCII, so whatever draws
// no mark is inside one and may be written as a \u escape; only the line
// breaks between values stay.
func AppendJSONEscaped(dst, document []byte) []byte {
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		switch {
		case r == '\n' || strconv.IsGraphic(r):
			dst = append(dst, document[:size]...)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, high, low)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		document = document[size:]
	}
	return dst
}
