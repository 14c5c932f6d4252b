package client_test

import (
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/errkind/grpckind"
	"github.com/trident-project/trident/internal/sourcetest"
	"github.com/trident-project/trident/proto/client"
)

func TestEveryKindIsExportedAndCrossesTheWire(t *testing.T) {
	text, err := os.ReadFile("kinds.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := sourcetest.Constants(t, "internal/errkind/errkind.go")
	for name, value := range kinds {
		words := strings.Join(strings.Fields(string(text)), " ")
		if !strings.Contains(words, " Kind"+name+" = errkind."+name+" ") {
			t.Errorf("kinds.go does not export %s", name)
		}
		kind := errkind.Kind(value)
		if got := client.Kind(grpckind.Error(errkind.Errorf(kind, "x"), nil)); got != kind {
			t.Errorf("%s arrives as %s", kind, got)
		}
	}
	if client.Kind(nil) != "" || kinds["Internal"] != string(client.KindInternal) {
		t.Error("nil has a kind, or INTERNAL is not one")
	}
}
