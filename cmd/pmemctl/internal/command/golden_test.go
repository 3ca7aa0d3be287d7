package command

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"pmemtable/internal/layout"
	"pmemtable/pmem"
	"pmemtable/table"
)

var newFixture = flag.Bool("fixture", false, "make the table of the golden files anew, after a change of the format; then -update")

// goldens are command lines whose output, errors and exit codes are kept in
// testdata/golden, a file for each command. They run one after the other in a
// directory with the files of goldenFiles.
var goldens = map[string][]string{
	"backup": {"backup t.pmt t.backup", "backup t.pmt t.backup", "backup --json t.pmt second.backup", "backup --json t.pmt -", "backup locked.pmt x"},
	"bench": {"bench --entries 1000 --for 1ms --goroutines 2 .", "bench --json --entries 1000 --for 1ms --goroutines 2 .",
		"bench --entries 1", "bench --json --entries 1"},
	"check": {"check t.pmt", "check --json t.pmt", "check --level header t.pmt", "check --level structure --json t.pmt", "check --level checksum damaged.pmt",
		"check damaged.pmt", "check --json damaged.pmt", "check counts.pmt", "check --json counts.pmt", "check locked.pmt", "check --json newer.pmt",
		"check logged.pmt", "check --json --level header logged.pmt"},
	"compact":   {"compact t.pmt", "compact --json t.pmt", "check t.pmt", "compact locked.pmt", "compact --json locked.pmt"},
	"count":     {"count t.pmt", "count --json t.pmt", "count missing.pmt", "count --json missing.pmt", "count newer.pmt", "count foreign", "count --json foreign", "count logged.pmt"},
	"crashtest": {"crashtest --programs 1 --kills 1 --seed 17 .", "crashtest --json --programs 1 --kills 0 --seed 17 .", "crashtest --kills -1"},
	"create":    {"create new.pmt", "create --json --stripes 4 second.pmt", "create new.pmt", "create --json new.pmt", "create --stripes 5000 x.pmt"},
	"delete": {"delete t.pmt bash", "delete --json t.pmt vim", "delete t.pmt bash", "delete --json t.pmt bash", "delete --if-value x t.pmt zlib",
		"delete --json --key-format hex t.pmt 00ff", "delete locked.pmt k"},
	"demo":   {"demo --dir .", "demo --json --dir .", "demo missing", "demo --json missing"},
	"diff":   {"diff t.pmt t.pmt", "diff t.pmt other.pmt", "diff --json t.pmt other.pmt", "diff --json t.pmt t.pmt", "diff --limit 1 --key-format hex t.pmt other.pmt", "diff t.pmt missing.pmt"},
	"doctor": {"doctor .", "doctor --json .", "doctor missing", "doctor --json missing"},
	"dump": {"dump t.pmt header", "dump t.pmt superblock 0", "dump --json t.pmt superblock 1", "dump t.pmt session 0", "dump t.pmt stripe 1", "dump t.pmt chunk 0",
		"dump t.pmt nonsense", "dump --json t.pmt record 1", "dump logged.pmt log", "dump t.pmt log"},
	"explain": {"explain t.pmt bash", "explain --json t.pmt bash", "explain t.pmt missing", "explain --json t.pmt missing", "explain --key-format hex t.pmt 00ff",
		"explain damaged.pmt marked", "explain logged.pmt new", "explain --json logged.pmt zlib"},
	"export": {"export t.pmt", "export --format csv t.pmt", "export --format csv --csv-safe t.pmt", "export --format tsv --no-header t.pmt", "export --format raw t.pmt",
		"export --format tsv --csv-safe --key-format hex --value-format base64 t.pmt", "export --out t.jsonl t.pmt", "export --out t.jsonl t.pmt",
		"export --json --format raw --out t.raw t.pmt", "export --json t.pmt", "export --key-format hex t.pmt"},
	"get": {"get t.pmt bash", "get --json t.pmt bash", "get --format jsonl t.pmt bash", "get --format csv --csv-safe t.pmt =formula", "get --format raw t.pmt bash",
		"get --key-format hex t.pmt 00ff", "get --json t.pmt missing", "get t.pmt missing", "get t.pmt", "get --json damaged.pmt marked", "get --key-format hex t.pmt 0"},
	"import": {"import --create new.pmt data.jsonl", "import --json new.pmt data.csv", "import new.pmt data.tsv", "import --csv-safe new.pmt safe.csv", "import new.pmt data.raw",
		"import --key-format hex --header no new.pmt hex.csv", "scan --prefix raw new.pmt", "get new.pmt =formula", "import new.pmt bad.jsonl", "import --json new.pmt bad.jsonl",
		"import --json missing.pmt data.jsonl", "import new.pmt bad.raw", "import --key-format hex new.pmt data.jsonl"},
	"info": {"info t.pmt", "info --json t.pmt", "info missing.pmt", "info --json newer.pmt", "info logged.pmt", "info --json logged.pmt"},
	"keys": {"keys t.pmt", "keys --biggest 3 --histogram t.pmt", "keys --json --biggest 2 --histogram t.pmt", "keys --key-format base64 t.pmt",
		"keys --json --key-format hex --biggest 2 t.pmt", "keys --biggest -1 t.pmt"},
	"map": {"map t.pmt", "map --json t.pmt", "map --out t.svg t.pmt", "map --json --out t.html t.pmt", "map --out t.png t.pmt", "map --json missing.pmt"},
	"put": {"put t.pmt new value", "put --json t.pmt other value", "put --json --key-format hex --value-format base64 t.pmt 00 dmFsdWU=", "get t.pmt new",
		"put --if-absent t.pmt new x", "put --json --if-value x t.pmt new y", "put locked.pmt k v", "put --json locked.pmt k v", "put t.pmt k"},
	"repair": {"repair t.pmt whole.pmt", "repair damaged.pmt salvaged.pmt", "repair --json t.pmt intact.pmt", "repair --json damaged.pmt second.pmt", "repair --json counts.pmt third.pmt",
		"count salvaged.pmt", "repair logged.pmt fourth.pmt", "diff logged.pmt fourth.pmt", "repair damaged.pmt salvaged.pmt", "repair --json foreign x.pmt"},
	"restore": {"backup t.pmt t.backup", "restore t.backup new.pmt", "restore --json t.backup second.pmt", "diff t.pmt new.pmt", "restore t.backup new.pmt",
		"restore --json t.pmt third.pmt"},
	"scan": {"scan t.pmt", "scan --json t.pmt", "scan --limit 2 t.pmt", "scan --json --limit 2 --keys-only t.pmt", "scan --prefix z --key-format utf8 --value-format hex t.pmt",
		"scan --format tsv --no-header t.pmt", "scan --format csv --csv-safe --prefix = t.pmt", "scan --format raw --prefix ba t.pmt", "scan --json --prefix none t.pmt",
		"scan --format csv t.pmt", "scan --cursor x t.pmt", "scan damaged.pmt"},
	"stats": {"stats t.pmt", "stats --json t.pmt", "stats --interval 1ms --count 1 t.pmt", "stats --json --interval 1ms --count 1 t.pmt", "stats --count 1 t.pmt", "stats logged.pmt"},
	"top":   {"top --interval 1h t.pmt", "top --json --interval 1ms t.pmt", "top --interval 0s t.pmt", "top --json missing.pmt"},
}

