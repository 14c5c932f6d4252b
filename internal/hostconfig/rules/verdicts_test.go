package rules

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	cmdline "flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
)

var verdictsFile = cmdline.String("verdicts", "../../../../shared/testdata/hostconfig-verdicts.jsonl.gz", "documents with the verdict of upstream Trident")

// verdict is a document and what upstream Trident says of it: Name is "" when it accepts it.
type verdict struct{ ID, Verdict, Name, YAML string }

// outcome is what Parse says, in the same words: the names of all faults.
func outcome(text string) (names []string, report hostconfig.Report) {
	_, report = parse(text)
	for _, f := range report {
		name := strings.TrimSuffix(f.Name+"/"+f.Detail, "/")
		if f.Name == hostconfig.NameParse {
			name = "ParseHostConfigurationFile" // upstream read a file
		}
		if f.Severity == hostconfig.Error && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, report
}

const parseName = "ParseHostConfigurationFile"

// difference is one way in which we differ from upstream on purpose. The page
// docs/host-configuration-differences.md tells people of each under its title.
type difference struct {
	title  string
	reason string
	// has reports whether a document, with our report on it, has what this is about.
	has func(d judged) bool
	// Upstream's names for such documents; "" is that it accepts them.
	upstream []string
	// Ours; nil is any.
	ours []string
}

func differences() []difference {
	return []difference{
		{
			title:  "No storage section",
			reason: "a host that was installed by other means, or an update that leaves storage as it is, needs none",
			has: func(d judged) bool {
				return d.storage == nil || form.IsNull(d.storage) || len(d.storage.Content) == 0 || d.hasOnly("raid")
			},
			upstream: []string{"DatastorePathNotInKnownVolume", "ExpectedMountPointNotFound"},
		},
		{
			title:    "Numbers and booleans as text",
			reason:   "upstream takes them as text in most places, and not in scripts, health checks and short forms; here they are text in all places",
			has:      func(d judged) bool { return d.any(isNumber) },
			upstream: []string{parseName},
		},
		{
			title:  "Schemes of URLs",
			reason: "no version of Trident fetches by them, so that the servicing would fail later",
			has:    func(d judged) bool { return d.reports("has the scheme") },
			ours:   []string{parseName},
		},
		{
			title:  "Null as text",
			reason: "nobody means the word null; where text may be left out, null leaves it out",
			has:    func(d judged) bool { return d.any(func(_ string, n *yaml.Node) bool { return form.IsNull(n) }) },
		},
		{
			title:  `".." in paths`,
			reason: "such a path is the one that the kernel finds, and not another file system",
			has:    func(d judged) bool { return d.any(func(_ string, n *yaml.Node) bool { return hasDotDot(n.Value) }) },
		},
		{
			title:  "Empty ids",
			reason: "an id is what faults and plans are told by",
			has: func(d judged) bool {
				return d.any(func(key string, n *yaml.Node) bool { return key == "id" && n.Value == "" })
			},
			ours: []string{"InvalidStorageGraph/BasicCheckFailed"},
		},
		{
			title:    "RAID 6 of fewer than four devices",
			reason:   "the kernel makes no such array, and the disks would be lost by then",
			has:      func(d judged) bool { return d.reports("raid6 needs at least 4") },
			upstream: []string{""},
			ours:     []string{"InvalidStorageGraph/InvalidTargets"},
		},
		{
			title:  "Both ro and rw",
			reason: "the last of them counts for mount(8)",
			has: func(d judged) bool {
				return d.any(func(_ string, n *yaml.Node) bool { return hasBoth(n.Value, "ro", "rw") })
			},
		},
		{
			title:  "Sizes of more than 16 EiB",
			reason: "upstream counts them modulo 2^64, and would make a partition of another size",
			has:    func(d judged) bool { return d.reports("more bytes than can be counted") },
		},
		{
			title:  "Limits on a document",
			reason: "the daemon runs as root and reads documents of others: it bounds what one costs",
			has: func(d judged) bool {
				return d.reports("nested more than") || d.reports("depth") || d.reports("a document has at most")
			},
			ours: []string{parseName},
		},
	}
}

// judged is a document as it is written, with our report on it.
type judged struct {
	root, storage *yaml.Node
	texts         map[string][]*yaml.Node // the values of keys that want text, by key; items of lists under the key of the list
	report        hostconfig.Report
}

func look(text string, report hostconfig.Report) judged {
	d := judged{texts: map[string][]*yaml.Node{}, report: report}
	var document yaml.Node
	if err := yaml.Load([]byte(text), &document, yaml.WithV4Defaults(), yaml.WithUniqueKeys(false)); err == nil && len(document.Content) == 1 {
		root := document.Content[0]
		d.root, d.storage = root, lookup(root, "storage")
		d.collect(root, reflect.TypeFor[hostconfig.Spec](), "", 0)
	}
	return d
}

// lookup returns the value of key in the mapping n, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// collect finds the values in n, which t is decoded from, that want text.
func (d judged) collect(n *yaml.Node, t reflect.Type, key string, depth int) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if depth > 12 {
		return
	}
	if t == reflect.TypeFor[hostconfig.HealthCheck]() {
		t = reflect.TypeFor[hostconfig.Script]()
		if lookup(n, "systemdServices") != nil {
			t = reflect.TypeFor[hostconfig.SystemdCheck]()
		}
	}
	switch {
	case n.Kind == yaml.ScalarNode && (t.Kind() == reflect.String || form.Short(t) != ""):
		d.texts[key] = append(d.texts[key], n)
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			d.collect(item, t.Elem(), key, depth+1)
		}
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String && n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			d.collect(n.Content[i], t.Elem(), key, depth+1)
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		for _, m := range form.Members(t) {
			if v := lookup(n, m.Key); v != nil {
				d.collect(v, t.Field(m.Index).Type, m.Key, depth+1)
			}
		}
	}
}

