// Package sourcetest reads the Go sources of this module and of the SDK, for tests of names
// that code may spell out in one place only.
package sourcetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Root returns the root folder of the tree, whose module has the working directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		// The tests of other modules cannot import this package.
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("the working directory is not in a module")
		}
		dir = filepath.Dir(dir)
	}
}

// Constants returns the string constants of a file, whose path is below the root of the
// module: their values, by their names. The test fails if a value is there twice.
func Constants(t testing.TB, file string) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(Root(t), file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out, seen := map[string]string{}, map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if value, ok := text(spec.Values[0]); ok {
			if seen[value] {
				t.Errorf("%s has %q twice", file, value)
			}
			out[spec.Names[0].Name], seen[value] = value, true
		}
		return true
	})
	if len(out) == 0 {
		t.Fatalf("%s has no constants", file)
	}
	return out
}

// Product calls visit for each node of each file of the product, with the file's path
// below the root of the tree. Tests, generated files and modules of neither do not count.
func Product(t testing.TB, visit func(file string, n ast.Node)) {
	t.Helper()
	root := Root(t)
	for _, top := range []string{"cmd", "internal", "proto"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := d.Name()
			if d.IsDir() {
				// The SDK, proto, is a module too.
				if _, err := os.Stat(filepath.Join(path, "go.mod")); (err == nil && path != filepath.Join(root, top)) || name == "testdata" {
					return fs.SkipDir
				}
				return nil
			}
			if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".pb.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			below, err := filepath.Rel(root, path)
			ast.Inspect(file, func(n ast.Node) bool {
				visit(below, n)
				return true
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// SpelledOnlyIn fails the test for each string literal of the product that is one of
// names, but for those in folders. use says what to write there.
func SpelledOnlyIn(t testing.TB, names map[string]bool, use string, folders ...string) {
	t.Helper()
	Product(t, func(file string, n ast.Node) {
		if value, ok := text(n); ok && names[value] && !slices.Contains(folders, filepath.Dir(file)) {
			t.Errorf("%s spells out %q: use %s", file, value, use)
		}
	})
}

// text returns the value of a string literal.
func text(n ast.Node) (string, bool) {
	lit, ok := n.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(lit.Value)
	return value, err == nil
}