// goldenEntries are what t.pmt holds.
var goldenEntries = [][2]string{
	{"bash", "GNU Bourne Again SHell"}, {"base-files", "Debian base system"}, {"vim", "Vi IMproved"}, {"zlib", "compression library"},
	{"marked", "a value to be damaged!"}, {"", "the empty key"}, {"empty", ""}, {"\x00\xff", "\xfe\x00"},
	{"=formula", "-1+1"}, {"</script>", "tab\tand\nline"}, {"large", strings.Repeat("0123456789abcdef", 6000)}, {"escape \x1b[31m", "\x1b[0m"},
}

// The fixture is kept, for its hash seed decides the order of all that is printed.
var fixturePath, _ = filepath.Abs(filepath.Join("testdata", "fixture.pmt.gz"))

func TestGoldenFixture(t *testing.T) {
	if *newFixture {
		makeFixture(t)
	}
	file := goldenDirectory(t)
	assert.Equal(t, fmt.Sprintln(len(goldenEntries)), must(t, "count", file))
	for _, e := range goldenEntries {
		assert.Equal(t, e[1], must(t, "get", file, "--", e[0]))
	}
}

func makeFixture(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.pmt")
	tab, err := table.Open(path, &table.Options{Stripes: 2, LogSize: 64 << 10, Durability: table.OnSync})
	require.NoError(t, err)
	for _, e := range goldenEntries {
		require.NoError(t, tab.Put([]byte(e[0]), []byte(e[1])))
	}
	b := table.NewBatch()
	b.SetMetadata([]byte("metadata"))
	require.NoError(t, tab.Apply(b))
	require.NoError(t, tab.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(fixturePath, packed.Bytes(), 0o644))
}

