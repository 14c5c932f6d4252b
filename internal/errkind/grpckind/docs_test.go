package grpckind_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	"github.com/trident-project/trident/internal/sourcetest"
)

// documented is a code as gRPC's own documents spell it.
func documented(kind errkind.Kind) string {
	switch s := grpckind.Code(kind).String(); s {
	case "Canceled":
		return "CANCELLED"
	default:
		var out strings.Builder
		for i, r := range s {
			if i > 0 && r >= 'A' && r <= 'Z' {
				out.WriteByte('_')
			}
			out.WriteRune(r)
		}
		return strings.ToUpper(out.String())
	}
}

func TestEveryKindIsDocumentedWithItsCode(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sourcetest.Constants(t, "internal/errkind/errkind.go") {
		kind := errkind.Kind(name)
		if row := fmt.Sprintf("\n| `%s` | `%s` | ", kind, documented(kind)); !strings.Contains(string(doc), row) {
			t.Errorf("docs/errors.md lacks%s", row)
		}
	}
}