func (d judged) any(is func(key string, n *yaml.Node) bool) bool {
	for key, nodes := range d.texts {
		if slices.ContainsFunc(nodes, func(n *yaml.Node) bool { return is(key, n) }) {
			return true
		}
	}
	return false
}

func (d judged) reports(text string) bool {
	return slices.ContainsFunc(d.report, func(f hostconfig.Finding) bool {
		return f.Severity == hostconfig.Error && strings.Contains(f.Message, text)
	})
}

// hasOnly reports whether storage has one key, and nothing below it.
func (d judged) hasOnly(key string) bool {
	v := lookup(d.storage, key)
	return v != nil && len(d.storage.Content) == 2 && len(v.Content) == 0
}

func isNumber(_ string, n *yaml.Node) bool {
	switch form.KindOf(n) {
	case form.Int, form.Float, form.Bool:
		return true
	}
	return form.Plain(n) && slices.Contains([]string{".inf", ".nan"}, strings.ToLower(strings.TrimLeft(n.Value, "+-")))
}

func hasBoth(options, a, b string) bool {
	list := strings.Split(options, ",")
	return slices.Contains(list, a) && slices.Contains(list, b)
}

// explained is the difference that v is an instance of, or nil.
func explained(v verdict, ours []string, report hostconfig.Report) *difference {
	d := look(v.YAML, report)
	for _, known := range differences() {
		fits := func(allowed []string, names ...string) bool {
			return allowed == nil || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(allowed, n) })
		}
		if len(ours) == 0 {
			ours = []string{""}
		}
		if fits(known.upstream, v.Name) && fits(known.ours, ours...) && known.has(d) {
			return &known
		}
	}
	return nil
}

func readVerdicts(t *testing.T) []verdict {
	t.Helper()
	file, err := os.Open(*verdictsFile)
	if err != nil {
		t.Skipf("no verdicts of upstream Trident to compare with: %v", err)
	}
	defer file.Close()
	text, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []verdict
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var v verdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// A document of which upstream Trident says something else than we do has one of
// the known differences. The log has the agreement, by verdict and by the name
// of the fault: every fault is reported here, and upstream stops at the first.
func TestTheVerdictIsUpstreamsButForKnownDifferences(t *testing.T) {
	t.Parallel()
	verdicts := readVerdicts(t)
	sameVerdict, sameName, unexplained := 0, 0, 0
	byTitle, all, same := map[string]int{}, map[string]int{}, map[string]int{}
	for _, v := range verdicts {
		ours, report := outcome(v.YAML)
		verdictAgrees := (v.Verdict == "accept") == (len(ours) == 0)
		nameAgrees := verdictAgrees && (len(ours) == 0 || slices.Contains(ours, v.Name))
		name := cmp.Or(v.Name, "(accepted)")
		all[name]++
		if verdictAgrees {
			sameVerdict++
		}
		if nameAgrees {
			sameName++
			same[name]++
			continue
		}
		if known := explained(v, ours, report); known != nil {
			byTitle[known.title]++
			continue
		}
		if unexplained++; unexplained <= 20 {
			t.Errorf("%s: upstream says %s %s, and we say %q\n%s\n%s", v.ID, v.Verdict, v.Name, ours, hostconfigtest.Lines(report), v.YAML)
		}
	}
	percent := func(n, of int) string {
		return fmt.Sprintf("%d of %d, %.1f %%", n, of, 100*float64(n)/float64(max(of, 1)))
	}
	t.Logf("the same verdict: %s", percent(sameVerdict, len(verdicts)))
	t.Logf("the same name: %s", percent(sameName, len(verdicts)))
	t.Logf("neither the same nor a known difference: %d", unexplained)
	for _, d := range differences() {
		t.Logf("%5d differ by: %s (%s)", byTitle[d.title], d.title, d.reason)
	}
	for _, name := range slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(all[b]-all[a], strings.Compare(a, b)) }) {
		t.Logf("upstream's %s: %s", name, percent(same[name], all[name]))
	}
}

func TestEveryKnownDifferenceIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/host-configuration-differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences() {
		if !bytes.Contains(page, []byte("## "+d.title+"\n")) {
			t.Errorf("the page has no section %q", d.title)
		}
	}
}
