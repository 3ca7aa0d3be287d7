package records

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzJSONLine holds the reader against encoding/json: what we accept, it
// accepts and reads the same; what it accepts and we do not, we refuse for a
// reason that this test can name.
func FuzzJSONLine(f *testing.F) {
	for _, seed := range []string{
		`{"key": "a", "value": "b"}`, `{"key_base64":"/w==","value":"\ud83d\ude42"}`, `{"key":"\ud800","value":""}`,
		"{\"key\":\"\xff\",\"value\":\"\"}", ` {"value":"\u0000\/","key":""} `, `{"key":"a","key":"b","value":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\n") {
			return
		}
		got, _, err := readAll(bytes.NewReader(line), ReadOptions{Format: JSONL})
		var object map[string]*string
		stdErr := json.Unmarshal(line, &object)
		if err == nil && len(got) == 1 {
			line = bytes.TrimPrefix(line, byteOrderMark)
			require.NoError(t, json.Unmarshal(line, &object))
			for name, decoded := range map[string]string{"key": got[0].key, "value": got[0].value} {
				if text := object[name]; text != nil {
					assert.Equal(t, *text, decoded)
				} else {
					encoded := object[name+"_base64"]
					require.NotNil(t, encoded)
					assert.Equal(t, *encoded, string(Base64.Append(nil, []byte(decoded))))
				}
			}
			return
		}
		if stdErr != nil || object["key"] == nil || object["value"] == nil || len(object) != 2 {
			return
		}
		duplicates := strings.Count(string(line), `:`) > 2 || strings.Count(string(line), `"`) > 8
		repaired := strings.ContainsRune(*object["key"]+*object["value"], utf8.RuneError)
		assert.True(t, duplicates || repaired || !utf8.Valid(line), "refused %q: %v", line, err)
	})
}

func TestJSONLOutputIsWhatOtherToolsWrite(t *testing.T) {
	text := write(t, WriteOptions{}, []entry{{"0ad", "Package: 0ad\nö <>&\u2028\x00\x7f"}, {"\xff", "x"}})
	assert.Equal(t, "{\"key\": \"0ad\", \"value\": \"Package: 0ad\\nö <>&\u2028\\u0000\x7f\"}\n"+
		"{\"key_base64\": \"/w==\", \"value\": \"x\"}\n", text)
	for line := range strings.Lines(text) {
		assert.True(t, json.Valid([]byte(line)))
	}
}

func BenchmarkReadJSONL(b *testing.B) {
	line := `{"key": "package", "value": "` + strings.Repeat(`Depends: libc6 (>= 2.34)\n`, 40) + "\"}\n"
	text := strings.Repeat(line, 1000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, _, err := readAll(strings.NewReader(text), ReadOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
