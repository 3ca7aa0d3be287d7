package command

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/cmd/pmemctl/internal/records"
)

// hostile texts try to be more than text where they are shown: each of them is a key
// and a value in every output below.
var hostile = []string{
	`</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `]]><svg onload=alert(1)>`, `'; DROP TABLE x; --`, // a page, a picture
	"\x1b[2J\x1b[31mred", "\x1b]0;owned\x07", "\x9b2J", "\u009b31m", "\x00\x01\x07\x08\x7f", "\rforged", "line\nroot# ", "tab\tcell", // a terminal
	"\u202etxt.exe", "\u2028\u2029", "\ufeffmark", "\u200bthin", // what cannot be seen
	`=cmd|' /C calc'!A0`, "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "＝1", "'=1", `a","=1`, `a;=1`, // a spreadsheet
	"\xff\xfe", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", // no UTF-8
	hostileKey, `{"key":"x","value":"y"}`, `\`, `\n`, "+1,1:a->b", "", // formats
}

func hostileTable(t *testing.T) (file string, want map[string]string) {
	t.Helper()
	var flat []string
	want = map[string]string{}
	for i, key := range hostile {
		value := hostile[len(hostile)-1-i]
		flat, want[key] = append(flat, key, value), value
	}
	return newTable(t, flat...), want
}

// TestHostileKeysOnATerminal: whatever prints keys or values there prints text that
// does nothing.
func TestHostileKeysOnATerminal(t *testing.T) {
	file, _ := hostileTable(t)
	other := newTable(t, "k", "v")
	tty := world{terminal: true}
	commands := [][]string{
		{"scan", file}, {"scan", "--json", file}, {"export", file}, {"keys", "--biggest=100", file}, {"keys", "--biggest=100", "--json", file},
		{"diff", file, other}, {"diff", "--json", file, other}, {"stats", file}, {"export", "--format=csv", "--csv-safe", file},
	}
	for _, format := range []string{"jsonl", "csv", "tsv", "raw"} {
		commands = append(commands, []string{"scan", "--format", format, file}, []string{"export", "--format", format, file})
	}
	for _, key := range hostile {
		for _, words := range [][]string{{"get"}, {"get", "--json"}, {"get", "--format=jsonl"}, {"get", "--format=tsv"}, {"explain"}, {"explain", "--json"}} {
			commands = append(commands, append(words, file, "--", key), append(words, file, "--", key+" is missing"))
		}
		commands = append(commands, []string{"put", "--if-absent", file, "--", key, "v"}, []string{"delete", "--if-value=x", file, "--", key},
			[]string{"delete", "--json", "--if-value=x", file, "--", key}, []string{"count", key}, []string{"count", "--json", key}, []string{key})
	}
	for _, args := range commands {
		r := tty.run(t, args...)
		escapes := strings.NewReplacer("\x1b[2K\r", "") // a bar that is taken off
		assertHarmless(t, r.out)
		assertHarmless(t, escapes.Replace(r.err))
	}
}

// TestHostileKeysInDocuments: each is valid JSON, and says the very bytes.
func TestHostileKeysInDocuments(t *testing.T) {
	file, want := hostileTable(t)
	text := func(plain, base64, hex *string) string {
		for e, s := range map[records.Encoding]*string{records.UTF8: plain, records.Base64: base64, records.Hex: hex} {
			if s != nil {
				b, err := e.AppendDecoded(nil, []byte(*s))
				require.NoError(t, err)
				return string(b)
			}
		}
		t.Fatal("no key, or no value")
		return ""
	}
	key := func(d keyDocument) string { return text(d.Key, d.KeyBase64, d.KeyHex) }
	value := func(d valueDocument) string { return text(d.Value, d.ValueBase64, d.ValueHex) }
	for _, w := range []world{{}, {terminal: true}} {
		for _, format := range []string{"utf8", "hex", "base64"} {
			r := w.run(t, "scan", "--json", "--key-format", format, "--value-format", format, file)
			have := map[string]string{}
			for _, e := range decoded[scanDocument](t, r.out).Entries {
				have[key(e.keyDocument)] = value(e.valueDocument)
			}
			assert.Equal(t, want, have)
			r = w.run(t, "keys", "--json", "--biggest=1000", "--key-format", format, file)
			for _, b := range decoded[keysDocument](t, r.out[strings.Index(r.out, "{"):]).Biggest {
				assert.Contains(t, want, key(b.keyDocument))
			}
		}
		for k, v := range want {
			d := decoded[getDocument](t, w.run(t, "get", "--json", file, "--", k).out)
			assert.Equal(t, k, key(d.keyDocument))
			assert.Equal(t, v, value(d.valueDocument))
			var e struct {
				keyDocument
				Found bool `json:"found"`
			}
			require.NoError(t, json.Unmarshal([]byte(w.run(t, "explain", "--json", file, "--", k).out), &e))
			assert.True(t, e.Found)
			assert.Equal(t, k, key(e.keyDocument))
		}
	}
}

// TestHostileKeysTravel: what is exported in any form comes back the same, and opens
// no cell or formula of its own on the way.
func TestHostileKeysTravel(t *testing.T) {
	file, want := hostileTable(t)
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"jsonl": nil, "csv": {"--format=csv"}, "tsv": {"--format=tsv"}, "raw": {"--format=raw"},
		"safe.csv": {"--format=csv", "--csv-safe"}, "safe.tsv": {"--format=tsv", "--csv-safe"},
		"hex.csv": {"--format=csv", "--key-format=hex", "--value-format=hex"}, "base64.csv": {"--format=csv", "--key-format=base64", "--csv-safe"},
	} {
		for _, verb := range []string{"export", "scan"} {
			if verb == "scan" && strings.HasSuffix(name, "csv") && name != "hex.csv" {
				continue // it does not look ahead for what CSV cannot say
			}
			args := slices.Clone(args)
			if verb == "scan" && name == "jsonl" {
				args = append(args, "--format=jsonl")
			}
			data, back := filepath.Join(dir, verb+"."+name), filepath.Join(dir, verb+"."+name+".pmt")
			require.NoError(t, os.WriteFile(data, []byte(must(t, append([]string{verb, file}, args...)...)), 0o600))
			words := []string{"import", "--create", "--format=" + name[strings.LastIndex(name, ".")+1:], back, data}
			if slices.Contains(args, "--csv-safe") {
				words = append(words, "--csv-safe")
			}
			must(t, words...)
			must(t, "diff", file, back)
		}
	}
	assert.Len(t, want, len(hostile))

	var sayable []string
	for _, text := range hostile {
		if records.CSVCanSay([]byte(text)) {
			sayable = append(sayable, text, text)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(must(t, "export", "--format=csv", "--csv-safe", newTable(t, sayable...)))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+len(sayable)/2)
	for _, row := range rows {
		for _, cell := range row {
			assert.NotContains(t, "=+-@\t\r\n", (cell + " ")[:1], "%q", row)
		}
	}
}

// TestHostileNamesInPictures: keys do not come into them, the name of the file does.
func TestHostileNamesInPictures(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // which has no such names
	}
	plain := newTable(t, "k", "v")
	content, err := os.ReadFile(plain)
	require.NoError(t, err)
	for _, name := range hostile {
		if strings.Contains(name, "\x00") || name == "" {
			continue // which no system has
		}
		file := filepath.Join(t.TempDir(), name+"x")
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, content, 0o600))
		out := t.TempDir()
		r := world{terminal: true}.run(t, "map", "--", file)
		assert.Equal(t, ExitOK, r.code, r.err)
		for _, kind := range []string{"svg", "html"} {
			must(t, "map", "--out", filepath.Join(out, "hostile."+kind), "--", file)
			must(t, "map", "--out", filepath.Join(out, "plain."+kind), "--", plain)
			assert.Equal(t, elements(t, filepath.Join(out, "plain."+kind)), elements(t, filepath.Join(out, "hostile."+kind)), "%q", name)
		}
	}
}

// elements are the tags and attributes of a picture or page, in their order.
func elements(t *testing.T, path string) (names []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	decoder := xml.NewDecoder(strings.NewReader(string(content)))
	decoder.Strict, decoder.AutoClose, decoder.Entity = strings.HasSuffix(path, "svg"), xml.HTMLAutoClose, xml.HTMLEntity
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			return names
		}
		require.NoError(t, err, "%s", content)
		if tag, ok := token.(xml.StartElement); ok {
			names = append(names, tag.Name.Local)
			for _, a := range tag.Attr {
				names = append(names, " "+a.Name.Local)
			}
		}
	}
}
