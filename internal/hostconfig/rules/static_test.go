package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

// messages are severity and path of every finding.
func messages(report hostconfig.Report) []string {
	var out []string
	for _, f := range report {
		out = append(out, fmt.Sprintf("%s %s", f.Severity, f.Path))
	}
	return out
}

func TestAllFaultsAreFoundAtOnce(t *testing.T) {
	t.Parallel()
	_, report := parse(hostconfigtest.Document(t, "wrong"))
	hostconfigtest.Golden(t, "wrong.report", hostconfigtest.Lines(report))
}

func TestADocumentForARunningHostNeedsNoStorage(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a", 96)
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "{}", ""},
		{"extensions", "os: {sysexts: [{url: 'https://example.org/x.raw', sha384: " + hash + "}], confexts: [{url: 'file:///y.raw', sha384: " + hash + "}]}", ""},
		{"network", "os: {netplan: {version: 2}}", ""},
		{"files", "os: {additionalFiles: [{destination: /etc/x, content: y}], uefiFallback: disabled}", ""},
		{"SELinux as it is", "os: {selinux: {mode: null}}", ""},
		{"health", "health: {checks: [{name: x, runOn: [all], content: x}]}", ""},
		{"hooks at run time", "scripts: {preServicing: [{name: x, runOn: [runtime-update], content: x}]}", ""},
		{"hooks of an update", "scripts: {preServicing: [{name: x, runOn: [ab-update], content: x}]}", "error scripts.preServicing[0]"},
		{"users", "os: {users: [{name: alice}]}", "error os.users"},
		{"SELinux", "os: {selinux: {mode: enforcing}}", "error os.selinux.mode"},
		{"an installer", "managementOs: {netplan: {version: 2}}", "error managementOs"},
		{"agent", "trident: {phonehome: 'https://example.org', logstream: 'http://example.org/logstream'}", ""},
		{"agent without URLs", "trident: {phonehome: 'https://', logstream: x}", "warning trident.phonehome, warning trident.logstream"},
		{"storage of the host", "image: {url: 'https://example.org/x.cosi', sha384: ignored}\nos: {users: [{name: alice}]}", ""},
	} {
		_, report := parse(tt.text)
		if got := strings.Join(messages(report), ", "); got != tt.want {
			t.Errorf("%s: got %q, wants %q: %v", tt.name, got, tt.want, report)
		}
	}
}

