package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func TestUpstreamsSamplesAreTaken(t *testing.T) {
	t.Parallel()
	for name, text := range hostconfigtest.Upstream(t, "../../..") {
		c, r := hostconfig.Parse(text, Check)
		r = slices.DeleteFunc(r, func(f hostconfig.Finding) bool { return strings.Contains(f.Message, "this version of Trident") })
		if c == nil || len(r) > 0 {
			t.Errorf("%s:\n%s", name, hostconfigtest.Lines(r))
		}
	}
}

func TestAReportHasAllFaultsByPosition(t *testing.T) {
	t.Parallel()
	c, r := parse(hostconfigtest.Document(t, "ten"))
	if c != nil {
		t.Error("a document with faults became a Config")
	}
	hostconfigtest.Golden(t, "ten.report", hostconfigtest.Lines(r))
	if got := r.Err(); errkind.Of(got) != errkind.Invalid || strings.Count(got.Error(), "\n") != len(r) {
		t.Errorf("error of kind %s:\n%v", errkind.Of(got), got)
	}
	if strings.Contains(hostconfigtest.Lines(r), "tops3cret") {
		t.Error("the report tells a password")
	}
}

func TestFaultsOfTheWholeDocumentHaveTheirOwnNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hostConfiguration:\n  image: {}\n":         hostconfig.NameOldStyle,
		"allowedOperations: [stage]\nimage: null\n": hostconfig.NameAllowedOperations,
		"allowedOperation: [stage]\n":               hostconfig.NameParse,
		"[]":                                        hostconfig.NameParse,
		"a: [":                                      hostconfig.NameParse,
	} {
		_, r := parse(text)
		e := hostconfig.Invalid(r.Err())
		if e == nil || e.Name() != want || errkind.Variant(r.Err()) != want {
			t.Errorf("%q is %v, want %s", text, r.Err(), want)
		}
	}
}

func TestAnEmptyDocumentIsTakenWithAWarning(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "\n\n", "---\n"} {
		c, r := parse(text)
		if c == nil {
			t.Errorf("%q refused: %s", text, hostconfigtest.Lines(r))
			continue
		}
		if text != "---\n" && (len(r) != 1 || r[0].Severity != hostconfig.Warning || r.Err() != nil) {
			t.Errorf("%q: %s", text, hostconfigtest.Lines(r))
		}
		if got := c.Spec().Trident.DatastorePath; got != "/var/lib/trident/datastore.sqlite" {
			t.Errorf("%q: default is %q", text, got)
		}
	}
}

