package records

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRawIsWhatCdbmakeTakes(t *testing.T) {
	text := write(t, WriteOptions{Format: Raw}, []entry{{"one", "Hello"}, {"two", "Good\nbye"}, {"", ""}})
	assert.Equal(t, "+3,5:one->Hello\n+3,8:two->Good\nbye\n+0,0:->\n\n", text)
	assert.Equal(t, "\n", write(t, WriteOptions{Format: Raw}, nil))
	got, lines, err := readAll(strings.NewReader(text), ReadOptions{Name: "x.RAW"})
	require.NoError(t, err)
	assert.Equal(t, []entry{{"one", "Hello"}, {"two", "Good\nbye"}, {"", ""}}, got)
	assert.Equal(t, []int{1, 2, 4}, lines)
}

// TestRawNeverMistakesDamage: of a stream that was cut off anywhere, or has any other
// byte at a place that is not a record's content, no end is read.
func TestRawNeverMistakesDamage(t *testing.T) {
	whole := write(t, WriteOptions{Format: Raw}, []entry{{"one", "Hello"}, {"2", "x"}})
	for n := range len(whole) {
		_, _, err := readAll(strings.NewReader(whole[:n]), ReadOptions{Format: Raw})
		var line *LineError
		require.ErrorAs(t, err, &line)
		assert.ErrorIs(t, err, errCutOff, "%q", whole[:n])
	}
	for input, want := range map[string]string{
		"one\n\n":                      "line 1: 'o' where a record",
		"+1,1:a->b\n-1,1:a->b\n\n":     "line 2: '-' where a record",
		"+1,1:a->b\n\n+1,1:a->b\n\n":   "more behind the empty line",
		"+1,1:ab->c\n\n":               `'b' where "->" should follow 1 bytes`,
		"+1,1:a->bc\n\n":               `'c' where "\n" should follow 1 bytes`,
		"+,1:a->b\n\n":                 "',' in a length",
		"+1:a->b\n\n":                  "':' in a length",
		"+1,12345678901:a->b\n\n":      "'1' in a length",
		"+1,-1:a->b\n\n":               "'-' in a length",
		"+9999999999,9999999999:a->\n": "longer than the limit",
		"+1,67108863:a->b\n\n":         "ends in the middle", // and no memory is taken for it
	} {
		_, _, err := readAll(strings.NewReader(input), ReadOptions{Format: Raw})
		assert.ErrorContains(t, err, want, "%q", input)
	}
	_, _, err := readAll(iotest.ErrReader(errors.New("the disk failed")), ReadOptions{Format: Raw})
	assert.ErrorContains(t, err, "reading the input at line 1: the disk failed")
	var line *LineError
	assert.False(t, errors.As(err, &line))
}

func TestRawIsNotGuessed(t *testing.T) {
	_, _, err := readAll(strings.NewReader("+3,5:one->Hello\n\n"), ReadOptions{})
	assert.ErrorContains(t, err, "--format raw or --format csv")
	got, _, err := readAll(strings.NewReader("+3,five\n"), ReadOptions{})
	require.NoError(t, err)
	assert.Equal(t, []entry{{"+3", "five"}}, got)
}

// formulas are cells that a spreadsheet would act on, and some that look so.
var formulas = []entry{
	{"=1+1", "=cmd|' /C calc'!A0"}, {"+1", "-1"}, {"@SUM(1)", "\t=1"}, {"\r=1", "\n=1"}, {"＝1", "＋1"},
	{"'=1", "''=1"}, {"'", "''"}, {"plain", "'quoted'"}, {"", "a;=1,=2\"=3"}, {"-", "'-"}, {" =1", "1=1"},
}

