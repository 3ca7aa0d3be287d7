package records

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type entry struct{ key, value string }

// hostile holds what formats tend to lose: quotes and separators, line ends
// of every kind, control bytes, bytes that are no text, empty texts, marks.
var hostile = []entry{
	{"plain", "value"},
	{"", ""},
	{"empty value", ""},
	{"", "empty key"},
	{`quote " and \ backslash`, `"`},
	{"comma, tab\t", "a\tb"},
	{"line\nfeed", "carriage\rreturn"},
	{"crlf\r\n", "a\r\nb\r\n"},
	{"\x1b]0;title\x07\x1b[31m", "\x00\x7f\u0085\u202e"},
	{"\xff\xfe", "\x80\x00\xc3"},
	{"half \xc3", "whole ö"},
	{"\ufeffmark", "\ufeff"},
	{"emoji 🙂", "\u2028\u2029"},
	{"<script>&", "</script>"},
	{"#comment", " leading and trailing "},
	{`\.`, `\N`},
	{"key", "value"},
	{"{", "{}"},
	{"surrogate \xed\xa0\x80", "\ufffd"},
}

func write(t *testing.T, o WriteOptions, entries []entry) string {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, o)
	for _, e := range entries {
		require.NoError(t, w.Write([]byte(e.key), []byte(e.value)))
	}
	require.NoError(t, w.Flush())
	return out.String()
}

func readAll(input io.Reader, o ReadOptions) (entries []entry, lines []int, err error) {
	r, err := NewReader(input, o)
	for err == nil {
		var record Record
		if record, err = r.Read(); err == nil {
			entries = append(entries, entry{string(record.Key), string(record.Value)})
			lines = append(lines, record.Line)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return entries, lines, err
}

func TestRoundTripKeepsEveryByte(t *testing.T) {
	for name, o := range map[string]WriteOptions{
		"jsonl":          {Format: JSONL},
		"jsonl terminal": {Format: JSONL, Terminal: true},
		"tsv":            {Format: TSV},
		"tsv terminal":   {Format: TSV, Terminal: true},
		"tsv hex":        {Format: TSV, KeyEncoding: Hex, ValueEncoding: Base64},
		"csv base64":     {Format: CSV, KeyEncoding: Base64, ValueEncoding: Hex},
		"tsv safe":       {Format: TSV, CSVSafe: true},
		"raw":            {Format: Raw},
	} {
		t.Run(name, func(t *testing.T) {
			text := write(t, o, hostile)
			got, _, err := readAll(strings.NewReader(text), ReadOptions{Name: "x." + o.Format.String(), CSVSafe: o.CSVSafe})
			require.NoError(t, err)
			assert.Equal(t, hostile, got)

			slow := iotest.OneByteReader(strings.NewReader(text))
			got, _, err = readAll(slow, ReadOptions{Format: o.Format, CSVSafe: o.CSVSafe})
			require.NoError(t, err)
			assert.Equal(t, hostile, got)
		})
	}
}

func TestRoundTripOfRandomBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		b := make([]byte, random.IntN(20))
		for i := range b {
			if b[i] = byte(random.IntN(256)); random.IntN(20) > 0 {
				b[i] = "\"\\,\t\r\n{}: a"[random.IntN(11)]
			}
		}
		return string(b)
	}
	entries := make([]entry, 3000)
	for i := range entries {
		entries[i] = entry{text(), text()}
	}
	for _, o := range []WriteOptions{{Format: JSONL}, {Format: TSV}, {Format: Raw}, {Format: CSV, KeyEncoding: Hex, ValueEncoding: Hex}} {
		got, _, err := readAll(strings.NewReader(write(t, o, entries)), ReadOptions{Format: o.Format})
		require.NoError(t, err)
		assert.Equal(t, entries, got, o.Format)
	}

	var sayable []entry
	for _, e := range entries {
		if CSVCanSay([]byte(e.key)) && CSVCanSay([]byte(e.value)) {
			sayable = append(sayable, e)
		}
	}
	require.Greater(t, len(sayable), 100)
	got, _, err := readAll(strings.NewReader(write(t, WriteOptions{Format: CSV}, sayable)), ReadOptions{Format: CSV})
	require.NoError(t, err)
	assert.Equal(t, sayable, got)
}

func TestCSVRefusesWhatItCannotSay(t *testing.T) {
	for _, e := range []entry{{"\xff", ""}, {"", "a\r\nb"}, {"\ufeff", ""}} {
		w := NewWriter(io.Discard, WriteOptions{Format: CSV})
		assert.ErrorContains(t, w.Write([]byte(e.key), []byte(e.value)), "base64")
	}
}

