package selfservice

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/rescue"
)

// Carry makes the OS in the tree at root, which does not run and shares the store
// with this host, run the newer of its own Trident and the extension that is active
// here. It returns the version of that extension, or "" where it is dropped.
// systemd-sysext.service is the caller's to enable there.
func (s *Service) Carry(root string) (version string, err error) {
	active, link, err := rescue.LinkedVersion(s.Root)
	if err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	base, err := rescue.BaseVersion(root)
	if err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	if active == "" || base != "" && compare(base, active) >= 0 {
		active, link = "", ""
	} else if err := os.MkdirAll(filepath.Join(root, filepath.Dir(rescue.Link)), 0o755); err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	err = s.touch("carry trident", func() error { return rescue.SystemHost{Root: root, Out: io.Discard}.Swing(link) })
	if err != nil {
		return "", fmt.Errorf("carry trident across: %w", err)
	}
	return active, nil
}
