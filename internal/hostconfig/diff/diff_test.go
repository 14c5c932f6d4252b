package diff

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
	"github.com/trident-project/trident/internal/hostconfig/internal/form"
	"github.com/trident-project/trident/internal/hostconfig/rules"
)

type change = hostconfigtest.Change

func parse(t testing.TB, text string) *hostconfig.Config {
	t.Helper()
	c, r := hostconfig.Parse([]byte(text), rules.Check)
	if c == nil {
		t.Fatalf("refused: %v", r)
	}
	return c
}

func config(t testing.TB, doc string, changes ...change) *hostconfig.Config {
	t.Helper()
	return parse(t, hostconfigtest.Document(t, doc, changes...))
}

func recorded(t *testing.T, text string) *hostconfig.Config {
	t.Helper()
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reasons(c Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", c.Kind)
	for _, r := range c.Reasons {
		fmt.Fprintf(&b, "%s: %s %s\n", r.Kind, r.Path, r.Text)
	}
	return b.String()
}

const (
	hookLine = `{name: hook, runOn: [all], content: "true"}`
	oneRaw   = "    sha384: 111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111\n"
)

func TestAChangeHasItsKindAndTheReasonForIt(t *testing.T) {
	t.Parallel()
	hash := func(digit string) string { return strings.Repeat(digit, 96) }
	ignored := change{"sha384: ignored", "sha384: " + hash("a")}
	for _, tt := range []struct {
		name     string
		old, new []change
		want     string
	}{
		{"nothing", nil, nil, "none\n"},
		{"hash", []change{ignored}, []change{{"sha384: ignored", "sha384: " + hash("b")}}, "ab-update\nab-update: image.sha384 is of another image\n"},
		{"URL of the same hash", []change{ignored}, []change{ignored, {"os.cosi", "new.cosi"}}, "none\nnone: image.url is different, and the image is the same\n"},
		{"URL with hashes ignored", nil, []change{{"os.cosi", "new.cosi"}},
			"ab-update\nab-update: image.url is different, and with an ignored hash another URL is another image\n"},
		{"hash known and then ignored", []change{ignored}, nil, "none\n"},
		{"hash ignored and then given", nil, []change{ignored}, "ab-update\nab-update: image.sha384 is given, and nobody knows whether the image of the host has it\n"},
		{"force", nil, []change{{"health:", "internalParams: {forceAbUpdate: true}\nhealth:"}}, "ab-update\nab-update: internalParams.forceAbUpdate asks for it\n"},
		{"users", nil, []change{{"bob", "carol"}}, "ab-update\nab-update: os.users is different, and is set up in an OS that does not run yet\n"},
		{"hostname", nil, []change{{"os:", "os:\n  hostname: h"}}, "ab-update\nab-update: os.hostname is new, and is set up in an OS that does not run yet\n"},
		{"modules", []change{{"os:", "os:\n  modules: [{name: m}]"}}, nil, "ab-update\nab-update: os.modules is gone, and is set up in an OS that does not run yet\n"},
		{"services", nil, []change{{"os:", "os:\n  services: {enable: [s]}"}}, "ab-update\nab-update: os.services is new, and is set up in an OS that does not run yet\n"},
		{"services with nothing in them", nil, []change{{"os:", "os:\n  services: {enable: []}"}}, "none\n"},
		{"kernel command line", nil, []change{{"os:", "os:\n  kernelCommandLine: {extraCommandLine: [quiet]}"}},
			"ab-update\nab-update: os.kernelCommandLine is new, and is set up in an OS that does not run yet\n"},
		{"SELinux", nil, []change{{"os:", "os:\n  selinux: {mode: permissive}"}}, "ab-update\nab-update: os.selinux.mode is new, and is set up in an OS that does not run yet\n"},
		{"network", nil, []change{{"dhcp4: true", "dhcp4: false"}}, "runtime-update\nruntime-update: os.netplan is different\n"},
		{"network gone", nil, []change{{"  netplan:\n    version: 2\n    ethernets:\n      eth0: {dhcp4: true}\n", ""}}, "runtime-update\nruntime-update: os.netplan is gone\n"},
		{"files", nil, []change{{"content: hello", "content: bye"}}, "runtime-update\nruntime-update: os.additionalFiles[0] changes /etc/motd\n"},
		{"firmware fall-back", nil, []change{{"os:", "os:\n  uefiFallback: disabled"}}, "runtime-update\nruntime-update: os.uefiFallback is disabled, and was conservative\n"},
		{"extension", nil, []change{{hash("1"), hash("3")}}, "runtime-update\nruntime-update: os.sysexts[0] replaces /var/lib/extensions/one.raw\n"},
		{"extension from elsewhere", nil, []change{{"example.org/one.raw", "example.com/one.raw"}},
			"runtime-update\nruntime-update: os.sysexts[0] comes from another URL, and /var/lib/extensions/one.raw stays\n"},
		{"storage", nil, []change{{"mountPoint: /data", "mountPoint: /other"}}, "none\nnone: storage is different, and no update changes storage\n"},
		{"agent, health and installer", nil, []change{{"trident:", "managementOs: {netplan: {version: 2}}\ntrident:\n  phonehome: https://example.org"}, {"timeoutSeconds: 5", "timeoutSeconds: 6"}},
			"none\nnone: trident is different, which needs no update by itself\nnone: managementOs is different, which needs no update by itself\n" +
				"none: health is different, which needs no update by itself\n"},
		{"parameters", nil, []change{{"health:", "internalParams: {uki: true}\nhealth:"}}, "none\nnone: internalParams is different, which needs no update by itself\n"},
		{"several", nil, []change{{"bob", "carol"}, {"dhcp4: true", "dhcp4: false"}},
			"ab-update\nruntime-update: os.netplan is different\nab-update: os.users is different, and is set up in an OS that does not run yet\n"},

		{"hook that stays", nil, []change{{"dhcp4: true", "dhcp4: false"}}, "runtime-update\nruntime-update: os.netplan is different\n"},
		{"hook of every update", nil, []change{{hookLine, `{name: hook, runOn: [all], content: "false"}`}},
			"ab-update\nab-update: scripts.postConfigure[0] is new or different, and runs on an A/B update\nnone: scripts.postConfigure has lost, or has otherwise, 1\n"},
		{"hook of updates at run time", []change{{"\n  - " + hookLine, " []"}}, []change{{"runOn: [all], content: \"true\"}\nos:", "runOn: [runtime-update], content: \"true\"}\nos:"}},
			"runtime-update\nruntime-update: scripts.postConfigure[0] is new or different, and runs on an update at run time\n"},
		{"hook of an installation", []change{{"\n  - " + hookLine, " []"}}, []change{{"runOn: [all], content: \"true\"}\nos:", "runOn: [clean-install], content: \"true\"}\nos:"}},
			"none\nnone: scripts.postConfigure[0] is new or different, and runs on no update\n"},
		{"hook gone", nil, []change{{"\n  - " + hookLine, " []"}}, "none\nnone: scripts.postConfigure has lost, or has otherwise, 1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Compare(config(t, "slots", tt.old...), config(t, "slots", tt.new...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, reasons(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAHostThatWasNeverProvisionedIsInstalled(t *testing.T) {
	t.Parallel()
	c, err := Compare(nil, config(t, "slots"))
	if err != nil || c.Kind != KindCleanInstall || len(c.Reasons) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestAHostInstalledByOtherMeansIsServicedAtRunTime(t *testing.T) {
	t.Parallel()
	one := parse(t, "os: {sysexts: [{url: 'https://u:p@example.org/x.raw?key=s', sha384: "+strings.Repeat("1", 96)+"}], netplan: {version: 2}}\nhealth: {checks: []}")
	c, err := Compare(hostconfig.Empty(), one)
	if err != nil {
		t.Fatal(err)
	}
	want := "runtime-update\nruntime-update: os.netplan is new\nruntime-update: os.sysexts[0] adds x.raw\n"
	if diff := cmp.Diff(want, reasons(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !c.Netplan || len(c.Sysexts.Added) != 1 || !c.Confexts.Empty() || !c.Files.Empty() || c.UEFIFallback {
		t.Errorf("got %+v", c)
	}
	if c, err := Compare(one, hostconfig.Empty()); err != nil || c.Kind != KindRuntimeUpdate || len(c.Sysexts.Removed) != 1 {
		t.Errorf("back: %+v, %v", c, err)
	}
}

func TestAnImageIsNotRemoved(t *testing.T) {
	t.Parallel()
	_, err := Compare(config(t, "slots", change{"https://example.org/os.cosi", "https://u:secret@example.org/os.cosi"}), hostconfig.Empty())
	if !errors.Is(err, ErrImageRemoved) || errkind.Of(err) != errkind.Invalid || !strings.Contains(errkind.Hint(err), "os.cosi") {
		t.Errorf("got %v, hint %q", err, errkind.Hint(err))
	}
	if strings.Contains(err.Error()+errkind.Hint(err), "secret") {
		t.Errorf("it tells a secret: %v %s", err, errkind.Hint(err))
	}
}

func TestAnImageThatIsAddedIsAnABUpdate(t *testing.T) {
	t.Parallel()
	c, err := Compare(hostconfig.Empty(), parse(t, "image: {url: 'https://example.org/x', sha384: ignored}"))
	if err != nil || reasons(c) != "ab-update\nab-update: image is new: the host has none yet\n" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestARuntimeUpdateHasTheChangesToMake(t *testing.T) {
	t.Parallel()
	ext := func(url, digit, path string) hostconfig.Extension {
		return hostconfig.Extension{URL: hostconfig.SourceURL("https://example.org/" + url), SHA384: hostconfig.Hash(strings.Repeat(digit, 96)), Path: path}
	}
	const a, b = "/var/lib/extensions/a.raw", "/etc/extensions/b.raw"
	for _, tt := range []struct {
		name     string
		old, new []hostconfig.Extension
		want     ExtensionChange
	}{
		{"nothing", []hostconfig.Extension{ext("x", "1", a), ext("y", "2", "")}, []hostconfig.Extension{ext("y", "2", ""), ext("x", "1", a)}, ExtensionChange{}},
		{"added", nil, []hostconfig.Extension{ext("x", "1", "")}, ExtensionChange{Added: []hostconfig.Extension{ext("x", "1", "")}}},
		{"removed", []hostconfig.Extension{ext("x", "1", "")}, nil, ExtensionChange{Removed: []hostconfig.Extension{ext("x", "1", "")}}},
		{"replaced at its path", []hostconfig.Extension{ext("x", "1", a)}, []hostconfig.Extension{ext("y", "2", a)},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", a), ext("y", "2", a)}}}},
		{"replaced from its URL", []hostconfig.Extension{ext("x", "1", "")}, []hostconfig.Extension{ext("x", "2", "")},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", ""), ext("x", "2", "")}}}},
		{"moved", []hostconfig.Extension{ext("x", "1", a)}, []hostconfig.Extension{ext("x", "1", b)},
			ExtensionChange{Added: []hostconfig.Extension{ext("x", "1", b)}, Removed: []hostconfig.Extension{ext("x", "1", a)}}},
		{"two change places", []hostconfig.Extension{ext("x", "1", a), ext("y", "2", b)}, []hostconfig.Extension{ext("y", "2", a), ext("x", "1", b)},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", a), ext("y", "2", a)}, {ext("y", "2", b), ext("x", "1", b)}}}},
		{"another URL and hash, without a path", []hostconfig.Extension{ext("x", "1", "")}, []hostconfig.Extension{ext("y", "2", "")},
			ExtensionChange{Added: []hostconfig.Extension{ext("y", "2", "")}, Removed: []hostconfig.Extension{ext("x", "1", "")}}},
	} {
		for _, kind := range []string{"sysexts", "confexts"} {
			old, new := hostconfig.Empty(), hostconfig.Empty()
			pick := func(c *hostconfig.Config) *[]hostconfig.Extension { return &c.Spec().OS.Sysexts }
			if kind == "confexts" {
				pick = func(c *hostconfig.Config) *[]hostconfig.Extension { return &c.Spec().OS.Confexts }
			}
			*pick(old), *pick(new) = tt.old, tt.new
			c, err := Compare(old, new)
			if err != nil {
				t.Fatal(err)
			}
			got, other := c.Sysexts, c.Confexts
			if kind == "confexts" {
				got, other = other, got
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || !other.Empty() {
				t.Errorf("%s, %s (-want +got):\n%s", tt.name, kind, diff)
			}
			if (c.Kind == KindRuntimeUpdate) == got.Empty() {
				t.Errorf("%s, %s: kind %s", tt.name, kind, c.Kind)
			}
		}
	}
}

func TestFilesAreWrittenAndRemovedByDestination(t *testing.T) {
	t.Parallel()
	file := func(where, text string) hostconfig.AdditionalFile {
		return hostconfig.AdditionalFile{Destination: where, Content: &text}
	}
	old, new := hostconfig.Empty(), hostconfig.Empty()
	old.Spec().OS.AdditionalFiles = []hostconfig.AdditionalFile{file("/a", "1"), file("/b", "1"), file("/c", "1"), file("/c", "2")}
	new.Spec().OS.AdditionalFiles = []hostconfig.AdditionalFile{file("/b//", "1"), file("/c", "2"), file("/d", "1"), file("/d", "2")}
	c, err := Compare(old, new)
	if err != nil {
		t.Fatal(err)
	}
	want := FileChange{Write: []hostconfig.AdditionalFile{file("/b//", "1"), file("/d", "2")}, Remove: []hostconfig.AdditionalFile{file("/a", "1")}}
	if diff := cmp.Diff(want, c.Files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c, _ := Compare(old, old); c.Kind != KindNone || len(c.Reasons) > 0 {
		t.Errorf("to itself: %s", reasons(c))
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
	c, err := Compare(recorded(t, full), parse(t, short))
	if err != nil || c.Kind != KindNone || len(c.Reasons) != 0 {
		t.Errorf("%s%v", reasons(c), err)
	}
	c, err = Compare(recorded(t, full), parse(t, strings.Replace(short, "/data/", "/other", 1)))
	if err != nil || len(c.Reasons) != 1 || c.Reasons[0].Path != "storage" {
		t.Errorf("another mount point: %s%v", reasons(c), err)
	}
}

// The reference page says what a change needs, out of the tags.
func TestTheTagsAgreeWithCompare(t *testing.T) {
	t.Parallel()
	all := recorded(t, hostconfigtest.Whole())
	check := func(path, tag string, blank func(*hostconfig.Spec)) {
		before := all.Amend(blank)
		if string(before.YAML()) == string(all.YAML()) {
			t.Errorf("%s: nothing to compare", path)
		}
		got, err := Compare(before, all)
		if err != nil || got.Kind.String() != tag {
			t.Errorf("%s: the tag says %q, Diff says %s, %v: %v", path, tag, got.Kind, err, got.Reasons)
		}
	}
	for _, m := range form.Members(reflect.TypeFor[hostconfig.Spec]()) {
		if m.Key != "os" { // its keys have other tags
			check(m.Key, reflect.TypeFor[hostconfig.Spec]().Field(m.Index).Tag.Get("change"), func(s *hostconfig.Spec) { reflect.ValueOf(s).Elem().Field(m.Index).SetZero() })
		}
	}
	for _, m := range form.Members(reflect.TypeFor[hostconfig.OS]()) {
		tag := reflect.TypeFor[hostconfig.OS]().Field(m.Index).Tag.Get("change")
		if tag == "" {
			tag = "ab-update"
		}
		check("os."+m.Key, tag, func(s *hostconfig.Spec) { reflect.ValueOf(&s.OS).Elem().Field(m.Index).SetZero() })
	}
}

// Nothing leads from a document to itself, and all of it from an empty one.
func FuzzDiff(f *testing.F) {
	hostconfigtest.Fuzz(f, func(t *testing.T, text []byte) {
		c, _ := hostconfig.Parse(text, rules.Check)
		if c == nil {
			return
		}
		self, err := Compare(c, c)
		if err != nil {
			t.Fatal(err)
		}
		if force := c.Spec().InternalParams["forceAbUpdate"] == true; self.Kind != KindNone && !force || len(self.Reasons) > 0 && !force {
			t.Errorf("to itself: %s", reasons(self))
		}
		from, err := Compare(hostconfig.Empty(), c)
		if err != nil {
			t.Fatal(err)
		}
		if from.Kind != KindABUpdate && c.Spec().Image != nil || len(from.Sysexts.Added) != len(c.Spec().OS.Sysexts) {
			t.Errorf("from nothing: %s", reasons(from))
		}
		if _, err := Compare(c, hostconfig.Empty()); (err != nil) != (c.Spec().Image != nil) {
			t.Errorf("to nothing: %v", err)
		}
	})
}

func TestStorageThatIsLeftOutStaysAsItIs(t *testing.T) {
	t.Parallel()
	old := config(t, "slots")
	new := parse(t, "image: {url: 'https://example.org/os.cosi', sha384: ignored}")
	got, report := rules.Effective(old, new)
	if report.Err() != nil || len(got.Spec().Storage.Disks) != 2 {
		t.Fatalf("got %v", report)
	}
	if len(new.Spec().Storage.Disks) != 0 {
		t.Error("the given document was changed")
	}
	c, err := Compare(old, got)
	if err != nil || c.Kind != KindABUpdate || strings.Contains(reasons(c), "storage") {
		t.Errorf("got %s, %v", reasons(c), err)
	}
	for name, same := range map[string][2]*hostconfig.Config{
		"no old one": {nil, new}, "storage given": {old, config(t, "usr")}, "no image": {old, parse(t, "os: {netplan: {version: 2}}")}, "no storage": {hostconfig.Empty(), new},
	} {
		if got, report := rules.Effective(same[0], same[1]); got != same[1] || report != nil {
			t.Errorf("%s: got another one", name)
		}
	}
}

func TestStorageThatStaysIsJudgedWithWhatIsNew(t *testing.T) {
	t.Parallel()
	new := parse(t, "image: {url: 'https://example.org/os.cosi', sha384: ignored}\n"+
		"trident: {datastorePath: /var/lib/state.sqlite}\nos:\n  sysexts:\n  - url: https://example.org/one.raw\n"+oneRaw)
	got, report := rules.Effective(config(t, "slots", change{"mountPoint: /srv}", "mountPoint: /var/lib/extensions}"},
		change{"    path: /var/lib/extensions/one.raw", "    path: /etc/extensions/one.raw"}), new)
	want := "2:11: trident.datastorePath: /var/lib/state.sqlite is on A/B volume \"root\", and the next update would leave it behind: give /var/lib a volume of its own (DatastorePathInABUpdateVolume)\n" +
		"5:5: os.sysexts[0]: is placed at /var/lib/extensions, which both slots share: it must be on an A/B volume (ExtensionImageNotOnABVolume)\n"
	if got != nil {
		t.Error("it was taken")
	}
	if diff := cmp.Diff(want, hostconfigtest.Lines(report)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
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
	if change, err := Compare(c, again); err != nil || len(change.Reasons) > 0 {
		t.Errorf("it is another document: %s%v", reasons(change), err)
	}
	if got := string(hostconfig.Empty().YAMLWithDefaults()); got != "{}\n" {
		t.Errorf("an empty one is shown as %q", got)
	}
}
