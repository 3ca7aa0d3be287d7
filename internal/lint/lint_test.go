package lint

import (
	"bytes"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	module       = "pmemtable"
	maxFileLines = 500
)

// imports says which packages of the project the files of a directory and
// below may import, tests aside; the entry with the longest path decides.
// "x/..." is everything below x. A directory may always import from its own
// subtree. Where no entry fits, all but table is allowed.
var imports = map[string][]string{
	"amd64":           {},
	"arm64":           {},
	"internal/layout": {},
	"flush":           {"amd64", "arm64"},
	"pmem":            {"flush", "internal/layout", "internal/race"},
	"recovery":        {"pmem", "internal/..."},
	"table":           {"recovery", "pmem", "flush", "internal/..."},

	// These stand above the table.
	"recovery/crashtest": {"..."},
	"cmd":                {"..."},
	"examples":           {"..."},
}

// libraries are the directories that users link in; they depend on little.
var libraries = []string{"amd64", "arm64", "flush", "internal", "pmem", "recovery", "table"}

var libraryMayImport = []string{
	"github.com/edsrzf/mmap-go",
	"github.com/zeebo/xxh3",
	"golang.org/x/sys",
}

// mayUseUnsafe lists directories, without what is below them, and files.
var mayUseUnsafe = []string{"amd64", "arm64", "flush", "internal/layout", "pmem/view.go", "pmem/view_linux.go"}

// file is what the rules look at.
type file struct {
	path      string // from the root, with slashes
	nested    bool   // in a module of its own
	imports   []string
	lines     int
	formatted bool
}

func (f file) dir() string { return path.Dir(f.path) }

func (f file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// load reads the Go files of the tree, and any go.work. It parses them
// itself since `go list` would show the files of one platform only.
func load(tree fs.FS) ([]file, error) {
	var files []file
	nested := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			base := path.Base(name)
			if name != "." && (base[0] == '.' || base == "testdata") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(tree, path.Join(name, "go.mod")); err == nil && name != "." {
				nested[name] = true
			}
			nested[name] = nested[name] || nested[path.Dir(name)]
			return nil
		}
		if path.Base(name) != "go.work" && path.Ext(name) != ".go" {
			return nil
		}
		f, err := read(tree, name)
		f.nested = nested[path.Dir(name)]
		files = append(files, f)
		return err
	})
	return files, err
}

func read(tree fs.FS, name string) (file, error) {
	f := file{path: name}
	source, err := fs.ReadFile(tree, name)
	if err != nil || path.Ext(name) != ".go" {
		return f, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly)
	if err != nil {
		return f, err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return f, err
		}
		f.imports = append(f.imports, imported)
	}
	f.lines = bytes.Count(source, []byte("\n"))
	formatted, err := format.Source(source)
	f.formatted = bytes.Equal(source, formatted)
	return f, err
}

// check returns a sentence for every breach of a rule.
func check(files []file) (breaches []string) {
	for _, f := range files {
		breach := func(format string, args ...any) {
			breaches = append(breaches, f.path+": "+fmt.Sprintf(format, args...))
		}
		if path.Base(f.path) == "go.work" {
			breach("no workspace may be in the repository; modules find each other by replace")
			continue
		}
		if !f.formatted {
			breach("not formatted by gofmt")
		}
		if f.test() {
			continue
		}
		if f.lines > maxFileLines {
			breach("%d lines, more than %d", f.lines, maxFileLines)
		}
		if f.nested { // free in what it depends on
			if slices.Contains(f.imports, "unsafe") {
				breach("imports unsafe: no module but the library's has a room for it")
			}
			continue
		}
		for _, imported := range f.imports {
			if why := forbidden(f, imported); why != "" {
				breach("imports %s: %s", imported, why)
			}
		}
	}
	return breaches
}

// forbidden tells why f may not import a package; "" if it may.
func forbidden(f file, imported string) string {
	if imported == "unsafe" {
		if !slices.Contains(mayUseUnsafe, f.dir()) && !slices.Contains(mayUseUnsafe, f.path) {
			return "allowed in " + strings.Join(mayUseUnsafe, ", ") + " only"
		}
		return ""
	}
	if target, ok := strings.CutPrefix(imported, module+"/"); ok {
		return wrongDirection(f.dir(), target)
	}
	if !inStandardLibrary(imported) && below(f.dir(), libraries) && !below(imported, libraryMayImport) {
		return "the library depends on " + strings.Join(libraryMayImport, ", ") + " only"
	}
	return ""
}

// inStandardLibrary: only modules from elsewhere have a dot in the first
// element of their path.
func inStandardLibrary(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// wrongDirection tells why the package in directory dir may not import target,
// both relative to the root; "" if it may.
func wrongDirection(dir, target string) string {
	owner := ""
	for candidate := range imports {
		if below(dir, []string{candidate}) && len(candidate) > len(owner) {
			owner = candidate
		}
	}
	if owner == "" {
		if target == "table" {
			return "only commands, examples and tests stand above the table"
		}
		return ""
	}
	if below(target, []string{owner}) {
		return ""
	}
	for _, pattern := range imports[owner] {
		prefix, subtree := strings.CutSuffix(pattern, "...")
		if target == pattern || subtree && strings.HasPrefix(target, prefix) {
			return ""
		}
	}
	return fmt.Sprintf("imports run downwards: %s may import %q", owner, imports[owner])
}

// below tells whether name is one of dirs or lies below one.
func below(name string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return name == dir || strings.HasPrefix(name, dir+"/")
	})
}

func TestHouseRules(t *testing.T) {
	files, err := load(os.DirFS("../.."))
	require.NoError(t, err)
	found := func(name string) bool {
		return slices.ContainsFunc(files, func(f file) bool { return f.path == name })
	}
	require.True(t, found("internal/lint/doc.go") && found("flush/flush.go"), "the tree was read")
	for _, breach := range check(files) {
		t.Error(breach)
	}
}

