package command

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestGetWritesTheBytesAndNothingElse(t *testing.T) {
	file := newTable(t, "k", "value", "binary", "\x00\xff\x1b[2J\n", "", "of the empty key", "empty", "")
	assert.Equal(t, "value", must(t, "get", file, "k"))
	assert.Equal(t, "\x00\xff\x1b[2J\n", must(t, "get", file, "binary"))
	assert.Equal(t, "of the empty key", must(t, "get", file, ""))
	assert.Equal(t, "", must(t, "get", file, "empty"))
	assert.Equal(t, "value", must(t, "get", "--key-format", "hex", file, "6b"))
	assert.Equal(t, "dmFsdWU=", must(t, "get", "--value-format", "base64", file, "k"))
	assert.Equal(t, "00ff1b5b324a0a", must(t, "get", "--value-format=hex", "--", file, "binary"))
}

func TestGetOnATerminal(t *testing.T) {
	file := newTable(t, "k", "two\nlines", hostileKey, hostileKey)
	tty := world{terminal: true}
	assert.Equal(t, "two\\nlines\n", tty.run(t, "get", file, "k").out)
	assert.Equal(t, "two\nlines\n", tty.run(t, "get", "--raw", file, "k").out)
	assertHarmless(t, tty.run(t, "get", file, hostileKey).out)
	assert.Equal(t, hostileKey+"\n", tty.run(t, "get", "--raw", file, hostileKey).out)
}

func TestGetOfAMissingKey(t *testing.T) {
	file := newTable(t, "k", "v")
	fails(t, ExitCondition, `get `+file+`: key "missing": not found`, "get", file, "missing")
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	r := run(t, "get", file, string(long))
	assert.Less(t, len(r.err), 300)
	assert.Contains(t, r.err, "(5000 bytes)")
}

func TestKeysThatBeginWithADash(t *testing.T) {
	file := newTable(t)
	must(t, "put", file, "--", "-k", "-v")
	assert.Equal(t, "-v", must(t, "get", file, "--", "-k"))
	assert.Equal(t, "-v", must(t, "get", "--", file, "-k"))
	must(t, "put", file, "--", "--", "--raw")
	assert.Equal(t, "--raw", must(t, "get", file, "--", "--"))
	must(t, "delete", file, "--", "-k")
	fails(t, ExitCondition, "not found", "get", file, "--", "-k")
	assert.Equal(t, "--\t--raw\n", must(t, "scan", "--prefix", "--", file))
}
