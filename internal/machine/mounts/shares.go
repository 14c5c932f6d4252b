package mounts

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
)

// A Share is a file system of another host.
type Share struct {
	Request   // without credentials
	IsMounted bool
	Unit      string
}

// Shares returns the shares that are mounted, and those that Trident mounts at each boot, in
// the order of their places.
func (s *Service) Shares() ([]Share, error) {
	all, err := s.table()
	if err != nil {
		return nil, err
	}
	found := map[string]Share{}
	for _, m := range all {
		if isShare(m.FSType) {
			found[m.Mountpoint] = Share{Request{What: m.Source, Where: m.Mountpoint, Type: m.FSType, Options: strings.Split(m.Options, ",")}, true, unitOf(m.Mountpoint)}
		}
	}
	files, err := os.ReadDir(s.path(unitFolder))
	if err != nil && !os.IsNotExist(err) {
		return nil, errkind.Errorf(errkind.Of(err), "read %s: %w", unitFolder, err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".mount") {
			continue
		}
		r, ok, err := s.readUnitFile(f.Name())
		if err != nil {
			return nil, err
		}
		if !ok || !isShare(r.Type) {
			continue
		}
		_, isMounted := found[r.Where]
		found[r.Where] = Share{r, isMounted, f.Name()}
	}
	out := make([]Share, 0, len(found))
	for _, share := range found {
		out = append(out, share)
	}
	slices.SortFunc(out, func(a, b Share) int { return cmp.Compare(a.Where, b.Where) })
	return out, nil
}
