package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/hostconfig"
)

// setupDoc is a document that can be set up.
const setupDoc = `
image: {url: "file:///i.cosi", sha384: ignored}
storage:
  disks:
  - id: disk
    device: /dev/sda
    partitionTableType: gpt
    partitions: [{id: esp, type: esp, size: 64M}, {id: root-a, type: root, size: 1G}, {id: root-b, type: root, size: 1G}, {id: trident, size: 1G}]
  abUpdate: {volumePairs: [{id: root, volumeAId: root-a, volumeBId: root-b}]}
  filesystems:
  - {deviceId: esp, mountPoint: /boot/efi}
  - {deviceId: root, mountPoint: /}
  - {deviceId: trident, source: new, mountPoint: {path: /var/lib/trident, options: defaults}}
os:
  additionalFiles: [{destination: /etc/a, content: x}]
  hostname: h
`

func TestSetupFaultsNameTheirPlace(t *testing.T) {
	t.Parallel()
	const sum = "os:\n  sysexts: [{url: 'file:///e.raw', sha384: " + "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcdabcd" + "}]\n"
	for name, c := range map[string]struct {
		old, new string
		want     []string // places
	}{
		"nothing":                             {"", "", nil},
		"datastore on an A/B volume":          {"/var/lib/trident,", "/srv,", []string{"trident.datastorePath"}},
		"datastore read-only":                 {"options: defaults", "options: ro", []string{"trident.datastorePath"}},
		"no datastore":                        {"os:\n", "trident: {disable: true}\nos:\n", nil},
		"datastore on an A/B volume, by name": {"os:\n", "trident: {datastorePath: /var/lib/d/x.sqlite}\nos:\n", []string{"trident.datastorePath"}},
		"datastore in memory":                 {"os:\n", "trident: {datastorePath: /m/x.sqlite}\nos:\n", []string{"trident.datastorePath"}},
		"extensions":                          {"os:\n", sum, nil},
		"file without content":                {", content: x}", "}", []string{"os.additionalFiles[0]"}},
		"file at the root":                    {"/etc/a", "/", []string{"os.additionalFiles[0].destination"}},
		"file over a mount":                   {"/etc/a", "/boot/efi/", []string{"os.additionalFiles[0].destination"}},
		"no unit":                             {"os:\n", "health: {checks: [{runOn: [all], systemdServices: [a.service, '@b']}]}\nos:\n", []string{"health.checks[0].systemdServices[1]"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := strings.Replace(setupDoc, "  - {deviceId: esp", "  - {source: new, type: tmpfs, mountPoint: /m}\n  - {deviceId: esp", 1)
			doc = strings.Replace(doc, c.old, c.new, 1)
			config, err := hostconfig.ParseRecorded([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range SetupFaults(config.Spec()) {
				got = append(got, f.Path)
				if f.Message == "" {
					t.Errorf("%s without a text", f.Path)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestExtensionsOnAReadOnlyMountCannotBeSetUp(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(setupDoc, "mountPoint: /}", "mountPoint: {path: /, options: 'noatime,ro'}}", 1)
	doc = strings.Replace(doc, "os:\n", "os:\n  confexts: [{url: 'file:///e.raw', sha384: "+strings.Repeat("ab", 48)+", path: /var/lib/confexts/e.raw}]\n", 1)
	config, err := hostconfig.ParseRecorded([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	faults := SetupFaults(config.Spec())
	if len(faults) != 1 || faults[0].Path != "os.confexts[0].path" || !strings.Contains(faults[0].Message, "mounted read-only at /") {
		t.Errorf("%v", faults)
	}
}
