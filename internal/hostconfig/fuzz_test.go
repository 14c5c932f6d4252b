package hostconfig

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func seed(f *testing.F) {
	f.Helper()
	for _, name := range []string{"ten.yaml", "canonical.yaml", "unknown.yaml", "static/slots.yaml", "static/verity.yaml", "static/usr.yaml", "static/wrong.yaml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		"", "{}", "a: &a [*a]", "storage: {disks: []}", "os: {netplan: {}, modules: [{name: m, options: {}}]}\ninternalParams: {}", "os: {<<: {}}", "health: {checks: [{systemdServices: [a]}]}", "storage: {swap: [a], filesystems: [{mountPoint: /}]}",
		"os:\n  additionalFiles:\n  - destination: /x\n    content: |2-\n       a\n     b\n\n", "internalParams: {a: [1.50, 0x1, yes, ~, {}]}",
		"storage: {disks: [{id: d, device: /d, partitionTableType: gpt, partitions: [{id: p, size: grow}], adoptedPartitions: [{id: a, matchLabel: l}]}]}",
		"image: {url: 'file:///x', sha384: ignored}\nscripts: {preServicing: [{name: n, runOn: [all], content: 'x'}]}",
	} {
		f.Add([]byte(text))
	}
}

func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		c, r := Parse(text)
		if (c == nil) != (r.Err() != nil) {
			t.Fatalf("config %v, error %v", c, r.Err())
		}
		for _, x := range r {
			if x.Message == "" || x.Severity == "" || x.Severity == Error && x.Name == "" {
				t.Errorf("finding %+v", x)
			}
		}
		if c == nil {
			return
		}
		again, r := Parse(c.YAML())
		if again == nil {
			t.Fatalf("what was written is refused: %v\n%s", r, c.YAML())
		}
		if diff := cmp.Diff(c.Spec(), again.Spec()); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
		if string(again.YAML()) != string(c.YAML()) {
			t.Fatalf("not stable:\n%s\n%s", c.YAML(), again.YAML())
		}
	})
}

func FuzzParseRecorded(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text []byte) {
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
	})
}
