package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// keysTable holds values of 0 to 999 bytes, two of a size, and one odd key.
func keysTable(t *testing.T) string {
	t.Helper()
	var flat []string
	for i := range 1000 {
		flat = append(flat, fmt.Sprintf("key %03d", i), strings.Repeat("v", i))
	}
	return newTable(t, append(flat, "\xff twin", strings.Repeat("v", 1000), "a twin", strings.Repeat("v", 1000))...)
}

func TestKeysBiggest(t *testing.T) {
	file := keysTable(t)
	var d keysDocument
	require.NoError(t, json.Unmarshal([]byte(must(t, "keys", "--json", "--biggest", "4", "--histogram", file)), &d))
	assert.Equal(t, int64(1002), d.Entries)
	require.Len(t, d.Biggest, 4)
	text := func(s string) *string { return &s }
	assert.Equal(t, []bigKeyDocument{
		{keyDocument{Key: text("a twin")}, 6, 1000}, {keyDocument{Key: text("key 999")}, 7, 999}, // of one size: by key
		{keyDocument{KeyBase64: text("/yB0d2lu")}, 6, 1000}, {keyDocument{Key: text("key 998")}, 7, 998},
	}, d.Biggest)
	total := int64(0)
	for _, b := range d.ValueSizes.Buckets {
		total += b.Entries
	}
	assert.Equal(t, d.Entries, total)
	assert.Equal(t, int64(7), d.KeySizes.MaxBytes)
}

func TestKeysText(t *testing.T) {
	file := keysTable(t)
	out := must(t, "keys", "--biggest", "2", "--histogram", "--key-format", "hex", file)
	_, out, _ = strings.Cut(out, "\n") // the name of the file
	golden(t, "keys.txt", out)
	assert.NotContains(t, must(t, "keys", file), "value sizes")
	assert.NotContains(t, must(t, "keys", "--biggest", "0", file), "biggest")
	assert.Contains(t, must(t, "keys", "--histogram", newTable(t)), "\nentries      0\n")
	fails(t, ExitUsage, "--biggest", "keys", "--biggest", "-1", file)
	fails(t, ExitIO, "no such file", "keys", file+".missing")
	r := world{terminal: true}.run(t, "keys", newTable(t, hostileKey, ""))
	assert.Equal(t, ExitOK, r.code)
	assertHarmless(t, strings.ReplaceAll(strings.ReplaceAll(r.out, "\r", ""), "\x1b[2K", ""))
}