func TestAnImplausibleValueCausesAWarning(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path, doc string
		changes   []change
	}{
		{"scripts.postConfigure[0]", "slots", []change{{"{name: hook, runOn: [all], ", "{name: hook, "}}},
		{"health.checks[0]", "slots", []change{{"{name: up, runOn: [all], ", "{name: up, "}}},
		{"health.checks[1].systemdServices", "slots", []change{{"[sshd.service]", "[]"}}},
		{"health.checks[1].timeoutSeconds", "slots", []change{{"timeoutSeconds: 5", "timeoutSeconds: 100000"}}},
		{"health.checks[0].path", "slots", []change{{"{name: up, runOn: [all], content: \"true\"}", "{name: up, runOn: [all], path: x}"}}},
		{"os.additionalFiles[0].destination", "slots", []change{{"/etc/motd", "etc/motd"}}},
		{"os.users[0].sshMode", "slots", []change{{"{name: alice}", "{name: alice, sshMode: key-only}"}}},
		{"os.sysexts[1].path", "slots", []change{{"/etc/extensions/two.raw", "/etc/extensions/one.raw"}}},
		{"os.hostname", "slots", []change{{"os:", "os:\n  hostname: -a"}}},
		{"os.users[0].name", "slots", []change{{"{name: alice}", "{name: 'a:b'}"}}},
		{"os.users[0].uid", "slots", []change{{"{name: alice}", "{name: alice, uid: -1}"}}},
		{"os.users[0].uid", "slots", []change{{"{name: alice}", "{name: alice, uid: 65535}"}}},
		{"os.users[0].sshPublicKeys[0]", "slots", []change{{"{name: alice}", "{name: alice, sshPublicKeys: [\"a\\nb\"]}"}}},
		{"os.modules[0]", "slots", []change{{"os:", "os:\n  modules: [{name: a b}]"}}},
		{"os.services.enable[0]", "slots", []change{{"os:", "os:\n  services: {enable: [--now]}"}}},
		{"os.kernelCommandLine.extraCommandLine", "slots", []change{{"os:", "os:\n  kernelCommandLine: {extraCommandLine: [quiet]}"}}},
		{"scripts.postConfigure[0].environmentVariables.1A", "slots", []change{{"{name: hook, runOn: [all], ", "{name: hook, runOn: [all], environmentVariables: {1A: b}, "}}},
		{"health.checks[1].systemdServices[0]", "slots", []change{{"[sshd.service]", "['']"}}},
		{"health.checks[1].systemdServices[0]", "slots", []change{{"[sshd.service]", "[a/b]"}}},
		{"managementOs.users[1].name", "slots", []change{{"health:", "managementOs: {users: [{name: carol}, {name: carol}]}\nhealth:"}}},
		{"os.netplan.ethernets.eth0.renderer", "slots", []change{{"{dhcp4: true}", "{dhcp4: true, renderer: NetworkManager}"}}},
		{"storage.encryption.pcrs", "slots", []change{{"[4, 11]", "[]"}}},
		{"storage.disks[0].partitions[0].label", "slots", []change{{"{id: esp, ", "{id: esp, label: " + strings.Repeat("l", 37) + ", "}}},
		{"os.hostname", "slots", []change{{"os:", "os:\n  hostname: !name h"}}},
		{"os.selinux.mode", "verity", []change{{"os:", "os:\n  selinux: {mode: enforcing}"}}},
		{"storage.filesystems[3].mountPoint.path", "slots", []change{{"{id: secret, ", "{id: secret, type: var, "}}},
		{"storage.filesystems", "usr", []change{{"image:\n  url: oci://example.org/os:1\n  sha384: ignored\n", ""}}},
		{"trident.datastorePath", "slots", []change{{"source: new, mountPoint: /var/lib/trident}", "source: new, mountPoint: {path: /var/lib/trident, options: ro}}"}}},
		{"storage.encryption.volumes", "slots", []change{{"\n    - {id: vault, deviceName: vault, deviceId: secret}", " []"}, {"  - {deviceId: vault, source: new, mountPoint: /srv}\n", ""}}},
	} {
		_, report := parse(hostconfigtest.Document(t, tt.doc, tt.changes...))
		if report = withoutYet(report); tt.path == "os.kernelCommandLine.extraCommandLine" {
			_, report = parse("os: {kernelCommandLine: {extraCommandLine: [quiet]}}\nimage: {url: 'file:///x', sha384: ignored}")
		}
		if err := report.Err(); err != nil {
			t.Errorf("%s: is refused: %v", tt.path, err)
		} else if len(report) != 1 || report[0].Path != tt.path {
			t.Errorf("wants one warning at %s, got %v", tt.path, report)
		}
	}
}

func TestDocumentsWithoutAFaultHaveNoWarning(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"slots", "verity", "usr"} {
		_, report := parse(hostconfigtest.Document(t, doc))
		if report = withoutYet(report); len(report) > 0 {
			t.Errorf("%s: %v", doc, report)
		}
	}
}

// withoutYet is r without the warnings of what this version of Trident cannot do.
func withoutYet(r hostconfig.Report) hostconfig.Report {
	return slices.DeleteFunc(r, func(f hostconfig.Finding) bool {
		return f.Severity == hostconfig.Warning && strings.Contains(f.Message, "this version of Trident") && !strings.HasPrefix(f.Path, "trident.")
	})
}

func TestASettingThatCannotBeInstalledYetCausesAWarning(t *testing.T) {
	t.Parallel()
	_, report := parse("storage: {filesystems: [{source: new, type: overlay, mountPoint: /x}]}")
	if !slices.ContainsFunc(report, func(f hostconfig.Finding) bool {
		return f.Path == "storage.filesystems[0].type" && f.Severity == hostconfig.Warning && strings.Contains(f.Message, "yet")
	}) {
		t.Errorf("nothing about an overlay: %v", report)
	}
}

