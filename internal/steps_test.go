package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A step without an Undo, or without a Do, says why in a comment on its line or on
// the line above it.
func TestAStepWithoutUndoSaysWhy(t *testing.T) {
	steps := 0
	for _, top := range []string{"servicing", "selfservice"} {
		err := filepath.WalkDir(top, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			set := token.NewFileSet()
			src, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			f, err := parser.ParseFile(set, name, src, 0)
			if err != nil {
				return err
			}
			lines := strings.Split("\n"+string(src), "\n") // by number, from 1
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				has := map[string]bool{}
				text := ""
				for _, e := range lit.Elts {
					kv, ok := e.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					key, _ := kv.Key.(*ast.Ident)
					value, _ := kv.Value.(*ast.Ident)
					if key != nil && (value == nil || value.Name != "nil") {
						has[key.Name] = true
					}
					if s, ok := kv.Value.(*ast.BasicLit); ok && s.Kind == token.STRING {
						text = s.Value
					}
				}
				if !has["Name"] || text == "" || !has["Do"] && !has["Undo"] {
					return true
				}
				steps++
				line := set.Position(lit.Pos()).Line
				said := strings.Contains(lines[line], "// ") || strings.HasPrefix(strings.TrimSpace(lines[line-1]), "// ")
				if !said && !(has["Do"] && has["Undo"]) {
					t.Errorf("%s: step %s has no Do or no Undo, and no comment says why", set.Position(lit.Pos()), text)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if steps < 40 {
		t.Errorf("%d steps were found: the lists look different now", steps)
	}
}
