package internal_test

import (
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/trident-project/trident/internal/sourcetest"
	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	"github.com/trident-project/trident/proto/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	"github.com/trident-project/trident/proto/wire"
)

// These tests compare the SDK, which is a module of its own, with the rest of the tree.

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wireNames returns the values of the constants of proto/wire.
func wireNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, name := range sourcetest.Constants(t, "proto/wire/wire.go") {
		out[name] = true
	}
	return out
}

func TestHeadersAreSpelledOutInWireOnly(t *testing.T) {
	headers := wireNames(t)
	maps.DeleteFunc(headers, func(name string, _ bool) bool { return !strings.HasPrefix(name, "trident-") })
	sourcetest.SpelledOnlyIn(t, headers, "the constant of proto/wire", "proto/wire")
}

func TestEveryNameOfTheWireIsDocumented(t *testing.T) {
	pages := read(t, "docs/errors.md") + read(t, "docs/fleet.md")
	for name := range wireNames(t) {
		if !strings.Contains(pages, "`"+name+"`") {
			t.Errorf("docs/errors.md and docs/fleet.md lack `%s`", name)
		}
	}
}

func TestEveryCapabilityIsAnnounced(t *testing.T) {
	announced := wire.Capabilities(true)
	for name := range wireNames(t) {
		if !strings.HasPrefix(name, "trident-") && !slices.Contains(announced, name) {
			t.Errorf("Capabilities lacks %s", name)
		}
	}
}

func TestCapabilitiesInMemoryAreThoseThatAreDescribed(t *testing.T) {
	_, doc, _ := strings.Cut(read(t, "docs/errors.md"), "\n## Capabilities\n")
	var want []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(doc, -1) {
		want = append(want, row[1])
	}
	daemon := clienttest.New(clienttest.Config{})
	defer daemon.Close()
	c, err := client.Dial("memory", client.WithDialer(daemon.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	server, err := c.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, server.GetCapabilities()); diff != "" || len(want) == 0 {
		t.Errorf("-described +in memory:\n%s", diff)
	}
}

func TestEveryKindIsExportedAndCrossesTheWire(t *testing.T) {
	kinds := sourcetest.Constants(t, "proto/errkind/errkind.go")
	words := func(file string) string { return strings.Join(strings.Fields(read(t, file)), " ") }
	forPrograms, forTrident := words("proto/client/kinds.go"), words("internal/errkind/errkind.go")
	for name, value := range kinds {
		if !strings.Contains(forPrograms, " Kind"+name+" = errkind."+name+" ") {
			t.Errorf("proto/client/kinds.go does not export %s", name)
		}
		if !strings.Contains(forTrident, " "+name+" = errkind."+name+" ") {
			t.Errorf("internal/errkind/errkind.go lacks %s", name)
		}
		kind := errkind.Kind(value)
		if got := client.Kind(grpckind.Error(errkind.Errorf(kind, "x"), nil)); got != kind {
			t.Errorf("%s arrives as %s", kind, got)
		}
	}
	if client.Kind(nil) != "" || kinds["Internal"] != string(client.KindInternal) {
		t.Error("nil has a kind, or INTERNAL is not one")
	}
	if got := client.Kind(context.Canceled); got != client.KindCancelled {
		t.Errorf("a context that was cancelled is %s", got)
	}
}

// documentedCode returns the code of a kind as gRPC's own documents spell it.
func documentedCode(kind errkind.Kind) string {
	code := grpckind.Code(kind)
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(code.String(), "${1}_$2"))
}

func TestEveryKindIsDocumentedWithItsCode(t *testing.T) {
	doc := read(t, "docs/errors.md")
	for _, name := range sourcetest.Constants(t, "proto/errkind/errkind.go") {
		kind := errkind.Kind(name)
		if row := "\n| `" + name + "` | `" + documentedCode(kind) + "` | "; !strings.Contains(doc, row) {
			t.Errorf("docs/errors.md lacks%s", row)
		}
	}
}