// goldenDirectory makes the files that the command lines name, goes to their
// directory and returns the path of t.pmt.
func goldenDirectory(t *testing.T) string {
	t.Helper()
	packed, err := os.Open(fixturePath)
	require.NoError(t, err)
	defer packed.Close()
	r, err := gzip.NewReader(packed)
	require.NoError(t, err)
	content, err := io.ReadAll(r)
	require.NoError(t, err)

	t.Chdir(t.TempDir())
	files := map[string][]byte{
		"t.pmt": content, "other.pmt": content, "locked.pmt": content, "damaged.pmt": content,
		"newer.pmt": newerVersion(content), "counts.pmt": wrongCounts(t, content), "foreign": []byte(strings.Repeat("text\n", 3000)),
		"data.jsonl": []byte("{\"key\":\"a\",\"value\":\"1\"}\n{\"key_base64\":\"/w==\",\"value\":\"2\"}\n"), "data.csv": []byte("key,value\nc,\"a,b\"\n"),
		"data.tsv": []byte("t\ta\\tb\n"), "data.raw": []byte("+3,3:raw->a\nb\n\n"), "safe.csv": []byte("\"key\",\"value\"\n\"'=formula\",\"'-1\"\n"),
		"hex.csv": []byte("6b6579,value\n"), "bad.jsonl": []byte("{\"key\":\"b\",\"value\":\"1\"}\nnonsense\n"), "bad.raw": []byte("+3,3:raw->abc\n"),
	}
	for name, content := range files {
		require.NoError(t, os.WriteFile(name, content, 0o600))
	}
	damage(t, "damaged.pmt", "a value to be damaged!")
	tab, err := table.Open("other.pmt", nil)
	require.NoError(t, err)
	require.NoError(t, tab.Put([]byte("vim"), []byte("changed")))
	require.NoError(t, tab.Put([]byte("only here"), nil))
	require.NoError(t, tab.Delete([]byte("zlib")))
	require.NoError(t, tab.Close())
	makeLogged(t, content)
	holder, err := table.Open("locked.pmt", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = holder.Close() })
	return "t.pmt"
}

// makeLogged makes logged.pmt, a copy of a file that is open: of what was changed last
// only the log tells.
func makeLogged(t *testing.T, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile("open.pmt", content, 0o600))
	// No larger, or it might grow ahead of need, or not.
	tab, err := table.Open("open.pmt", &table.Options{Media: pmem.PageCache, MaxSize: int64(len(content))})
	require.NoError(t, err)
	require.NoError(t, tab.Put([]byte("vim"), []byte("in the root")))
	require.NoError(t, tab.Put([]byte("new"), []byte("in the log")))
	require.NoError(t, tab.Put([]byte("vim"), []byte("in the log")))
	require.NoError(t, tab.Delete([]byte("zlib")))
	b := table.NewBatch()
	b.Put([]byte("new"), []byte("twice in the log"))
	b.SetMetadata([]byte("metadata in the log"))
	require.NoError(t, tab.Apply(b))
	content, err = os.ReadFile("open.pmt")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("logged.pmt", content, 0o600))
	require.NoError(t, tab.Close())
}