func TestTerminalOutputHoldsNoControlBytes(t *testing.T) {
	for _, format := range []Format{JSONL, CSV, TSV, Raw} {
		text := write(t, WriteOptions{Format: format, Terminal: true}, hostile)
		for _, r := range text {
			ok := r == '\n' || r == '\t' && format == TSV || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) &&
				r != 0x202e && r != 0x2028 && r != 0x2029 && r != 0xfeff
			require.True(t, ok, "%v: %q in %q", format, r, text)
		}
	}
}

func TestFormatIsFoundByNameAndByContent(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       []entry
	}{
		"jsonl by content":  {"data", "\n {\"key\":\"a\",\"value\":\"b\"}", []entry{{"a", "b"}}},
		"tsv by content":    {"data", "a\tb, c\n", []entry{{"a", "b, c"}}},
		"csv by name":       {"data.csv", "a,\"b\tc\"\n", []entry{{"a", "b\tc"}}},
		"tsv by name":       {"DATA.TSV.GZ", "{\tb\n", []entry{{"{", "b"}}},
		"csv plain":         {"", "a,b\r\nc,d\r\n", []entry{{"a", "b"}, {"c", "d"}}},
		"header turned":     {"x.csv", "value,key\n1,2\n", []entry{{"2", "1"}}},
		"header base64":     {"x.tsv", "key_base64\tvalue_hex\n/w==\tff\n", []entry{{"\xff", "\xff"}}},
		"empty":             {"", "", nil},
		"byte order mark":   {"", "\ufeffkey,value\na,b\n", []entry{{"a", "b"}}},
		"no end of line":    {"", "a,b\nc,d", []entry{{"a", "b"}, {"c", "d"}}},
		"data like headers": {"x.csv", "a,key\n", []entry{{"a", "key"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, _ = z.Write([]byte(c.text))
			_ = z.Close()
			for _, input := range []io.Reader{strings.NewReader(c.text), &packed} {
				got, _, err := readAll(input, ReadOptions{Name: c.file})
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
			}
		})
	}
	for _, text := range []string{"just words\n", "a,\"b\tc\"\n", "a,x\tb\n", "\"a\tb\",c\n"} {
		_, _, err := readAll(strings.NewReader(text), ReadOptions{})
		assert.ErrorContains(t, err, "--format", text)
	}
}

func TestHeaderModes(t *testing.T) {
	text := "key,value\na,b\n"
	got, _, err := readAll(strings.NewReader(text), ReadOptions{Format: CSV, Header: HeaderNo})
	require.NoError(t, err)
	assert.Equal(t, []entry{{"key", "value"}, {"a", "b"}}, got)

	text = "package\tdescription\na\tb\n"
	got, _, err = readAll(strings.NewReader(text), ReadOptions{Format: TSV, Header: HeaderYes})
	require.NoError(t, err)
	assert.Equal(t, []entry{{"a", "b"}}, got)
}