func TestFormsOfValues(t *testing.T) {
	t.Parallel()
	const disk = "storage: {disks: [{id: d, device: /dev/sda, partitionTableType: gpt, partitions: [{id: p, size: 8M, %}]}]}"
	const fs = "storage: {filesystems: [{%}]}"
	const uuid = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
	for _, c := range []struct{ name, in, value, fault string }{
		{"a type by name", disk, "type: usr-verity", ""},
		{"a type by UUID", disk, "type: " + uuid, ""},
		{"a type that is neither", disk, "type: linux", "wants one of esp"},
		{"a UUID without hyphens", disk, "uuid: 0fc63daf848347728e793d69d8477de4", ""},
		{"a UUID that is too short", disk, "uuid: 0fc63daf-8483-4772-8e79", "wants a UUID"},
		{"null for what may be left out", disk, "uuid: null, label: ~", ""},
		{"a number as a label", disk, "label: 5", ""},
		{"a list as a label", disk, "label: [5]", "is a list; wants a single value"},
		{"a type with source image", fs, "deviceId: p, type: ext4", "may not be given with source image"},
		{"a type with source new", fs, "deviceId: p, source: new, type: ext4", ""},
		{"auto with source new", fs, "deviceId: p, source: new, type: auto", "may be auto"},
		{"tmpfs with source adopted", fs, "deviceId: p, source: adopted, type: tmpfs", "may be tmpfs"},
		{"a mount point as a string", fs, "deviceId: p, mountPoint: /x", ""},
		{"a mount point as a mapping", fs, "deviceId: p, mountPoint: {path: /x, options: ro}", ""},
		{"a mount point without a path", fs, "deviceId: p, mountPoint: {options: ro}", "mountPoint.path: is missing"},
		{"swap of both forms", "storage: {%}", "swap: [a, {deviceId: b}]", ""},
		{"swap as null", "storage: {%}", "swap: [null]", "storage.swap[0]: is empty"},
		{"PCRs of both forms", "storage: {encryption: {volumes: [], %}}", "pcrs: [4, boot-loader-code, 11]", ""},
		{"a PCR of the schema of upstream", "storage: {encryption: {volumes: [], %}}", "pcrs: [Pcr7]", "wants a register"},
		{"neither match", "storage: {disks: [{id: d, device: /x, partitionTableType: gpt, partitions: [], %}]}",
			"adoptedPartitions: [{id: a}]", "exactly one of matchLabel and matchUuid"},
		{"both matches", "storage: {disks: [{id: d, device: /x, partitionTableType: gpt, partitions: [], %}]}",
			"adoptedPartitions: [{id: a, matchLabel: x, matchUuid: " + uuid + "}]", "exactly one of"},
		{"a hash in upper case", "image: {url: 'oci://example.org/x', sha384: %}", strings.Repeat("AB", 48), ""},
		{"a hash that is ignored", "image: {url: 'file:///x', sha384: %}", "ignored", ""},
		{"a hash that is short", "image: {url: 'file:///x', sha384: %}", "abcd", "or the word ignored"},
		{"an extension whose hash is ignored", "os: {sysexts: [{url: 'file:///x', sha384: %}]}", "ignored", "wants a SHA-384"},
		{"an image from nowhere", "image: {sha384: ignored, url: %}", "image.cosi", "is not a URL"},
		{"an uid as text", "os: {users: [{name: u, uid: %}]}", "'5'", "wants a whole number"},
		{"an uid that is too large", "os: {users: [{name: u, uid: %}]}", "4294967296", "wants a whole number"},
		{"a check without a form", "health: {checks: [%]}", "{name: x, content: y, timeoutSeconds: 5}", "is not a known key"},
		{"a check of units with a script", "health: {checks: [%]}", "{systemdServices: [x], content: y}", "is not a known key"},
		{"sections that are empty", "%", "{os: , storage: , health: {checks: }, scripts: {}, image: ~}", ""},
		{"a key that is nearly right", "os: {%}", "hostName: x", "did you mean hostname?"},
		{"a password", "os: {users: [{name: u, password: %}]}", "{type: hash, value: x}", "only type: locked"},
		{"a list item of another type", "os: {services: {enable: [%]}}", "{}", "os.services.enable[0]: is a mapping"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := parseOnly(strings.Replace(c.in, "%", c.value, 1))
			switch {
			case c.fault == "" && len(r) > 0:
				t.Errorf("refused:\n%s", hostconfigtest.Lines(r))
			case c.fault != "" && (len(r) != 1 || !strings.Contains(r[0].String(), c.fault)):
				t.Errorf("want one fault with %q, got:\n%s", c.fault, hostconfigtest.Lines(r))
			}
		})
	}
}

// parseOnly is what Parse finds before it looks at the whole document.
func parseOnly(text string) hostconfig.Report {
	_, r := parse(text)
	out := hostconfig.Report{}
	for _, f := range r {
		// What the schema knows as well.
		basic := f.Detail == "BasicCheckFailed" && (strings.HasSuffix(f.Message, "matchUuid") || strings.HasSuffix(f.Message, "and more than 0"))
		if f.Name == hostconfig.NameParse || f.Name == hostconfig.NameOldStyle || f.Name == hostconfig.NameAllowedOperations || basic {
			out = append(out, f)
		}
	}
	return out
}
