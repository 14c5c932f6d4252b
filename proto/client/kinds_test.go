package client_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	"github.com/trident-project/trident/proto/client"
)

// exported reads which kinds kinds.go exports.
func exported(t *testing.T) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "kinds.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			of := spec.Values[0].(*ast.SelectorExpr).Sel.Name
			if spec.Names[0].Name != "Kind"+of {
				t.Errorf("%s is errkind.%s", spec.Names[0].Name, of)
			}
			out = append(out, of)
		}
		return true
	})
	return out
}

func TestEveryKindIsExportedAndCrossesTheWire(t *testing.T) {
	if got := exported(t); len(got) != len(errkind.All()) {
		t.Errorf("%d kinds are exported, want all %d", len(got), len(errkind.All()))
	}
	for _, kind := range errkind.All() {
		if got := client.Kind(grpckind.Error(errkind.Errorf(kind, "x"), nil)); got != kind {
			t.Errorf("%s arrives as %s", kind, got)
		}
	}
	if client.Kind(nil) != "" || !slices.Contains(errkind.All(), client.KindInternal) {
		t.Error("nil has a kind, or INTERNAL is not one")
	}
}
