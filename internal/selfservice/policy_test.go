package selfservice

import (
	"os"
	"path/filepath"
	"testing"
)

func TestThePolicyThatWeShipIsSeen(t *testing.T) {
	for from, to := range map[string]string{
		"systemd-254": "etc/systemd/system", "systemd-259": "usr/lib/systemd",
	} {
		t.Run(from, func(t *testing.T) {
			s := &Service{Config: Config{Root: t.TempDir()}}
			if s.policyEnforced() {
				t.Error("seen before it was there")
			}
			if err := os.CopyFS(filepath.Join(s.Root, to), os.DirFS(filepath.Join("../../sysext/policy", from))); err != nil {
				t.Fatal(err)
			}
			if !s.policyEnforced() {
				t.Error("not seen")
			}
		})
	}
}