func TestMalformedInputNamesTheLine(t *testing.T) {
	good := "{\"key\":\"a\",\"value\":\"b\"}\n"
	for text, reason := range map[string]string{
		"{":                                 "the line ends",
		"[]":                                "not a JSON object",
		"nonsense":                          "not a JSON object",
		`{}`:                                "no key",
		`{"key":"a"}`:                       "no value",
		`{"value":"a"}`:                     "no key",
		`{"key":1,"value":"b"}`:             "a string for key",
		`{"key":null,"value":"b"}`:          "a string for key",
		`{"key":"a","value":{"x":"y"}}`:     "a string for value",
		`{"key":"a","value":"b",}`:          "a field name",
		`{"key":"a" "value":"b"}`:           "a comma",
		`{"key":"a","value":"b"} x`:         "end of the line",
		`{"key":"a","value":"b"}{}`:         "end of the line",
		`{"key":"a","key":"a","value":"b"}`: "two texts for the key",
		`{"key":"a","key_base64":"","value":"b"}`:   "two texts for the key",
		`{"key":"a","value":"b","value_base64":""}`: "two texts for the value",
		`{"key":"a","value":"b","ttl":"3"}`:         `unknown field "ttl"`,
		`{"Key":"a","value":"b"}`:                   `unknown field "Key"`,
		`{"key_hex":"00","value":"b"}`:              "unknown field",
		`{"key":"\ud800","value":"b"}`:              "surrogate",
		`{"key":"\udc00","value":"b"}`:              "surrogate",
		`{"key":"\ud83d\ud83d","value":"b"}`:        "surrogate",
		`{"key":"\ud83dx","value":"b"}`:             "surrogate",
		`{"key":"\u12","value":"b"}`:                "four hexadecimal",
		`{"key":"\x00","value":"b"}`:                "unknown escape",
		"{\"key\":\"a\x00\",\"value\":\"b\"}":       "control byte 0x00",
		"{\"key\":\"\xff\",\"value\":\"b\"}":        "not valid UTF-8",
		`{"key":"a`:                                 "ends inside a string",
		`{"key":"a\`:                                "ends inside a string",
		`{"key_base64":"!","value":"b"}`:            "not base64",
		`{"key_base64":"YQ","value":"b"}`:           "not base64",
		`{"key_base64":"YR==","value":"b"}`:         "not base64",
		`{"key_base64":"YQ==\n","value":"b"}`:       "not base64",
	} {
		got, _, err := readAll(strings.NewReader(good+"\n"+text+"\n"+good), ReadOptions{Format: JSONL})
		var line *LineError
		if assert.ErrorAs(t, err, &line, text) {
			assert.Equal(t, 3, line.Line, text)
			assert.ErrorContains(t, err, reason, text)
		}
		assert.Len(t, got, 1, "the lines before stay: %s", text)
	}
	for text, reason := range map[string]string{
		"a":          "not two fields",
		"a\tb\tc":    "not two fields",
		"a\tb\\":     "backslash at the end",
		"a\tC:\\dir": "unknown escape",
		"a\t\\xg0":   "hexadecimal",
		"a\t\\x0":    "unknown escape",
	} {
		_, _, err := readAll(strings.NewReader("k\tv\n"+text+"\n"), ReadOptions{Format: TSV})
		assert.ErrorContains(t, err, "line 2: ", text)
		assert.ErrorContains(t, err, reason, text)
	}
	for text, reason := range map[string]string{
		"a":        "not two fields",
		"a,b,c":    "not two fields",
		"a,\"b":    "quote",
		"a,b\"c":   "quote",
		"a,\"b\"c": "quote",
	} {
		_, _, err := readAll(strings.NewReader("k,\"v\n\"\n"+text+"\n"), ReadOptions{Format: CSV})
		assert.ErrorContains(t, err, "line 3: ", text)
		assert.ErrorContains(t, err, reason, text)
	}
	_, _, err := readAll(strings.NewReader("key_hex,value\n0g,x\n"), ReadOptions{Format: CSV})
	assert.ErrorContains(t, err, "line 2: key: not hexadecimal")
}

func TestLongLinesAreRefusedBeforeTheyFillMemory(t *testing.T) {
	const limit = 100_000
	fits := strings.Repeat("x", limit-1000)
	for name, c := range map[string]struct{ before, after string }{
		"jsonl": {`{"key":"k","value":"`, "\"}\n"},
		"tsv":   {"k\t", "\n"},
		"csv":   {"k,\"", "\"\n"},
	} {
		format, err := ParseFormat(name)
		require.NoError(t, err)
		o := ReadOptions{Format: format, MaxLineBytes: limit}
		got, lines, err := readAll(strings.NewReader(c.before+fits+c.after+c.before+c.after), o)
		require.NoError(t, err, name)
		assert.Equal(t, fits, got[0].value, name)
		assert.Equal(t, []int{1, 2}, lines)

		endless := io.MultiReader(strings.NewReader(c.before+c.after+c.before), endlessReader{})
		_, _, err = readAll(endless, o)
		assert.ErrorIs(t, err, ErrLineTooLong, name)
		assert.ErrorContains(t, err, "line 2: ", name)
	}
}

type endlessReader struct{}

func (endlessReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func TestDamagedGzipIsAboutTheInput(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(strings.Repeat("{\"key\":\"a\",\"value\":\"b\"}\n", 1000)))
	_ = z.Close()
	whole := packed.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1
	for _, damaged := range [][]byte{whole[:len(whole)-9], flipped, whole[:5]} {
		_, _, err := readAll(bytes.NewReader(damaged), ReadOptions{Format: JSONL})
		var line *LineError
		assert.ErrorAs(t, err, &line)
		assert.ErrorContains(t, err, "gzip")
	}
	_, _, err := readAll(iotest.ErrReader(io.ErrNoProgress), ReadOptions{})
	assert.ErrorIs(t, err, io.ErrNoProgress)
	var line *LineError
	assert.NotErrorAs(t, err, &line)
}
