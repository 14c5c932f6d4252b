package hostconfig

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func reasons(c Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", c.Kind)
	for _, r := range c.Reasons {
		fmt.Fprintf(&b, "%s: %s %s\n", r.Kind, r.Path, r.Text)
	}
	return b.String()
}

func config(t testing.TB, doc string, changes ...change) *Config {
	t.Helper()
	text, err := os.ReadFile("testdata/static/" + doc + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for _, c := range changes {
		if strings.Count(out, c.old) != 1 {
			t.Fatalf("%s has %q %d times", doc, c.old, strings.Count(out, c.old))
		}
		out = strings.Replace(out, c.old, c.new, 1)
	}
	return mustParse(t, out)
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
			c, err := Diff(config(t, "slots", tt.old...), config(t, "slots", tt.new...))
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
	c, err := Diff(nil, config(t, "slots"))
	if err != nil || c.Kind != KindCleanInstall || len(c.Reasons) != 1 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestAHostInstalledByOtherMeansIsServicedAtRunTime(t *testing.T) {
	t.Parallel()
	one := mustParse(t, "os: {sysexts: [{url: 'https://u:p@example.org/x.raw?key=s', sha384: "+strings.Repeat("1", 96)+"}], netplan: {version: 2}}\nhealth: {checks: []}")
	c, err := Diff(Empty(), one)
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
	if c, err := Diff(one, Empty()); err != nil || c.Kind != KindRuntimeUpdate || len(c.Sysexts.Removed) != 1 {
		t.Errorf("back: %+v, %v", c, err)
	}
}

func TestAnImageIsNotRemoved(t *testing.T) {
	t.Parallel()
	_, err := Diff(config(t, "slots", change{"https://example.org/os.cosi", "https://u:secret@example.org/os.cosi"}), Empty())
	if !errors.Is(err, ErrImageRemoved) || errkind.Of(err) != errkind.Invalid || !strings.Contains(errkind.Hint(err), "os.cosi") {
		t.Errorf("got %v, hint %q", err, errkind.Hint(err))
	}
	if strings.Contains(err.Error()+errkind.Hint(err), "secret") {
		t.Errorf("it tells a secret: %v %s", err, errkind.Hint(err))
	}
}

func TestAnImageThatIsAddedIsAnABUpdate(t *testing.T) {
	t.Parallel()
	c, err := Diff(Empty(), mustParse(t, "image: {url: 'https://example.org/x', sha384: ignored}"))
	if err != nil || reasons(c) != "ab-update\nab-update: image is new: the host has none yet\n" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestARuntimeUpdateKnowsWhatToDo(t *testing.T) {
	t.Parallel()
	ext := func(url, digit, path string) Extension {
		return Extension{URL: SourceURL("https://example.org/" + url), SHA384: Hash(strings.Repeat(digit, 96)), Path: path}
	}
	const a, b = "/var/lib/extensions/a.raw", "/etc/extensions/b.raw"
	for _, tt := range []struct {
		name     string
		old, new []Extension
		want     ExtensionChange
	}{
		{"nothing", []Extension{ext("x", "1", a), ext("y", "2", "")}, []Extension{ext("y", "2", ""), ext("x", "1", a)}, ExtensionChange{}},
		{"added", nil, []Extension{ext("x", "1", "")}, ExtensionChange{Added: []Extension{ext("x", "1", "")}}},
		{"removed", []Extension{ext("x", "1", "")}, nil, ExtensionChange{Removed: []Extension{ext("x", "1", "")}}},
		{"replaced at its path", []Extension{ext("x", "1", a)}, []Extension{ext("y", "2", a)},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", a), ext("y", "2", a)}}}},
		{"replaced from its URL", []Extension{ext("x", "1", "")}, []Extension{ext("x", "2", "")},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", ""), ext("x", "2", "")}}}},
		{"moved", []Extension{ext("x", "1", a)}, []Extension{ext("x", "1", b)},
			ExtensionChange{Added: []Extension{ext("x", "1", b)}, Removed: []Extension{ext("x", "1", a)}}},
		{"two change places", []Extension{ext("x", "1", a), ext("y", "2", b)}, []Extension{ext("y", "2", a), ext("x", "1", b)},
			ExtensionChange{Replaced: []ReplacedExtension{{ext("x", "1", a), ext("y", "2", a)}, {ext("y", "2", b), ext("x", "1", b)}}}},
		{"another URL and hash, without a path", []Extension{ext("x", "1", "")}, []Extension{ext("y", "2", "")},
			ExtensionChange{Added: []Extension{ext("y", "2", "")}, Removed: []Extension{ext("x", "1", "")}}},
	} {
		for _, kind := range []string{"sysexts", "confexts"} {
			old, new := Empty(), Empty()
			pick := func(c *Config) *[]Extension { return &c.spec.OS.Sysexts }
			if kind == "confexts" {
				pick = func(c *Config) *[]Extension { return &c.spec.OS.Confexts }
			}
			*pick(old), *pick(new) = tt.old, tt.new
			c, err := Diff(old, new)
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
	file := func(where, text string) AdditionalFile { return AdditionalFile{Destination: where, Content: &text} }
	old, new := Empty(), Empty()
	old.spec.OS.AdditionalFiles = []AdditionalFile{file("/a", "1"), file("/b", "1"), file("/c", "1"), file("/c", "2")}
	new.spec.OS.AdditionalFiles = []AdditionalFile{file("/b//", "1"), file("/c", "2"), file("/d", "1"), file("/d", "2")}
	c, err := Diff(old, new)
	if err != nil {
		t.Fatal(err)
	}
	want := FileChange{Write: []AdditionalFile{file("/b//", "1"), file("/d", "2")}, Remove: []AdditionalFile{file("/a", "1")}}
	if diff := cmp.Diff(want, c.Files); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c, _ := Diff(old, old); c.Kind != KindNone || len(c.Reasons) > 0 {
		t.Errorf("to itself: %s", reasons(c))
	}
}

func TestStorageThatIsLeftOutStaysAsItIs(t *testing.T) {
	t.Parallel()
	old := config(t, "slots")
	new := mustParse(t, "image: {url: 'https://example.org/os.cosi', sha384: ignored}")
	got, report := Effective(old, new)
	if report.Err() != nil || len(got.Spec().Storage.Disks) != 2 {
		t.Fatalf("got %v", report)
	}
	if len(new.Spec().Storage.Disks) != 0 {
		t.Error("the given document was changed")
	}
	c, err := Diff(old, got)
	if err != nil || c.Kind != KindABUpdate || strings.Contains(reasons(c), "storage") {
		t.Errorf("got %s, %v", reasons(c), err)
	}
	for name, same := range map[string][2]*Config{
		"no old one": {nil, new}, "storage given": {old, config(t, "usr")}, "no image": {old, mustParse(t, "os: {netplan: {version: 2}}")}, "no storage": {Empty(), new},
	} {
		if got, report := Effective(same[0], same[1]); got != same[1] || report != nil {
			t.Errorf("%s: got another one", name)
		}
	}
}

func TestStorageThatStaysIsJudgedWithWhatIsNew(t *testing.T) {
	t.Parallel()
	new := mustParse(t, "image: {url: 'https://example.org/os.cosi', sha384: ignored}\n"+
		"trident: {datastorePath: /var/lib/state.sqlite}\nos:\n  sysexts:\n  - url: https://example.org/one.raw\n"+oneRaw)
	got, report := Effective(config(t, "slots", change{"mountPoint: /srv}", "mountPoint: /var/lib/extensions}"},
		change{"    path: /var/lib/extensions/one.raw", "    path: /etc/extensions/one.raw"}), new)
	want := "2:11: trident.datastorePath: /var/lib/state.sqlite is on A/B volume \"root\", and the next update would leave it behind: give /var/lib a volume of its own (DatastorePathInABUpdateVolume)\n" +
		"5:5: os.sysexts[0]: is placed at /var/lib/extensions, which both slots share: it must be on an A/B volume (ExtensionImageNotOnABVolume)\n"
	if got != nil {
		t.Error("it was taken")
	}
	if diff := cmp.Diff(want, lines(report)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
