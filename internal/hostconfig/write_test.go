package hostconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"github.com/trident-project/trident/internal/hostconfig/hostconfigtest"
)

func TestTheCanonicalDocumentReadsAsTheSame(t *testing.T) {
	t.Parallel()
	for name, text := range hostconfigtest.Upstream(t, "../..") {
		c := mustParse(t, string(text))
		again := mustParse(t, string(c.YAML()))
		if diff := cmp.Diff(c.Spec(), again.Spec()); diff != "" {
			t.Errorf("%s (-first +again):\n%s", name, diff)
		}
		if string(c.YAML()) != string(again.YAML()) {
			t.Errorf("%s is not stable", name)
		}
	}
}

func TestTheCanonicalDocumentIsInAFixedForm(t *testing.T) {
	t.Parallel()
	c := recorded(t, `
health: {checks: [{systemdServices: [a], timeoutSeconds: 30}, {systemdServices: [b], timeoutSeconds: 0}, {content: ""}]}
os:
  uefiFallback: conservative
  users: [{name: "1", uid: 0, sshMode: block, password: {type: locked}}]
  additionalFiles: [{destination: /x, content: "one\ntwo\n", permissions: 0755}, {destination: /y, content: "\u0001 \n\n"}]
  netplan: {version: 2, ethernets: {e: {dhcp4: yes, mac: 52:54:00:12:34:56, mtu: 0x5dc, "off": "on"}}}
storage:
  swap: [s]
  raid: {syncTimeout: 0}
  encryption: {pcrs: [8, 7, kernel-boot], volumes: []}
  filesystems: [{deviceId: d, source: image, mountPoint: /}]
  abUpdate: {volumePairs: []}
`)
	hostconfigtest.Golden(t, "canonical.yaml", string(c.YAML()))
}

func TestAnEmptyDocumentIsAnEmptyMapping(t *testing.T) {
	t.Parallel()
	if got := string(mustParse(t, "os: {services: {enable: []}}").YAML()); got != "{}\n" {
		t.Errorf("got %q", got)
	}
}

func TestAmendDoesNotChangeItsReceiver(t *testing.T) {
	t.Parallel()
	c := recorded(t, hostconfigtest.Whole())
	before := string(c.YAML())
	same := c.Amend(func(*Spec) {})
	if diff := cmp.Diff(c.Spec(), same.Spec()); diff != "" || string(same.YAML()) != before {
		t.Errorf("the copy differs:\n%s", diff)
	}
	other := c.Amend(func(s *Spec) {
		s.Image.SHA384 = "x"
		s.OS.Sysexts[0].Path = "x"
		s.OS.Netplan["version"] = 3
		s.InternalParams["anything"].([]any)[0] = "x"
		*s.Storage.RAID.SyncTimeout = 77
		s.Health.Checks[0].Script.Arguments = []string{"x"}
		s.Scripts.PreServicing[0].EnvironmentVariables["K"] = "x"
	})
	if string(c.YAML()) != before {
		t.Errorf("the first changed:\n%s", cmp.Diff(before, string(c.YAML())))
	}
	if got := string(other.YAML()); got == before || !strings.Contains(got, "syncTimeout: 77") {
		t.Errorf("nothing changed:\n%s", got)
	}
}

// What is text here is text for other readers, too: netplan's and upstream's.
func TestTextIsWrittenAsText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "x", "true", "Yes", "off", "~", "null", "1", "-1", "1.5", "1e3", "0x10", "0o7", "0755", "1_000", "12:30", "52:54:00:12:34:56", ".inf",
		"2020-01-01", "<<", "=", "- x", "a: b", "# x", "x #y", "'", `"`, "*a", "&a", "!a", "%a", "@a", "`a", "a\nb", "a\n", "\na", "a\n\n", " a\nb",
		"a \nb", "a\n \nb", "\ta\nb", "a\rb", "a\u2028b", "\u0085", "\ufeff", "\x01", "\u00e9", "日本", "---", "...", "a\n---\nb", "a\n...\n", "|", ">", "?", "? x",
	} {
		c := &Config{}
		c.spec.OS.Netplan = Netplan{"k": text}
		c.spec.OS.Services.Enable = []string{text}
		out := c.YAML()
		var got struct {
			OS struct {
				Netplan  map[string]any
				Services struct{ Enable []any }
			} `yaml:"os"`
		}
		if err := yaml.Load(out, &got); err != nil {
			t.Errorf("%q: %v in %q", text, err, out)
			continue
		}
		if got.OS.Netplan["k"] != text || len(got.OS.Services.Enable) != 1 || got.OS.Services.Enable[0] != text {
			t.Errorf("%q reads as %q in %q", text, got.OS, out)
		}
	}
}
