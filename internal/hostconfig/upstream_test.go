package hostconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Forms that upstream Trident takes, and forms that it does not take.
func TestFormsAreTakenAsUpstreamTakesThem(t *testing.T) {
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
		_, r := Parse([]byte(strings.Replace(c.in, "%", c.value, 1)))
		var faults []string
		for _, f := range r {
			if f.Name == NameParse || f.Name == nameGraph && strings.Contains(f.Message, "counted") {
				faults = append(faults, f.String())
			}
		}
		if all := strings.Join(faults, "\n"); (c.fault == "") != (all == "") || !strings.Contains(all, c.fault) {
			t.Errorf("%s: wants %q, got %q", c.value, c.fault, all)
		}
	}
}

// What is stored for a URL is a URL for readers that are strict, too.
func TestAURLIsKeptInAStrictForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HTTP://Example.org/x": "http://Example.org/x", "http:a/b": "http://a/b", `https:\\a\b`: "https://a/b", "file:///a b": "file:///a%20b",
		"http://a/%zz": "http://a/%25zz", "http://a/%20": "http://a/%20", "file:": "file:///", "file:a": "file:///a", "file://localhost/x": "file:///x",
		"oci://r.example/x:1": "oci://r.example/x:1", "https://u:p@a:0443/x?y#z": "https://u:p@a:443/x?y#z", " http://a\n/b ": "http://a/b",
	} {
		got, _, err := parseURL(text)
		if err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
		if again, _, err := parseURL(got); err != nil || again != got {
			t.Errorf("%q is read as %q, %v", got, again, err)
		}
	}
}

func TestDefaultsAndNullsOfARecordAreNoChange(t *testing.T) {
	t.Parallel()
	const short = `image: {url: 'file:///x', sha384: ignored}
trident: {disable: true}
storage:
  disks: [{id: d, device: /dev/a, partitionTableType: gpt, partitions: [{id: e, type: esp, size: 64M}, {id: r, size: 4G}, {id: n, size: 1G}], adoptedPartitions: [{id: a, matchLabel: l}]}]
  filesystems:
  - {deviceId: e, mountPoint: {path: /boot/efi, options: umask=0077}}
  - {deviceId: r, mountPoint: /}
  - {deviceId: n, source: new, mountPoint: /data/}
  - {deviceId: a, source: adopted, mountPoint: /a}
`
	const full = `image: {url: 'file:///x', sha384: ignored}
trident: {disable: true, phonehome: null}
storage:
  disks: [{id: d, device: /dev/a, partitionTableType: gpt, partitions: [{id: e, type: esp, size: 64M, uuid: null, label: null}, {id: r, type: linux-generic, size: 4294967296, uuid: null, label: null},
    {id: n, size: 1024M, type: linux-generic}], adoptedPartitions: [{id: a, matchLabel: l, matchUuid: null}]}]
  raid: null
  filesystems:
  - {deviceId: e, source: image, mountPoint: {path: /boot/efi, options: umask=0077}, overrideEspMount: override}
  - {deviceId: r, mountPoint: {path: /, options: defaults}, overrideEspMount: use-default}
  - {deviceId: n, source: new, type: ext4, mountPoint: {path: /data, options: defaults}}
  - {deviceId: a, source: adopted, type: auto, mountPoint: /a}
os: {selinux: {mode: null}, users: [], uefiFallback: conservative}
managementOs: {users: []}
`
	c, err := Diff(recorded(t, full), mustParse(t, short))
	if err != nil || c.Kind != KindNone || len(c.Reasons) != 0 {
		t.Errorf("%s%v", reasons(c), err)
	}
	c, err = Diff(recorded(t, full), mustParse(t, strings.Replace(short, "/data/", "/other", 1)))
	if err != nil || len(c.Reasons) != 1 || c.Reasons[0].Path != "storage" {
		t.Errorf("another mount point: %s%v", reasons(c), err)
	}
}

func TestADocumentIsShownWithUpstreamsDefaults(t *testing.T) {
	t.Parallel()
	c := recorded(t, `osImage: {url: 'file:///x', sha384: ignored}
trident: {selfUpgrade: true, logstream: x}
storage:
  disks: [{id: d, device: /dev/a, partitionTableType: gpt, partitions: [{id: nd, size: 1G}]}]
  filesystems: [{deviceId: nd, source: new, mountPoint: /data}]
os: {network: {version: 2}, modules: [{name: m}]}
`)
	want := `trident:
  disable: false
  phonehome: null
  logstream: x
image:
  url: file:///x
  sha384: ignored
storage:
  disks:
  - id: d
    device: /dev/a
    partitionTableType: gpt
    partitions:
    - id: nd
      type: linux-generic
      size: 1G
      uuid: null
      label: null
  filesystems:
  - deviceId: nd
    source: new
    type: ext4
    mountPoint:
      path: /data
      options: defaults
os:
  netplan:
    version: 2
  selinux:
    mode: null
  users: []
  modules:
  - name: m
    loadMode: inherit
    options: {}
  uefiFallback: conservative
`
	if diff := cmp.Diff(want, string(c.YAMLWithDefaults())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again := recorded(t, string(c.YAMLWithDefaults()))
	if change, err := Diff(c, again); err != nil || len(change.Reasons) > 0 {
		t.Errorf("it is another document: %s%v", reasons(change), err)
	}
	if got := string(Empty().YAMLWithDefaults()); got != "{}\n" {
		t.Errorf("an empty one is shown as %q", got)
	}
}

func TestReportedDocumentsAreJudged(t *testing.T) {
	t.Parallel()
	const dir = "../../../shared/testdata/reports"
	for name, fault := range map[string]string{
		"w-netplan-not-a-mapping.yaml": "wants a mapping", "w-url-upper-scheme.yaml": "", "w-uuid-braces.yaml": "", "weak-142-partitions.yaml": "",
		"weak-label-37.yaml": "", "weak-validate-hostname.yaml": "uid", "f-acl-usr-verity.yaml": "", "yaml-directive-1.2.yaml": "", "additional-files-0700.yaml": "",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("no reports beside the repository: %v", err)
		}
		_, r := Parse(text)
		if err := r.Err(); (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(lines(r), "hostname: ") != (name == "weak-validate-hostname.yaml") {
			t.Errorf("%s: %s", name, lines(r))
		}
		if strings.HasPrefix(name, "weak-") && len(withoutYet(r)) == 0 {
			t.Errorf("%s: no warning", name)
		}
	}
}