func TestCSVSafeLeavesNoFormulaAndComesBack(t *testing.T) {
	for _, format := range []Format{CSV, TSV} {
		for _, e := range []Encoding{UTF8, Base64, Hex} {
			o := WriteOptions{Format: format, CSVSafe: true, KeyEncoding: e, ValueEncoding: e, NoHeader: true}
			entries := append(formulas, entry{"\xfb\xef\xbe", "\xfb\xef\xbe"}) // "+++" and "++++" in base64
			if format == CSV && e == UTF8 {
				entries = formulas
			}
			for _, one := range entries {
				for i, cell := range cells(t, format, write(t, o, []entry{one})) {
					assert.NotContains(t, formulaStarts, fmt.Sprintf("%.1s", cell+" "), "%v %v %q, cell %d", format, e, one, i)
				}
			}
			o.NoHeader = false
			got, _, err := readAll(strings.NewReader(write(t, o, entries)), ReadOptions{Format: format, CSVSafe: true})
			require.NoError(t, err)
			assert.Equal(t, entries, got)
		}
	}
	text := write(t, WriteOptions{Format: CSV, CSVSafe: true}, []entry{{"a", `=1;"b"`}})
	assert.Equal(t, "\"key\",\"value\"\n\"a\",\"'=1;\"\"b\"\"\"\n", text)
}

// cells splits a row as a spreadsheet does.
func cells(t *testing.T, format Format, row string) []string {
	t.Helper()
	row = strings.TrimSuffix(row, "\n")
	if format == TSV {
		return strings.Split(row, "\t")
	}
	require.True(t, strings.HasPrefix(row, `"`) && strings.HasSuffix(row, `"`), row)
	parts := strings.Split(row[1:len(row)-1], `","`)
	require.Len(t, parts, 2)
	return parts
}

func TestColumnsWithoutANameForTheirEncoding(t *testing.T) {
	for input, want := range map[string]entry{
		"6b,dg==\n":                 {"k", "v"},
		"key,value\n6b,dg==\n":      {"k", "v"},
		"key_hex,value\n6b,dg==":    {"k", "v"},
		"value_base64,key\ndg==,6b": {"k", "v"},
	} {
		got, _, err := readAll(strings.NewReader(input), ReadOptions{Format: CSV, KeyEncoding: Hex, ValueEncoding: Base64})
		require.NoError(t, err, input)
		assert.Equal(t, []entry{want}, got)
		got, _, err = readAll(strings.NewReader(strings.ReplaceAll(input, ",", "\t")), ReadOptions{Format: TSV, KeyEncoding: Hex, ValueEncoding: Base64})
		require.NoError(t, err, input)
		assert.Equal(t, []entry{want}, got)
	}
	for _, format := range []Format{CSV, TSV} {
		text := write(t, WriteOptions{Format: format, KeyEncoding: Base64}, []entry{{"k", "v"}})
		_, _, err := readAll(strings.NewReader(text), ReadOptions{Format: format, KeyEncoding: Hex})
		assert.ErrorContains(t, err, "line 1: the column is called key_base64, against --key-format hex")
	}
	for _, format := range []Format{JSONL, Raw} {
		_, _, err := readAll(strings.NewReader("\n"), ReadOptions{Format: format, ValueEncoding: Hex})
		assert.ErrorIs(t, err, ErrColumnsOnly)
		_, _, err = readAll(strings.NewReader("\n"), ReadOptions{Format: format, CSVSafe: true})
		assert.ErrorIs(t, err, ErrColumnsOnly)
	}
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("+3,5:one->Hello\n\n"))
	f.Add([]byte("+1,67108863:a->b"))
	f.Fuzz(func(t *testing.T, input []byte) {
		entries, _, err := readAll(strings.NewReader(string(input)), ReadOptions{Format: Raw})
		if err == nil && !strings.HasPrefix(string(input), "\x1f\x8b") && !strings.HasPrefix(string(input), "\ufeff") {
			back, _, err := readAll(strings.NewReader(write(t, WriteOptions{Format: Raw}, entries)), ReadOptions{Format: Raw})
			require.NoError(t, err)
			require.Equal(t, entries, back)
		}
	})
}
