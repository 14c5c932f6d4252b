package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/hostconfig/schema"
)

func TestTheReferenceInTheTreeIsOfTheTypesInTheTree(t *testing.T) {
	t.Chdir("../..")
	dir := t.TempDir()
	if err := run([]string{"host-configuration", dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host-configuration.md", "host-configuration.schema.json"} {
		made, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join("docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(kept), string(made)); diff != "" {
			t.Errorf("docs/%s is not up to date: make generate (-tree +made):\n%.2000s", name, diff)
		}
	}
}

func TestEveryKeyOfTheHostConfigurationIsDescribed(t *testing.T) {
	comments, err := readComments("../../internal/hostconfig")
	if err != nil {
		t.Fatal(err)
	}
	root := schema.Document(comments)
	for _, mapping := range append(root.Defs, schema.Property{Name: "Spec", Schema: root}) {
		if mapping.Schema.Description == "" {
			t.Errorf("%s has no comment", mapping.Name)
		}
		for _, key := range mapping.Schema.Properties {
			if first, _, _ := strings.Cut(key.Schema.Description, "\n"); !strings.HasSuffix(first, ".") {
				t.Errorf("%s of %s has no sentence: %q", key.Name, mapping.Name, first)
			}
		}
	}
}

func TestExamplesOnTheReferencePageAreTaken(t *testing.T) {
	text, err := os.ReadFile("host-configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(text), "```yaml\n")[1:]
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, example := range examples {
		example, _, _ = strings.Cut(example, "```")
		if strings.Count(example, "\n") == 1 { // the line for editors alone
			continue
		}
		if c, r := hostconfig.Parse([]byte(example), rules.Check); c == nil || len(r) > 0 {
			t.Errorf("%v in:\n%s", r, example)
		}
	}
}
