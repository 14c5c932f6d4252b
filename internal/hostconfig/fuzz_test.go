package hostconfig

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/linux/damage"
)

// fuzzTexts has a target tried with texts: a long one, of which bytes are edited,
// and a short one behind it. A long text as a whole would take the fuzzer a minute
// each time that it finds something new: it tries to leave out each range of bytes.
func fuzzTexts(f *testing.F, target func(t *testing.T, text []byte), more ...[]byte) {
	f.Helper()
	bases := append([][]byte{{}}, more...)
	for _, name := range []string{"ten.yaml", "canonical.yaml", "unknown.yaml", "static/slots.yaml", "static/verity.yaml", "static/usr.yaml", "static/wrong.yaml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		bases = append(bases, text)
	}
	for base := range bases {
		f.Add(uint8(base), []byte{}, []byte{})
		f.Add(uint8(base), damage.At(100, '~'), []byte("os: {}\n"))
	}
	for _, text := range []string{
		"", "{}", "a: &a [*a]", "storage: {disks: []}", "os: {netplan: {}, modules: [{name: m, options: {}}]}\ninternalParams: {}", "os: {<<: {}}", "health: {checks: [{systemdServices: [a]}]}", "storage: {swap: [a], filesystems: [{mountPoint: /}]}",
		"os:\n  additionalFiles:\n  - destination: /x\n    content: |2-\n       a\n     b\n\n", "internalParams: {a: [1.50, 0x1, yes, ~, {}]}",
		"storage: {disks: [{id: d, device: /d, partitionTableType: gpt, partitions: [{id: p, size: grow}], adoptedPartitions: [{id: a, matchLabel: l}]}]}",
		"image: {url: 'file:///x', sha384: ignored}\nscripts: {preServicing: [{name: n, runOn: [all], content: 'x'}]}",
	} {
		f.Add(uint8(0), []byte{}, []byte(text))
	}
	f.Fuzz(func(t *testing.T, base uint8, edits, text []byte) {
		if len(text) < 1<<10 {
			target(t, append(damage.Apply(bases[int(base)%len(bases)], edits), text...))
		}
	})
}

func FuzzParse(f *testing.F) {
	fuzzTexts(f, func(t *testing.T, text []byte) {
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
	fuzzTexts(f, func(t *testing.T, text []byte) {
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
