package hostconfig

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// messages are severity and path of every finding.
func messages(report Report) []string {
	var out []string
	for _, f := range report {
		out = append(out, fmt.Sprintf("%s %s", f.Severity, f.Path))
	}
	return out
}

func TestAllFaultsAreFoundAtOnce(t *testing.T) {
	t.Parallel()
	_, report := Parse([]byte(document(t, "wrong", nil)))
	golden(t, "static/wrong.report", lines(report))
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
		{"agent", "trident: {phonehome: 'https://example.org'}", ""},
		{"storage of the host", "image: {url: 'https://example.org/x.cosi', sha384: ignored}\nos: {users: [{name: alice}]}", ""},
	} {
		_, report := Parse([]byte(tt.text))
		if got := strings.Join(messages(report), ", "); got != tt.want {
			t.Errorf("%s: got %q, wants %q: %v", tt.name, got, tt.want, report)
		}
	}
}

func TestWhatCannotBeMeantIsWarnedOf(t *testing.T) {
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
		{"os.sysexts[1].path", "slots", []change{{"/etc/extensions/two.raw", "/var/lib/confexts/two.raw"}}},
		{"os.selinux.mode", "verity", []change{{"os:", "os:\n  selinux: {mode: enforcing}"}}},
		{"storage.filesystems[3].mountPoint.path", "slots", []change{{"{id: secret, ", "{id: secret, type: var, "}}},
		{"storage.filesystems", "usr", []change{{"image:\n  url: oci://example.org/os:1\n  sha384: ignored\n", ""}}},
		{"trident.datastorePath", "slots", []change{{"source: new, mountPoint: /var/lib/trident}", "source: new, mountPoint: {path: /var/lib/trident, options: ro}}"}}},
		{"storage.encryption.volumes", "slots", []change{{"\n    - {id: vault, deviceName: vault, deviceId: secret}", " []"}, {"  - {deviceId: vault, source: new, mountPoint: /srv}\n", ""}}},
	} {
		_, report := Parse([]byte(document(t, tt.doc, tt.changes)))
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
		if _, report := Parse([]byte(document(t, doc, nil))); len(report) > 0 {
			t.Errorf("%s: %v", doc, report)
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
		_, report := Parse([]byte(document(t, "slots", []change{{tt.old, "{name: x, runOn: [all]" + tt.source + "}"}})))
		if !slices.ContainsFunc(report, func(f Finding) bool { return f.Path == tt.path && f.Name == NameParse }) {
			t.Errorf("%s with %q: %v", tt.path, tt.source, report)
		}
	}
}

func TestAUnitWithoutANameIsRefused(t *testing.T) {
	t.Parallel()
	_, report := Parse([]byte(document(t, "slots", []change{{"[sshd.service]", "[sshd.service, '']"}})))
	if err := report.Err(); err == nil || report[0].Path != "health.checks[1].systemdServices[1]" {
		t.Errorf("got %v", report)
	}
}

// Secrets may stand in scripts, in netplan and in URLs.
func TestNoFindingTellsASecret(t *testing.T) {
	t.Parallel()
	_, report := Parse([]byte(document(t, "slots", []change{
		{"{name: hook, runOn: [all], content: \"true\"}", "{name: hook, content: hunter2, path: x}"},
		{"eth0: {dhcp4: true}", "'eth*': {auth: {password: hunter2}, renderer: NetworkManager}"},
		{"file:///recovery.key", "https://user:hunter2@example.org/key"},
		{"content: hello", "content: hunter2, source: /x"},
	})))
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
	start := time.Now()
	_, report := Parse([]byte(b.String()))
	if len(report) == 0 || len(report) > maxFindings {
		t.Errorf("%d findings", len(report))
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAPartitionTypeByItsUUIDIsTheSameType(t *testing.T) {
	t.Parallel()
	uuids := []change{
		{"{id: esp, type: esp,", "{id: esp, type: C12A7328-F81F-11D2-BA4B-00A0C93EC93B,"},
		{"{id: swap, type: swap,", "{id: swap, type: 0657fd6d-a4ab-43c4-84e5-0933c84b4f4f,"},
		{"{id: root-b, type: root,", "{id: root-b, type: 4f68bce3-e8cd-4db1-96e7-fbcaf984b709,"},
		{"{id: right,", "{id: right, type: 0fc63daf-8483-4772-8e79-3d69d8477de4,"},
	}
	if _, report := Parse([]byte(document(t, "slots", uuids))); len(report) > 0 {
		t.Errorf("slots: %v", report)
	}
	for _, usr := range [][2]string{{"8484680c-9521-48c6-9c11-b0720656f69e", "77ff5f63-e7b6-4633-acf4-1565b864c0e6"},
		{"b0e01050-ee5f-4390-949a-9101b17104e9", "6e11a4e7-fbca-4ded-b9e9-e1a512bb664e"}} {
		if _, report := Parse([]byte(document(t, "usr", []change{{"usr-a, type: usr,", "usr-a, type: " + usr[0] + ","}, {"usr-hash-a, type: usr-verity,", "usr-hash-a, type: " + usr[1] + ","}}))); len(report) > 0 {
			t.Errorf("usr: %v", report)
		}
	}
	if _, report := Parse([]byte(document(t, "usr", []change{{"usr-a, type: usr,", "usr-a, type: 2c7357ed-ebd2-46d9-aec1-23d437ec2bf5,"}}))); report.Err() == nil {
		t.Error("data on a partition for hashes was taken")
	}
}
