package selfservice

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/systemd/systemdtest"
)

func TestThePolicyThatWeShipIsSeen(t *testing.T) {
	for from, to := range map[string]string{
		"systemd-254": "etc/systemd/system", "systemd-259": "usr/lib/systemd",
	} {
		t.Run(from, func(t *testing.T) {
			s := &Service{Config: Config{Root: t.TempDir(), Systemd: &systemdtest.Fake{Release: 259}}}
			if s.policyEnforced(t.Context()) {
				t.Error("seen before it was there")
			}
			if err := os.CopyFS(filepath.Join(s.Root, to), os.DirFS(filepath.Join("../../sysext/policy", from))); err != nil {
				t.Fatal(err)
			}
			if !s.policyEnforced(t.Context()) {
				t.Error("not seen")
			}
			s.Systemd = &systemdtest.Fake{Release: 258} // does not read sysext.conf
			if got, want := s.policyEnforced(t.Context()), from == "systemd-254"; got != want {
				t.Errorf("by systemd 258: %t, want %t", got, want)
			}
		})
	}
}

func TestAWeakPolicyDoesNotDemandSignatures(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a comment":       {"etc/systemd/sysext.conf": "[SysExt]\n#ImagePolicy=" + strictPolicy + "\n"},
		"a wider policy":  {"etc/systemd/sysext.conf": "[SysExt]\nImagePolicy=" + strictPolicy + "+unprotected\n"},
		"two that differ": {"etc/systemd/sysext.conf": "ImagePolicy=" + strictPolicy + "\n", "usr/lib/systemd/sysext.conf.d/a.conf": "ImagePolicy=*\n"},
		"a wider drop-in": {"etc/systemd/system/systemd-sysext.service.d/a.conf": "ExecStart=\nExecStart=systemd-sysext refresh --image-policy=" + strictPolicy + "+verity\n"},
		"only a start":    {"etc/systemd/system/systemd-sysext.service.d/a.conf": "ExecStart=systemd-sysext refresh --image-policy=" + strictPolicy + "\n"},
		"only a reload":   {"etc/systemd/system/systemd-sysext.service.d/a.conf": "ExecReload=systemd-sysext refresh --image-policy=" + strictPolicy + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Service{Config: Config{Root: t.TempDir(), Systemd: &systemdtest.Fake{Release: 260}}}
			for path, text := range files {
				path = filepath.Join(s.Root, path)
				if err := hosttest.MkdirAll(filepath.Dir(path)); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if s.policyEnforced(t.Context()) {
				t.Error("it is said to be demanded")
			}
		})
	}
}