// newerVersion is of a format that there is not yet.
func newerVersion(content []byte) []byte {
	content = bytes.Clone(content)
	page := content[:layout.PageBytes]
	page[12] = layout.FormatVersion + 1
	sum := crc32.Checksum(page[:len(page)-4], layout.Castagnoli)
	for i := range 4 {
		page[len(page)-4+i] = byte(sum >> (8 * i))
	}
	return content
}

// wrongCounts has five entries less than it says, and is whole otherwise.
func wrongCounts(t *testing.T, content []byte) []byte {
	t.Helper()
	content = bytes.Clone(content)
	h, err := layout.DecodeHeader(content)
	require.NoError(t, err)
	g := h.Geometry()
	for _, at := range g.Regions().Superblock {
		if s, ok := layout.DecodeSuperblock(g, content[at:]); ok {
			s.Counts[0] += 5
			slot := content[at:][:g.SuperblockBytes()]
			clear(slot)
			s.Encode(g, slot)
		}
	}
	return content
}

// varies are the parts of what is printed that differ by machine or from run to run,
// with what stands for them in the golden files. The first are of all commands.
var varies = map[string][][2]string{
	"": {
		{`in [0-9.]+(ns|µs|ms| s)\b`, "in TIME"}, {`[0-9,]+/s\b`, "N/s"}, {`\([0-9.]+ ([KMGT]i)?B/s\)`, "(N B/s)"},
		{`"(seconds|open_ns|file_size_bytes|flush_method)": ?("[^"]*"|[-+0-9.e]+)`, `"$1": VARIES`},
		{`"(medium|survives)": ?"[^"]*"`, `"$1": "VARIES"`},
		{`(?m)^(medium|survives|  always|  interval|  onsync) .*`, "$1 VARIES"},
		{`locked by process \d+`, "locked by process N"}, {`[A-Za-z0-9+/=]{200,}`, "LARGE"},
	},
	"compact": {{`(?m)^size .*`, "size VARIES"}, {`"(before|after)_bytes": \d+`, `"${1}_bytes": N`}, {`(?m)^(structure|space) .*`, "$1 VARIES"}},
	"bench":   {{`(?m)^(.{32}) +\d+ +[0-9,]+ +\d.*`, "$1 FIGURES"}, {`"(operations|per_second|[a-z0-9]+_ns|times_floor)": [-+0-9.e]+`, `"$1": N`}},
	"demo":    demoVaries, "crashtest": demoVaries,
	"doctor": {
		{`(?m)^(machine|file system|mounted|MAP_SYNC|write-back|eADR|durable put) .*`, "$1 VARIES"}, {`(?m)^huge pages .*\n`, ""}, {`(?s)\n\n[^{]*$`, "\n\nADVICE\n"},
		{`(?s)"advice": \[.*?\]`, `"advice": [VARIES]`}, {`(?m)^  "(refused|transparent_huge_pages[a-z_]*|kernel|mount[a-z_]*|file_system)": .*\n`, ""},
		{`(?m)^  "([a-z_]+)": ("[^"]*"|[a-z0-9]+)(,?)$`, `  "$1": VARIES$3`}, {`"schema_version": VARIES`, `"schema_version": 1`},
	},
	"stats": {{`: mean \S+, 99 % within TIME, longest \S+`, ": TIMES"}, {`(?m)^( +[0-9]+){4} .*B .*`, "FIGURES"}, {`"seconds":[0-9.]+`, `"seconds":N`}},
	"top":   {{`"seconds":[0-9.]+`, `"seconds":N`}},
}

