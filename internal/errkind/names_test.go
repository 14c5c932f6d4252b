package errkind

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/sourcetest"
)

const namesFile = "internal/errkind/names.go"

// upstreamNames returns all names that upstream has.
func upstreamNames() map[string]bool {
	out := map[string]bool{}
	for _, c := range categories() {
		for _, v := range strings.Fields(c.variants) {
			out[v] = true
		}
	}
	return out
}

func TestUpstreamHasEveryNameThatTridentGives(t *testing.T) {
	upstreams := upstreamNames()
	for constant, name := range sourcetest.Constants(t, namesFile) {
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
	// systemdtest has calls of systemd, of which Reboot has the name of an error too.
	sourcetest.SpelledOnlyIn(t, upstreamNames(), "the constant of errkind", "internal/errkind", "internal/systemd/systemdtest")
	used := map[string]bool{}
	sourcetest.Product(t, func(file string, n ast.Node) {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			used[n.Sel.Name] = true
		case *ast.Ident:
			used[n.Name] = used[n.Name] || filepath.Base(file) == "nametable.go"
		}
	})
	for constant := range sourcetest.Constants(t, namesFile) {
		if !used[constant] {
			t.Errorf("nobody uses %s", constant)
		}
	}
}
