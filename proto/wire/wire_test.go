package wire_test

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/sourcetest"
	"github.com/trident-project/trident/proto/wire"
)

// names returns the values of the constants of wire.go.
func names(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, name := range sourcetest.Constants(t, "proto/wire/wire.go") {
		out[name] = true
	}
	return out
}

func TestHeadersAreSpelledOutHereOnly(t *testing.T) {
	headers := names(t)
	maps.DeleteFunc(headers, func(name string, _ bool) bool { return !strings.HasPrefix(name, "trident-") })
	sourcetest.SpelledOnlyIn(t, headers, "the constant of proto/wire", "proto/wire")
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
		if !strings.Contains(pages, "`"+name+"`") {
			t.Errorf("docs/errors.md and docs/fleet.md lack `%s`", name)
		}
	}
}

func TestEveryCapabilityIsAnnounced(t *testing.T) {
	announced := map[string]bool{}
	for _, name := range wire.Capabilities(true) {
		announced[name] = true
	}
	for name := range names(t) {
		if !strings.HasPrefix(name, "trident-") && !announced[name] {
			t.Errorf("Capabilities lacks %s", name)
		}
	}
}
