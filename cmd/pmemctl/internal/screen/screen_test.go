package screen

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain ö 日本 🙂 e\u0301": "plain ö 日本 🙂 e\u0301",
		"a\nb\tc\rd":           `a\nb\tc\rd`,
		"\x1b[31m\x00\x7f":     `\x1b[31m\x00\x7f`,
		"\u009b1m":             `\u009b1m`,
		"\x9b\xff\xc3":         `\x9b\xff\xc3`,
		"\u202eabc\u2066":      `\u202eabc\u2066`,
		"\u2028\ufeff\u200b":   `\u2028\ufeff\u200b`,
		"\ue000\U000e0041":     `\ue000\U000e0041`,
		`C:\new`:               `C:\\new`,
		"\ufffd":               "\ufffd",
	} {
		assert.Equal(t, want, Escape(text))
	}
	assert.Equal(t, `open "C:\new": \x1b[2J\xff\u202e`, EscapeError("open \"C:\\new\": \x1b[2J\xff\u202e"))
}

func TestJSONForATerminalSaysTheSame(t *testing.T) {
	want := "a\x00\x1b\x7f\u0085\u202e\u2028🙂\U000e0041\"\\ \n"
	text, err := json.Marshal(want)
	require.NoError(t, err)
	shown := AppendJSONEscaped(nil, text)
	for _, r := range string(shown) {
		assert.True(t, r >= ' ' && r != 0x7f && r != 0x85 && r != 0x202e && r != 0xe0041)
	}
	var got string
	require.NoError(t, json.Unmarshal(shown, &got))
	assert.Equal(t, want, got)
}

func TestStyle(t *testing.T) {
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	assert.Equal(t, "\x1b[31mx\x1b[0m", NewStyle(true, env()).Red("x"))
	for _, plain := range []Style{{}, NewStyle(false, env()), NewStyle(true, env("NO_COLOR", "1")), NewStyle(true, env("TERM", "dumb"))} {
		assert.Equal(t, "x", plain.Bold(plain.Green(plain.Cyan(plain.Faint("x")))))
	}
}

func TestFilesAndBuffersAreNoTerminals(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	assert.False(t, IsTerminal(file))
	assert.False(t, IsTerminal(&bytes.Buffer{}))
	assert.Equal(t, 80, Width(file))
}

func TestProgress(t *testing.T) {
	var text bytes.Buffer
	p := NewProgress(&text, true, ProgressAuto, "reading\x1b[2J", 3000, Bytes)
	r := p.Reader(strings.NewReader(strings.Repeat("x", 3000)))
	for {
		if n, _ := io.CopyN(io.Discard, r, 100); n == 0 {
			break
		}
		p.Draw()
	}
	p.Done()
	assert.Contains(t, text.String(), `reading\x1b[2J`)
	assert.NotContains(t, text.String(), "\x1b[2J")

	var none Progress
	input := strings.NewReader("x")
	assert.Same(t, input, none.Reader(input))
	none.Draw()
	none.Done()
	assert.Equal(t, none.bar, NewProgress(&text, false, ProgressAuto, "x", 1, Bytes).bar)
}

func TestProgressInLines(t *testing.T) {
	for mode, want := range map[ProgressMode]string{
		ProgressPlain: "checking\\x1b: 25 %, 1,000 of 4,000\n",
		ProgressJSON:  `{"schema_version":1,"progress":"checking\u001b","done":1000,"total":4000,"unit":"items"}` + "\n",
		ProgressNone:  "",
	} {
		var text bytes.Buffer
		p := NewProgress(&text, true, mode, "checking\x1b", 4000, Items)
		require.NoError(t, p.Follow(func() error { p.Add(1000); return nil }))
		assert.True(t, strings.HasSuffix(text.String(), want), "%s: %q", mode, text.String())
		mode, err := ParseProgressMode(mode.String())
		require.NoError(t, err)
		assert.Equal(t, want == "", mode == ProgressNone)
	}
	assert.Equal(t, "reading: 2.0 KiB", plainProgress("reading", 2048, -1, Bytes))
	_, err := ParseProgressMode("loud")
	assert.ErrorContains(t, err, "auto, plain, json or none")
}
