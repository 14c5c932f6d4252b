package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

// Forms that upstream Trident takes, and forms that it does not take.
func TestFormsAreParsedAsByUpstream(t *testing.T) {
	t.Parallel()
	const image, disk = "image: {sha384: ignored, url: %}", "storage: {disks: [{id: d, device: /dev/a, partitionTableType: gpt, partitions: [{id: p, %}]}]}"
	for _, c := range []struct{ in, value, fault string }{
		{image, "HTTP://example.org/x", ""},
		{image, "http:example.org/x", ""},
		{image, `'https:\\example.org\x'`, ""},
		{image, "file:///a b", ""},
		{image, "http://example.org/%zz", ""},
		{image, "'file:'", ""},
		{image, "http://é.example/x", ""},
		{image, "'http://[::1]:8080/x'", ""},
		{image, "http://", "without a host"},
		{image, "http://example.org:99999/", "the highest port is 65535"},
		{image, "'http://[::1'", "cannot be the name"},
		{image, "http://1.2.3.256/", "cannot be the name"},
		{image, "http://a b/", "cannot be the name"},
		{image, "ftp://example.org/x", "has the scheme ftp"},
		{image, "s3://x/y", "has the scheme s3"},
		{disk, "size: +1M", ""},
		{disk, "size: ' 1 M '", ""},
		{disk, "size: 16777216T", "more bytes than can be counted"},
		{disk, "size: 1M, uuid: '{3a4ccf6e-2c53-45a5-bb5e-1c4d3f2e1a01}'", ""},
		{disk, "size: 1M, uuid: 'urn:uuid:3a4ccf6e-2c53-45a5-bb5e-1c4d3f2e1a01'", ""},
		{disk, "size: 1M, type: null", "is null"},
		{disk, "size: 1M, uuid: null", ""},
		{"os: {netplan: {%}}", "version: 2", ""},
		{"os: {netplan: {%}}", "version: '2'", "wants a whole number"},
		{"os: {netplan: {%}}", "ethernets: {}", "version: is missing"},
		{"os: {netplan: {version: 2, %}}", "ethernets: []", "wants a mapping"},
		{"os: {netplan: {version: 2, %}}", "ethernets: {e: {dhcp4: perhaps}}", ""},
		{"os: {netplan: {version: 2, %}}", "renderer: networkmanager", "wants one of networkd"},
		{"os: {netplan: {version: 2, %}}", "vlans: {v: {id: '7'}}", "wants a whole number"},
		{"os: {netplan: {version: 2, %}}", "bridges: {b: {parameters: {path-cost: {a: 1}}}}", "wants a whole number"},
		{"os: {netplan: {version: 2, %}}", "tunnels: {t: {mode: gre}}", "peers: is missing"},
		{"os: {netplan: {version: 2, %}}", "tunnels: {t: {mode: gre, peers: []}}", ""},
		{"%", "os: ", ""},
		{"%", "os: ~", "is null"},
		{"%", "%YAML 1.2\n---\nos: {}", ""},
		{"os: {uefiFallback: %}", "conservativ", "did you mean conservative?"},
		{"os: {users: [{name: a, uid: %}]}", "2147483648", "wants a whole number"},
		{"internalParams: {%}", "a: 1, a: 2", ""},
	} {
		_, r := parse(strings.Replace(c.in, "%", c.value, 1))
		var faults []string
		for _, f := range r {
			if f.Name == hostconfig.NameParse || f.Name == hostconfig.NameGraph && strings.Contains(f.Message, "counted") {
				faults = append(faults, f.String())
			}
		}
		if all := strings.Join(faults, "\n"); (c.fault == "") != (all == "") || !strings.Contains(all, c.fault) {
			t.Errorf("%s: wants %q, got %q", c.value, c.fault, all)
		}
	}
}

func TestReportedDocumentsAreJudged(t *testing.T) {
	t.Parallel()
	const dir = "../../../../shared/testdata/reports"
	for name, fault := range map[string]string{
		"w-netplan-not-a-mapping.yaml": "wants a mapping", "w-url-upper-scheme.yaml": "", "w-uuid-braces.yaml": "", "weak-142-partitions.yaml": "",
		"weak-label-37.yaml": "", "weak-validate-hostname.yaml": "uid", "f-acl-usr-verity.yaml": "", "yaml-directive-1.2.yaml": "", "additional-files-0700.yaml": "",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("no reports beside the repository: %v", err)
		}
		_, r := hostconfig.Parse(text, Check)
		if err := r.Err(); (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(hostconfigtest.Lines(r), "hostname: ") != (name == "weak-validate-hostname.yaml") {
			t.Errorf("%s: %s", name, hostconfigtest.Lines(r))
		}
		if strings.HasPrefix(name, "weak-") && len(withoutYet(r)) == 0 {
			t.Errorf("%s: no warning", name)
		}
	}
}