func TestPartitionsThatNoTableHoldsAreWarnedOf(t *testing.T) {
	t.Parallel()
	for path, text := range map[string]string{
		"storage.disks[0].partitions":          strings.Repeat("{id: x, size: 1M}, ", 129),
		"storage.disks[0].partitions[0].id":    "{id: " + strings.Repeat("i", 37) + ", size: 1M}",
		"storage.disks[0].partitions[0].size":  "{id: root, size: 12K}",
		"storage.disks[0].partitions[1].size":  "{id: a, size: 1M}, {id: b, size: 9999999T}",
		"storage.disks[0].partitions[2].size":  "{id: a, size: 1M}, {id: b, size: 1048575T}, {id: c, size: 1T}",
		"storage.disks[0].partitions[0].label": "{id: a, label: " + strings.Repeat("ü", 37) + ", size: 1M}",
	} {
		_, report := parse("storage: {disks: [{id: d, device: /dev/a, partitionTableType: gpt, partitions: [" + text + "]}]}")
		if !slices.ContainsFunc(report, func(f hostconfig.Finding) bool { return f.Path == path && f.Severity == hostconfig.Warning }) {
			t.Errorf("nothing at %s: %v", path, report)
		}
	}
}

func TestAScriptHasExactlyOneSource(t *testing.T) {
	t.Parallel()
	const hook, check = `{name: hook, runOn: [all], content: "true"}`, `{name: up, runOn: [all], content: "true"}`
	for _, tt := range []struct{ old, source, path string }{
		{hook, "", "scripts.postConfigure[0]"},
		{hook, ", content: x, path: /x", "scripts.postConfigure[0]"},
		{check, "", "health.checks[0]"},
		{check, ", content: x, path: /x", "health.checks[0]"},
	} {
		_, report := parse(hostconfigtest.Document(t, "slots", []change{{tt.old, "{name: x, runOn: [all]" + tt.source + "}"}}...))
		if !slices.ContainsFunc(report, func(f hostconfig.Finding) bool { return f.Path == tt.path && f.Name == hostconfig.NameParse }) {
			t.Errorf("%s with %q: %v", tt.path, tt.source, report)
		}
	}
}

// Secrets may stand in scripts, in netplan and in URLs.
func TestNoFindingContainsASecret(t *testing.T) {
	t.Parallel()
	_, report := parse(hostconfigtest.Document(t, "slots", []change{
		{"{name: hook, runOn: [all], content: \"true\"}", "{name: hook, content: hunter2, path: x}"},
		{"eth0: {dhcp4: true}", "'eth*': {auth: {password: hunter2}, renderer: NetworkManager}"},
		{"file:///recovery.key", "https://user:hunter2@example.org/key"},
		{"content: hello", "content: hunter2, source: /x"},
	}...))
	if report.Err() == nil {
		t.Fatal("no fault was found")
	}
	for _, f := range report {
		if strings.Contains(f.String(), "hunter2") {
			t.Errorf("told: %s", f)
		}
	}
}

func TestALargeDocumentThatIsWrongAllOverIsJudgedInTime(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("storage:\n  raid:\n    software:\n")
	const arrays = 9000
	for i := range arrays {
		fmt.Fprintf(&b, "    - {id: r%d, name: n, level: raid1, devices: [r%d, r%d]}\n", i, (i+1)%arrays, (i+2)%arrays)
	}
	var report hostconfig.Report
	took := hostconfigtest.ProcessorTime(t, func() { _, report = parse(b.String()) })
	if len(report) == 0 || len(report) > maxFindings {
		t.Errorf("%d findings", len(report))
	}
	if took > 10*time.Second {
		t.Errorf("it took %v of processor time", took)
	}
}

func TestAPartitionTypeByItsUUIDIsNotItsName(t *testing.T) {
	t.Parallel()
	for _, uuid := range []string{"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "'{c12a7328-f81f-11d2-ba4b-00a0c93ec93b}'", "urn:uuid:c12a7328-f81f-11d2-ba4b-00a0c93ec93b"} {
		_, report := parse(hostconfigtest.Document(t, "slots", []change{{"{id: esp, type: esp,", "{id: esp, type: " + uuid + ","}}...))
		if !slices.ContainsFunc(report, func(f hostconfig.Finding) bool {
			return f.Detail == "InvalidPartitionType" && strings.Contains(f.Message, "write type: esp")
		}) {
			t.Errorf("%s: %v", uuid, report)
		}
	}
	const acl = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"
	if _, report := parse(hostconfigtest.Document(t, "usr", []change{{"usr-a, type: usr,", "usr-a, type: " + acl + ","}, {"usr-b, type: usr,", "usr-b, type: " + acl + ","}}...)); report.Err() != nil {
		t.Errorf("the /usr of Azure Container Linux: %v", report.Err())
	}
}
