package wire_test

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

	"github.com/trident-project/trident/proto/wire"
)

// names reads the constants of wire.go.
func names(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "wire.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && lit.Value != `"slices"` {
			name, err := strconv.Unquote(lit.Value)
			if err != nil || out[name] {
				t.Errorf("%s is in wire.go twice, or is not a string: %v", lit.Value, err)
			}
			out[name] = true
		}
		return true
	})
	return out
}

func TestHeadersAreSpelledOutHereOnly(t *testing.T) {
	known := names(t)
	for _, top := range []string{"internal", "proto", "cmd"} {
		err := filepath.WalkDir(filepath.Join("../..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "e2e/foreign/") || strings.HasSuffix(path, "wire/wire.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for name := range known {
				if strings.HasPrefix(name, "trident-") && strings.Contains(string(text), strconv.Quote(name)) {
					t.Errorf("%s spells out the header %s: use the constant of proto/wire", path, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryNameIsDocumented(t *testing.T) {
	var pages string
	for _, page := range []string{"errors.md", "fleet.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		pages += string(text)
	}
	for name := range names(t) {
		if !strings.Contains(pages, "`"+name+"`") && name != wire.InstallMultiboot && name != wire.HeaderMultiboot {
			t.Errorf("docs/errors.md and docs/fleet.md lack `%s`", name)
		}
	}
}

// Every daemon has each capability but the one that does not work yet.
func TestEveryCapabilityIsAnnounced(t *testing.T) {
	announced := map[string]bool{wire.InstallMultiboot: true}
	for _, name := range wire.Capabilities(true) {
		announced[name] = true
	}
	for name := range names(t) {
		if !strings.HasPrefix(name, "trident-") && !announced[name] {
			t.Errorf("Capabilities lacks %s", name)
		}
	}
}
