package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func none(string) ([]byte, error) { return nil, os.ErrNotExist }

// texts returns what an SVG image says, and fails if it is not well-formed.
func texts(t *testing.T, svg []byte) string {
	t.Helper()
	var out strings.Builder
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			out.WriteString(strings.TrimSpace(string(text)) + "\n")
		}
	}
}

func TestAPictureSaysAllThatItsTextSays(t *testing.T) {
	svg, err := draw("title A <title>\nlane a left & right\nlane b B\n# a comment\na: acts\na > b: asks\n--- later\n", none)
	if err != nil {
		t.Fatal(err)
	}
	got := texts(t, svg)
	for _, want := range []string{"A <title>", "left & right", "acts", "asks", "later"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("%q is not in the picture, which says:\n%s", want, got)
		}
	}
	if strings.Contains(got, "comment") {
		t.Error("a comment is in the picture")
	}
}

func TestATextThatCannotBeDrawnIsRefusedByLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "neither lanes nor bands",
		"lane a":                 `line 1: lane "a" has no text`,
		"lane a A\nlane a B":     `line 2: lane "a" is defined twice`,
		"lane a A\na > c: asks":  `line 2: unknown lane "c"`,
		"lane a A\nnonsense":     `line 2: unknown directive "nonsense"`,
		"bands nowhere":          "line 1: file does not exist",
		"title x\n\nbands exist": "no table of bands",
	} {
		_, err := draw(text, func(name string) ([]byte, error) {
			if name == "exist" {
				return []byte("no table"), nil
			}
			return nil, os.ErrNotExist
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestTheBandsAreThoseOfTheMap(t *testing.T) {
	page, err := os.ReadFile("../../internal/README.md")
	if err != nil {
		t.Fatal(err)
	}
	bands, err := readBands(string(page))
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]string{}
	for _, b := range bands {
		for _, p := range b.packages {
			drawn[p] = b.name
		}
	}
	for pkg, want := range map[string]string{"cli": "edges", "operation": "engine", "hostconfig": "domain", "linux/gpt": "machine", "errkind": "words", "e2e": ""} {
		if drawn[pkg] != want {
			t.Errorf("%s is in the band %q, want %q", pkg, drawn[pkg], want)
		}
	}
}

func TestThePicturesOfTheDocumentationAreUpToDate(t *testing.T) {
	t.Chdir("../..")
	names, err := filepath.Glob("docs/pictures/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatalf("pictures: %v, %v", names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := draw(string(text), os.ReadFile)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(strings.TrimSuffix(name, ".txt") + ".svg"); err != nil || string(got) != string(want) {
			t.Errorf("%s has changed since its picture was drawn (%v): make generate", name, err)
		}
	}
}
