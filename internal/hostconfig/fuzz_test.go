package hostconfig

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func FuzzParseRecorded(f *testing.F) {
	var more [][]byte
	for _, name := range []string{"canonical", "unknown"} {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		more = append(more, text)
	}
	hostconfigtest.Fuzz(f, func(t *testing.T, text []byte) {
		c, err := ParseRecorded(text)
		if err != nil {
			return
		}
		out := c.YAML()
		again, err := ParseRecorded(out)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, out)
		}
		if string(again.YAML()) != string(out) {
			t.Fatalf("not stable:\n%s", cmp.Diff(string(out), string(again.YAML())))
		}
	}, more...)
}