var demoVaries = [][2]string{
	{`(?m)^survives .*\n( {10}.*\n)*`, "survives VARIES\n"}, {`(?m)^table .*`, "table FILE"}, {`[#-]{24}`, "BAR"},
	{` \([^)]*in flight[^)]*\)`, ""}, {`(?s)it chose\n.*?ok  `, "it chose ITS ROOT\n          ok  "},
	{`(\b|-)[0-9]+([,.][0-9]+)*`, "N"}, {`"(schema_version)": ?N`, `"$1": 1`},
}

func normal(verb, text string) string {
	for _, v := range append(slices.Clone(varies[""]), varies[verb]...) {
		text = regexp.MustCompile(v[0]).ReplaceAllString(text, v[1])
	}
	return text
}

// untilLine ends a command that would go on for ever after its first line.
type untilLine struct {
	bytes.Buffer
	stop func()
}

func (w *untilLine) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("\n")) && w.Len() == 0 {
		w.stop()
		return w.Buffer.Write(b)
	}
	return len(b), nil
}

// goldenResult is what one of a command's lines did.
type goldenResult struct {
	line string
	json bool
	result
}

// goldenResults runs lines, with more flags behind the verb.
func goldenResults(t *testing.T, verb string, lines []string, flags ...string) (results []goldenResult) {
	t.Helper()
	t.Setenv("GORACE", "atexit_sleep_ms=0") // else each child of the demo takes a second more under -race
	goldenDirectory(t)
	for _, line := range lines {
		words := strings.Fields(line)
		if words[0] == verb {
			words = slices.Insert(words, 1, flags...)
		}
		results = append(results, goldenResult{line, slices.Contains(words, "--json"), goldenRun(t, words)})
	}
	return results
}

// transcript is how a terminal would show it, and what is no text in escapes.
func transcript(verb string, results []goldenResult) string {
	var script strings.Builder
	for _, r := range results {
		fmt.Fprintf(&script, "$ pmemctl %s\n", r.line)
		for _, part := range []string{r.out, r.err} {
			if part != "" && !strings.HasSuffix(part, "\n") {
				part += "⏎\n" // there was no newline
			}
			part = strings.NewReplacer("\x1b", `\x1b`, "\r", `\r`, "\x00", `\x00`).Replace(part)
			script.WriteString(normal(verb, strings.ToValidUTF8(part, "\ufffd")))
		}
		if r.code != ExitOK {
			fmt.Fprintf(&script, "[exit code %d]\n", r.code)
		}
	}
	return script.String()
}

