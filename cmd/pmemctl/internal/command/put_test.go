package command

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPutTakesTheValueFromThreePlaces(t *testing.T) {
	file := newTable(t)
	assert.Empty(t, must(t, "put", file, "argument", "a value"))
	assert.Equal(t, "a value", must(t, "get", file, "argument"))

	r := world{stdin: "from\x00stdin\n"}.run(t, "put", file, "stdin", "-")
	assert.Equal(t, result{}, r)
	assert.Equal(t, "from\x00stdin\n", must(t, "get", file, "stdin"))

	must(t, "put", "--value-file", writeFile(t, "v", "from a file\xff"), file, "file")
	assert.Equal(t, "from a file\xff", must(t, "get", file, "file"))
	fails(t, ExitIO, "no such file", "put", "--value-file", "/no/such/file", file, "file")

	must(t, "put", file, "", "")
	assert.Equal(t, "", must(t, "get", file, ""))
	assert.Equal(t, "4\n", must(t, "count", file))
}

func TestPutFormats(t *testing.T) {
	file := newTable(t)
	must(t, "put", "--key-format", "hex", "--value-format", "base64", file, "FF00", "AAH/")
	assert.Equal(t, "\x00\x01\xff", must(t, "get", file, "\xff\x00"))
	r := world{stdin: "c0ffee\r\n"}.run(t, "put", "--value-format", "hex", file, "k", "-")
	assert.Equal(t, ExitOK, r.code, r.err)
	assert.Equal(t, "\xc0\xff\xee", must(t, "get", file, "k"))
	fails(t, ExitUsage, "the value is not hexadecimal", "put", "--value-format", "hex", file, "k", "xy")
	r = world{stdin: "xy"}.run(t, "put", "--value-format", "base64", file, "k", "-")
	assert.Equal(t, ExitUsage, r.code)
}

func TestPutOnCondition(t *testing.T) {
	file := newTable(t, "k", "old")
	fails(t, ExitCondition, `key "k" is there already`, "put", "--if-absent", file, "k", "new")
	fails(t, ExitCondition, "does not have that value", "put", "--if-value", "other", file, "k", "new")
	fails(t, ExitCondition, "does not have that value", "put", "--if-value", "", file, "absent", "new")
	assert.Equal(t, "old", must(t, "get", file, "k"))
	must(t, "put", "--if-value", "old", file, "k", "new")
	assert.Equal(t, "new", must(t, "get", file, "k"))
	must(t, "put", "--if-absent", file, "k2", "first")
	assert.Equal(t, "first", must(t, "get", file, "k2"))
}

func TestPutTooLarge(t *testing.T) {
	file := newTable(t)
	fails(t, ExitUsage, "too large", "put", file, strings.Repeat("k", 65536), "v")
	must(t, "put", file, strings.Repeat("k", 65535), "v")
}

func TestPutGivesUpAStuckStdin(t *testing.T) {
	file := newTable(t)
	stuck, feed := io.Pipe()
	defer feed.Close()
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, stop)
	var err strings.Builder
	a := &App{In: stuck, Out: io.Discard, Err: &err, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" }}
	assert.Equal(t, ExitInterrupted, a.Run(ctx, []string{"put", file, "k", "-"}))
	assert.Contains(t, err.String(), "interrupted")
	fails(t, ExitCondition, "not found", "get", file, "k")
}
