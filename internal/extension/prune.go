package extension

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Prune removes from the store the images that neither a generation of keep nor a link for
// systemd needs, and the files of interrupted fetches. Do not call it while Stage runs.
func (s *Store) Prune(keep ...Generation) error {
	dir, err := s.folder(storeDir, 0)
	if err != nil || dir == "" {
		return err
	}
	inUse, err := s.inUse()
	if err != nil {
		return fmt.Errorf("prune extensions: %w", err)
	}
	needed := func(hash string) bool {
		for _, g := range keep {
			if g.has(hash) {
				return true
			}
		}
		return inUse[hash]
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("prune extensions: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		remove := atomicfile.Remove
		switch hash, isImage := strings.CutSuffix(name, ".raw"); {
		case isImage && storedName.MatchString(name) && !needed(hash):
		case strings.HasSuffix(name, ".part"):
			remove = fetch.Remove
		case strings.Contains(name, ".part."): // what a fetch made beside its part
		default:
			continue
		}
		errs = append(errs, s.touch("prune image", func() error { return remove(filepath.Join(dir, name)) }))
	}
	return errors.Join(errs...)
}

// inUse returns the hashes of the images to which Trident's links for systemd point.
func (s *Store) inUse() (map[string]bool, error) {
	out := map[string]bool{}
	for _, class := range []Class{Sysext, Confext} {
		for _, dir := range class.facts().allowed {
			links, err := s.links(dir)
			if err != nil {
				return nil, err
			}
			for _, hash := range links {
				out[hash] = true
			}
		}
	}
	return out, nil
}