func goldenRun(t *testing.T, words []string) result {
	t.Helper()
	if words[0] != "top" || slices.Contains(words, "missing.pmt") {
		return run(t, words...)
	}
	if !slices.Contains(words, "--json") {
		return world{terminal: true, stdin: "q"}.run(t, words...)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, stderr := untilLine{stop: stop}, bytes.Buffer{}
	a := &App{In: strings.NewReader(""), Out: &out, Err: &stderr, IsTerminal: func(any) bool { return false }, Getenv: func(string) string { return "" }}
	code := a.Run(ctx, words)
	return result{code, out.String(), stderr.String()}
}

func goldenVerbs() (names []string) {
	for _, cmd := range visible((&App{Out: io.Discard, Err: io.Discard}).newRoot()) {
		names = append(names, cmd.Name())
	}
	return names
}

// TestGolden: every command writes what it wrote before, in text and in JSON; every
// exit code is reached. With -update it is what it writes now, to be looked at before
// it is committed.
func TestGolden(t *testing.T) {
	verbs := goldenVerbs()
	assert.ElementsMatch(t, verbs, slices.Collect(maps.Keys(goldens)), "each command has its golden file")
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*"))
	require.NoError(t, err)
	for _, file := range files {
		assert.Contains(t, verbs, strings.TrimSuffix(filepath.Base(file), ".txt"), "a golden file of no command")
	}
	home, err := os.Getwd()
	require.NoError(t, err)
	reached, ran := map[int]bool{}, 0
	for _, verb := range verbs {
		if testing.Short() && (verb == "crashtest" || verb == "demo") {
			continue // they are slow, and the short size of their own tests runs both
		}
		t.Run(verb, func(t *testing.T) {
			ran++
			results := goldenResults(t, verb, goldens[verb])
			t.Chdir(home)
			golden(t, filepath.Join("golden", verb+".txt"), transcript(verb, results))
			answersInBothForms(t, verb, results)
			for _, r := range results {
				reached[r.code] = true
			}
		})
	}
	for code := range kinds {
		assert.True(t, reached[code] || ran < len(verbs), "exit code %d", code) // with -run, some were left out
	}
}

// answersInBothForms: a command has a line that succeeds with text and one with JSON,
// and documents have a schema_version, errors among them.
func answersInBothForms(t *testing.T, verb string, results []goldenResult) {
	t.Helper()
	succeeded := map[bool]bool{}
	for _, r := range results {
		if r.json {
			for _, text := range []string{r.out, r.err} {
				var d struct {
					Version int `json:"schema_version"`
				}
				if text == "" {
					continue
				}
				require.NoError(t, json.Unmarshal([]byte(text), &d), text)
				assert.Positive(t, d.Version, text)
			}
		}
		ends := r.code == ExitOK || verb == "top" && r.code == ExitInterrupted
		if ends && strings.HasPrefix(r.line, verb+" ") {
			succeeded[r.json] = true
		}
	}
	assert.True(t, succeeded[false], "a line that succeeds with text")
	assert.True(t, succeeded[true], "a line that succeeds with JSON")
}

// TestProgressStaysOnStderr: --progress changes nothing of the answer or the exit
// code, and json is a document on each line.
func TestProgressStaysOnStderr(t *testing.T) {
	var slow []string
	for _, g := range groups() {
		for _, v := range g.verbs {
			if name, _, _ := strings.Cut(v.usage, " "); v.slow {
				slow = append(slow, name)
			}
		}
	}
	for _, verb := range slow {
		if testing.Short() && verb == "crashtest" {
			continue
		}
		t.Run(verb, func(t *testing.T) {
			commands := goldens[verb]
			if verb == "crashtest" {
				commands = commands[1:] // without the kills, which take long and have a display of their own
			}
			none, told := goldenResults(t, verb, commands, "--progress=none"), goldenResults(t, verb, commands, "--progress=json")
			lines := 0
			for i := range told {
				rest := ""
				for line := range strings.Lines(told[i].err) {
					if !strings.HasPrefix(line, `{"schema_version":1,"progress":"`) {
						rest += line
						continue
					}
					lines++
					var d struct {
						Version     int `json:"schema_version"`
						Progress    string
						Done, Total *int64
						Unit        string
					}
					decoder := json.NewDecoder(strings.NewReader(line))
					decoder.DisallowUnknownFields()
					require.NoError(t, decoder.Decode(&d))
					assert.NotNil(t, d.Done)
					assert.Contains(t, []string{"bytes", "items"}, d.Unit)
				}
				told[i].err = rest
				assert.NotContains(t, none[i].err, `"progress":`)
			}
			assert.Equal(t, transcript(verb, none), transcript(verb, told))
			assert.True(t, lines > 0 || verb == "count", "nothing was told") // count knows the answer of a table that was closed
		})
	}
}

// TestEveryExitCodeIsWrittenDown: in the help, the reference and the README.
func TestEveryExitCodeIsWrittenDown(t *testing.T) {
	text := map[string]string{"the help": exitCodes}
	for _, path := range []string{filepath.Join("docs", "pmemctl.md"), "README.md"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "..", "..", path))
		require.NoError(t, err)
		text[path] = string(content)
	}
	for where, content := range text {
		_, codes, found := strings.Cut(content, "Exit codes:")
		require.True(t, found, where)
		codes, _, _ = strings.Cut(codes, ".")
		for code := range kinds {
			assert.Regexp(t, `\b`+strconv.Itoa(code)+`\s+[a-zI]`, codes, "%s lists exit code %d", where, code)
		}
		assert.Regexp(t, `\b0\s+ok`, codes)
	}
}
