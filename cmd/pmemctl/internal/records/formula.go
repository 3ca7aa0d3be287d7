package records

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Spreadsheets take a cell that begins in certain ways for a formula, which may run a
// program or send other cells away. The OWASP's advice is a single quote before it, and
// double quotes around every cell, so that no other separator opens one in the middle.
// A quote is put before cells that have some already, too: so it can be taken off
// again, and nothing else.

// formulaStarts are in ASCII and in the wide forms that some locales take for them.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

func formula(cell []byte) bool {
	first, _ := utf8.DecodeRune(bytes.TrimLeft(cell, "'"))
	return first != utf8.RuneError && strings.ContainsRune(formulaStarts, first)
}

func appendDisarmed(dst, cell []byte) []byte {
	if formula(cell) {
		dst = append(dst, '\'')
	}
	return append(dst, cell...)
}

func rearmed(cell []byte) []byte {
	if len(cell) > 0 && cell[0] == '\'' && formula(cell) {
		return cell[1:]
	}
	return cell
}
