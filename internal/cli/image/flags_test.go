package image

import (
	"os"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/cli/command/commandtest"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/image/build"
)

func TestFlagsBecomeOptions(t *testing.T) {
	t.Parallel()
	built, err := commandtest.Parse(t, newBuildCommand, "f", "--disk", "d", "--mount", "a,b", "--mount", "c", "--os-release", "o", "--packages", "p", "--bootloader", "grub", "--arch", "arm64", "--id", "i", "--sysext", "s", "--confext", "c", "--confext", "e", "--frame-size", "4K")
	commandtest.Want(t, &buildOptions{image: "f", frameSize: "4K", Options: build.Options{
		Disk: "d", Mounts: []string{"a,b", "c"}, OSRelease: "o", Packages: "p", Bootloader: "grub", Arch: "arm64", ID: "i", Sysexts: []string{"s"}, Confexts: []string{"c", "e"},
	}}, built, err)
	verified, err := commandtest.Parse(t, newVerifyCommand, "s", "--sha384", "x", "--relaxed", "--auth-file", "a", "--ca", "c")
	commandtest.Want(t, &imageSource{source: "s", sha384: "x", relaxed: true, authFile: "a", caFile: "c"}, verified, err)
	for name, args := range map[string][]string{
		"neither disk nor partition": {"f", "--os-release", "o", "--arch", "arm64"},
		"both":                       {"f", "--os-release", "o", "--arch", "arm64", "--disk", "d", "--partition", "p"},
		"a mount of a partition":     {"f", "--os-release", "o", "--arch", "arm64", "--mount", "d", "--partition", "p"},
		"no file":                    {"--os-release", "o", "--arch", "arm64", "--disk", "d"},
		"no system":                  {"f", "--arch", "arm64", "--disk", "d"},
	} {
		if _, err := commandtest.Parse(t, newBuildCommand, args...); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCredentialsAreFoundByTheirRegistry(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/auth.json"
	if err := os.WriteFile(path, []byte(`{"auths":{"r.example":{"auth":"dXNlcjpwYXNz"},"https://s.example":{"auth":"YTpiOmM="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	login, err := (&imageSource{authFile: path}).login()
	if err != nil {
		t.Fatal(err)
	}
	for registry, want := range map[string][2]string{"r.example": {"user", "pass"}, "s.example": {"a", "b:c"}, "other": {}} {
		if c, err := login(t.Context(), registry); err != nil || c.Username != want[0] || c.Password != want[1] {
			t.Errorf("%s: %+v, %v", registry, c, err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"auths":{"r.example":{"auth":"=secret="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&imageSource{authFile: path}).login(); errkind.Of(err) != errkind.Invalid || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