// source makes a file that imports.
func source(imported ...string) string {
	var b strings.Builder
	b.WriteString("package p\n")
	for i, name := range imported {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "import _ %q\n", name)
	}
	return b.String()
}

func long(lines int) string { return "package p\n" + strings.Repeat("\n// x\n", lines/2) }

// TestRulesHold has what each rule allows, beside what it forbids.
func TestRulesHold(t *testing.T) {
	for name, test := range map[string]struct {
		path, source string
		want         string // part of the one breach; "": none
	}{
		"flush down":             {"flush/a.go", source("pmemtable/amd64", "pmemtable/arm64", "golang.org/x/sys/cpu"), ""},
		"flush sideways":         {"flush/a.go", source("pmemtable/internal/layout"), "imports run downwards"},
		"flush up":               {"flush/a.go", source("pmemtable/pmem"), "imports run downwards"},
		"amd64 up":               {"amd64/a.go", source("pmemtable/flush"), "imports run downwards"},
		"arm64 sideways":         {"arm64/a.go", source("pmemtable/amd64"), "imports run downwards"},
		"layout alone":           {"internal/layout/a.go", source("pmemtable/internal/race"), "imports run downwards"},
		"pmem down":              {"pmem/a.go", source("pmemtable/flush", "pmemtable/internal/race", "pmemtable/internal/layout"), ""},
		"pmem other internal":    {"pmem/a.go", source("pmemtable/internal/other"), "imports run downwards"},
		"pmem past flush":        {"pmem/a.go", source("pmemtable/amd64"), "imports run downwards"},
		"recovery down":          {"recovery/a.go", source("pmemtable/pmem", "pmemtable/internal/any"), ""},
		"recovery past pmem":     {"recovery/a.go", source("pmemtable/flush"), "imports run downwards"},
		"recovery up":            {"recovery/a.go", source("pmemtable/table"), "imports run downwards"},
		"recovery own":           {"recovery/a.go", source("pmemtable/recovery/check"), ""},
		"crash tests above":      {"recovery/crashtest/a.go", source("pmemtable/table", "pmemtable/pmem"), ""},
		"table down":             {"table/a.go", source("pmemtable/recovery", "pmemtable/pmem", "pmemtable/flush", "pmemtable/internal/layout"), ""},
		"table past flush":       {"table/a.go", source("pmemtable/amd64"), "imports run downwards"},
		"table to command":       {"table/a.go", source("pmemtable/cmd/pmemctl"), "imports run downwards"},
		"command":                {"cmd/pmemctl/a.go", source("pmemtable/table", "github.com/spf13/cobra"), ""},
		"example":                {"examples/first/a.go", source("pmemtable/table"), ""},
		"others not above table": {"internal/x/a.go", source("pmemtable/table"), "stand above the table"},
		"test above table":       {"pmem/a_test.go", source("pmemtable/table", "unsafe", "github.com/stretchr/testify/assert"), ""},
		"same prefix, other":     {"tables/a.go", source("pmemtable/table"), "stand above the table"},
		"unsafe in view":         {"pmem/view.go", source("unsafe"), ""},
		"unsafe beside view":     {"pmem/pool.go", source("unsafe"), "allowed in"},
		"unsafe in table":        {"table/a.go", source("unsafe"), "allowed in"},
		"unsafe in layout":       {"internal/layout/a.go", source("unsafe"), ""},
		"unsafe below flush":     {"flush/x/a.go", source("unsafe"), "allowed in"},
		"unsafe in command":      {"cmd/pmemctl/a.go", source("unsafe"), "allowed in"},
		"allowed dependencies":   {"table/a.go", source("github.com/zeebo/xxh3", "github.com/edsrzf/mmap-go", "golang.org/x/sys/unix", "net/http"), ""},
		"new dependency":         {"table/a.go", source("github.com/spf13/cobra"), "depends on"},
		"other x repository":     {"internal/x/a.go", source("golang.org/x/system"), "depends on"},
		"workspace":              {"go.work", "go 1.26\n", "workspace"},
		"workspace of a module":  {"bench/go.work", "go 1.26\n", "workspace"},
		"long enough":            {"table/a.go", long(maxFileLines - 1), ""},
		"too long":               {"table/a.go", long(maxFileLines + 1), "lines"},
		"long test":              {"table/a_test.go", long(2 * maxFileLines), ""},
		"not formatted":          {"table/a.go", "package p\nvar  x int\n", "gofmt"},
		"test not formatted":     {"table/a_test.go", "package p\nvar  x int\n", "gofmt"},
		"nested module free":     {"bench/a.go", source("pmemtable/table", "github.com/any/thing"), ""},
		"nested module unsafe":   {"bench/deep/a.go", source("unsafe"), "imports unsafe"},
		"nested module long":     {"bench/a.go", long(maxFileLines + 1), "lines"},
		"test data free":         {"table/testdata/a.go", "not Go", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{
				"go.mod":       {Data: []byte("module pmemtable\n")},
				"bench/go.mod": {Data: []byte("module bench\n")},
				test.path:      {Data: []byte(test.source)},
			}
			files, err := load(tree)
			require.NoError(t, err)
			breaches := check(files)
			if test.want == "" {
				assert.Empty(t, breaches)
				return
			}
			require.Len(t, breaches, 1)
			assert.Contains(t, breaches[0], test.path)
			assert.Contains(t, breaches[0], test.want)
		})
	}
}

func TestBrokenSourceIsAnError(t *testing.T) {
	_, err := load(fstest.MapFS{"table/a.go": {Data: []byte("not Go")}})
	assert.Error(t, err)
}
