package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// declared returns what a Go file declares at its top level: functions, types, variables
// and constants by name, methods and fields as Type.Name.
func declared(tree fs.FS, name string) (map[string]bool, error) {
	source, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[receiver(d)+d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				addSpec(names, spec)
			}
		}
	}
	return names, nil
}

// receiver returns "Type." for a method, also of a generic type.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name + "."
		default:
			return ""
		}
	}
}

func addSpec(names map[string]bool, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			names[n.Name] = true
		}
	case *ast.TypeSpec:
		names[s.Name.Name] = true
		if t, ok := s.Type.(*ast.StructType); ok {
			for _, f := range t.Fields.List {
				for _, n := range f.Names {
					names[s.Name.Name+"."+n.Name] = true
				}
			}
		}
	}
}

var readingRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\|")

// checkReading returns a sentence for every row of a reading list that names what is not
// in its file, and how many rows there are.
func checkReading(tree fs.FS, text string) (rows int, breaches []string) {
	for _, m := range readingRow.FindAllStringSubmatch(text, -1) {
		rows++
		names, err := declared(tree, m[2])
		if err != nil {
			breaches = append(breaches, err.Error())
		} else if !names[m[1]] {
			breaches = append(breaches, m[2]+" has no "+m[1])
		}
	}
	return rows, breaches
}

func TestReadingTheSource(t *testing.T) {
	tree := os.DirFS("../..")
	text, err := fs.ReadFile(tree, "docs/reading-the-source.md")
	require.NoError(t, err)
	rows, breaches := checkReading(tree, string(text))
	assert.Empty(t, breaches)
	assert.Equal(t, strings.Count(string(text), "\n| `"), rows, "a row that is not understood")
	assert.Greater(t, rows, 40)
}

var apiName = regexp.MustCompile("`(table\\.|(?:Table|Map|MustMap|Snapshot|Batch|Options|Stats)\\.)([A-Z]\\w*)")

// TestNamesOfTheAPI: what the documents call table.X, or a method or field of its types,
// package table has.
func TestNamesOfTheAPI(t *testing.T) {
	tree := os.DirFS("../..")
	api := map[string]bool{}
	files, err := fs.Glob(tree, "table/*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		names, err := declared(tree, name)
		require.NoError(t, err)
		for n := range names {
			api[n] = true
		}
	}
	documents, err := fs.Glob(tree, "docs/*.md")
	require.NoError(t, err)
	count := 0
	for _, document := range append(documents, "README.md") {
		text, err := fs.ReadFile(tree, document)
		require.NoError(t, err)
		for _, m := range apiName.FindAllStringSubmatch(string(text), -1) {
			count++
			name := strings.TrimPrefix(m[1], "table.") + m[2]
			assert.True(t, api[name], "%s names `%s%s`, which is not there", path.Base(document), m[1], m[2])
		}
	}
	assert.Greater(t, count, 100)
}

func TestDeclared(t *testing.T) {
	tree := fstest.MapFS{"p/a.go": {Data: []byte(`package p
type T[K any] struct{ Field, Other int }
func (t *T[K]) Method() {}
type U struct{}
func (U) Value() {}
func Function() {}
const Constant = 1
var Variable int
`)}}
	names, err := declared(tree, "p/a.go")
	require.NoError(t, err)
	for _, name := range []string{"T", "T.Field", "T.Other", "T.Method", "U.Value", "Function", "Constant", "Variable"} {
		assert.True(t, names[name], name)
	}
	assert.False(t, names["Method"])
	rows, breaches := checkReading(tree, "| `T.Method` | `p/a.go` | x |\n| `T.Gone` | `p/a.go` | x |\n| `F` | `p/gone.go` | x |\n")
	assert.Equal(t, 3, rows)
	require.Len(t, breaches, 2)
	assert.Contains(t, breaches[0], "T.Gone")
}

var testName = regexp.MustCompile("`(Test[A-Z]\\w*)`")

// TestNamesOfTests: the tests that the limits are shown by.
func TestNamesOfTests(t *testing.T) {
	tree := os.DirFS("../..")
	tests := map[string]bool{}
	for _, pattern := range []string{"table/*_test.go", "pmem/*_test.go", "contrib/datastore/*_test.go"} {
		files, err := fs.Glob(tree, pattern)
		require.NoError(t, err)
		for _, name := range files {
			names, err := declared(tree, name)
			require.NoError(t, err)
			for n := range names {
				tests[n] = true
			}
		}
	}
	text, err := fs.ReadFile(tree, "docs/limits.md")
	require.NoError(t, err)
	named := testName.FindAllStringSubmatch(string(text), -1)
	assert.Greater(t, len(named), 10)
	for _, m := range named {
		assert.True(t, tests[m[1]], "there is no %s", m[1])
	}
}
