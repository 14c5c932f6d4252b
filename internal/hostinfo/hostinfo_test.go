package hostinfo

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func machine() string {
	return map[string]string{"amd64": "x86-64", "arm64": "arm64"}[runtime.GOARCH]
}

func TestReadReturnsTheFieldsOfOsRelease(t *testing.T) {
	const boot = "0c1f2f6e-71b3-4b0e-9e5f-6d9f3f3f0a11"
	root := t.TempDir()
	write(t, root, "usr/lib/os-release", "ID=other\n")
	write(t, root, "usr/share/os-release", "ID=azurelinux\nID_LIKE=\"fedora  rhel\"\nVERSION_ID=\"3.0\"\nSYSEXT_LEVEL='1.0'\nCONFEXT_LEVEL=2\n")
	write(t, root, "proc/sys/kernel/random/boot_id", boot+"\n")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/share/os-release", filepath.Join(root, "etc/os-release")); err != nil {
		t.Fatal(err)
	}
	got, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	want := Host{ID: "azurelinux", IDLike: []string{"fedora", "rhel"}, VersionID: "3.0", SysextLevel: "1.0", ConfextLevel: "2", Architecture: machine(), BootID: boot}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutTheFileInEtcTheOneInUsrCounts(t *testing.T) {
	root := t.TempDir()
	if _, err := Read(root); err == nil {
		t.Error("a host without os-release was read")
	}
	write(t, root, "usr/lib/os-release", "ID=debian\n")
	got, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Host{ID: "debian", Architecture: machine()}, got, cmp.Transformer("", func(s []string) string { return strings.Join(s, " ") })); diff != "" {
		t.Error(diff)
	}
}

func TestAnInvalidBootIDIsAnError(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/os-release", "ID=debian\n")
	write(t, root, "proc/sys/kernel/random/boot_id", "today\n")
	if _, err := Read(root); err == nil || !strings.Contains(err.Error(), "boot ID") {
		t.Errorf("got %v", err)
	}
}

func TestTheRunningHostHasABootID(t *testing.T) {
	if _, err := os.Stat("/usr/lib/os-release"); err != nil {
		t.Skip("this system has no os-release")
	}
	h, err := Read("/")
	if err != nil {
		t.Fatal(err)
	}
	if h.BootID == "" || h.Architecture != machine() {
		t.Errorf("read %+v", h)
	}
}

func TestAssignmentsAreReadAsAShellWould(t *testing.T) {
	for in, want := range map[string]map[string]string{
		"":                            {},
		"A=1":                         {"A": "1"},
		"A=1\nB=2\nA=3\n":             {"A": "3", "B": "2"},
		"# A=1\n; B=2\n\n  C=3\n":     {"C": "3"},
		"A=\nB=\"\"\n":                {"A": "", "B": ""},
		"A= spaced out \t\n":          {"A": "spaced out"},
		"A=crlf\r\nB=x\r\n":           {"A": "crlf", "B": "x"},
		"A=\" kept \" \n":             {"A": " kept "},
		`A="a\"b\\c\$d\` + "`e\\nf\"": {"A": "a\"b\\c$d`e\\nf"},
		`A='a\"b'`:                    {"A": `a\"b`},
		`A=a\ b\"c`:                   {"A": `a b"c`},
		`A="x"'y'z`:                   {"A": "xyz"},
		"A=\"two\nlines\"\nB=1":       {"A": "two\nlines", "B": "1"},
		"A=joi\\\nned\nB=1":           {"A": "joined", "B": "1"},
		"A=end\\":                     {"A": "end"},
		"no assignment\n9A=1\nA B=2":  {},
		"A=b=c # no comment":          {"A": "b=c # no comment"},
		"A =1":                        {"A": "1"},
		"A=ä":                         {"A": "ä"},
	} {
		got, err := ParseEnv(strings.NewReader(in))
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestInvalidTextIsAnError(t *testing.T) {
	for name, in := range map[string]string{
		"line 2: the quote is not closed": "A=1\nB=\"x\nC=2\n",
		"line 1: the quote is not closed": "A='",
		"not UTF-8":                       "A=\xff\n",
		"a NUL":                           "A=\x00\n",
		"more than 65536 bytes":           strings.Repeat("A=1\n", 16<<10+1),
	} {
		if got, err := ParseEnv(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v, %v", name, got, err)
		}
	}
	_, err := ParseEnv(strings.NewReader(strings.Repeat("x", maxEnv+1)))
	if errkind.Of(err) != errkind.TooLarge {
		t.Errorf("kind %s", errkind.Of(err))
	}
}

func FuzzParseEnv(f *testing.F) {
	for _, seed := range []string{"", "A=1\n", "A=\"b\\\"\n'\"", "A='x'\\\n\\", "#\n;\n=\n==", "A=\"\\", "\r\n\tA\t=\t1\t"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := ParseEnv(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		// What was read can be written in single quotes and read again.
		var b strings.Builder
		for k, v := range vars {
			if !envKey.MatchString(k) {
				t.Errorf("key %q", k)
			}
			b.WriteString(k + "='" + strings.ReplaceAll(v, "'", `'\''`) + "'\n")
		}
		if b.Len() > maxEnv {
			return
		}
		again, err := ParseEnv(strings.NewReader(b.String()))
		if err != nil || !maps.Equal(vars, again) {
			t.Errorf("%q became %q, %v", vars, again, err)
		}
	})
}
