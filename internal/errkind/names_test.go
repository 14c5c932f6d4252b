package errkind

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// ourNames reads the constants of names.go: their values, by their names.
func ourNames(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				out[spec.Names[0].Name], _ = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	if len(out) < 50 {
		t.Fatalf("names.go has the constants %v", out)
	}
	return out
}

func TestUpstreamHasEveryNameThatTridentGives(t *testing.T) {
	upstreams := map[string]bool{}
	for _, c := range categories() {
		for _, v := range strings.Fields(c.variants) {
			upstreams[v] = true
		}
	}
	for constant, name := range ourNames(t) {
		if constant != "Name"+name || !upstreams[name] {
			t.Errorf("%s is %q: the constant of a name that upstream has", constant, name)
		}
	}
	reference, err := os.ReadFile("../../../shared/reference/trident-upstream.md")
	if err != nil {
		t.Skipf("the reference of upstream is absent, so that the table cannot be compared with it: %v", err)
	}
	for name := range upstreams {
		if !strings.Contains(string(reference), name) {
			t.Errorf("the reference of upstream lacks %s", name)
		}
	}
}

// A name that another file spells out is one that nobody compares with upstream's.
func TestNamesAreSpelledOutInThisPackageOnlyAndAreUsed(t *testing.T) {
	names, used := map[string]bool{}, map[string]bool{}
	for _, c := range categories() {
		for _, v := range strings.Fields(c.variants) {
			names[v] = true
		}
	}
	for _, top := range []string{"../../internal", "../../proto", "../../cmd"} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || isAside(path) {
				return err
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if name, err := strconv.Unquote(n.Value); err == nil && names[name] && filepath.Dir(path) != "../../internal/errkind" {
						t.Errorf("%s spells out %s: use errkind.Name%s", fset.Position(n.Pos()), name, name)
					}
				case *ast.SelectorExpr:
					used[n.Sel.Name] = true
				case *ast.Ident:
					used[n.Name] = used[n.Name] || filepath.Base(path) == "nametable.go"
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for constant := range ourNames(t) {
		if !used[constant] {
			t.Errorf("nobody uses %s", constant)
		}
	}
}

// isAside reports whether a file is a test, a fake or generated.
func isAside(path string) bool {
	return strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") || strings.HasSuffix(filepath.Dir(path), "test")
}
