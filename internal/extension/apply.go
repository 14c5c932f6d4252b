package extension

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// Apply brings the new generation into service and returns once systemd has
// merged it, and nothing else of Trident's; then it will be there after a reboot
// too. It begins with Check. When it fails, what it did so far stays: the caller
// decides for another Apply or for Undo, which take up from wherever it was.
func (s *Store) Apply(ctx context.Context, c Change) error {
	if len(c.images) != len(c.New) {
		return errkind.Errorf(errkind.Internal, "apply extensions: the images were not verified")
	}
	if c.Empty() {
		return nil
	}
	if err := s.Check(ctx, c); err != nil {
		return err
	}
	for _, class := range c.classes() {
		if err := s.enable(ctx, class, c); err != nil {
			return err
		}
		if err := s.arrange(ctx, class, c, false); err != nil {
			return fmt.Errorf("apply %ss: %w", class, err)
		}
	}
	for _, class := range c.classes() {
		if err := s.merge(ctx, class, c); err != nil {
			return err
		}
	}
	return nil
}

// Undo brings the old generation back into service, however far an Apply of the
// change had come, and even if a wanted image is bad by now: it only wants the
// old ones to have their hash. It restores as much as it can and returns all
// that it could not. Where Apply did nothing it does nothing: systemd is not
// asked to merge what is merged, which might fail for the sake of others.
func (s *Store) Undo(ctx context.Context, c Change) error {
	if c.Empty() {
		return nil
	}
	back := c.back()
	var errs []error
	for _, class := range back.classes() {
		if err := s.arrange(ctx, class, back, true); err != nil {
			errs = append(errs, fmt.Errorf("undo %ss: %w", class, err))
		}
	}
	for _, class := range back.classes() {
		if !s.isMerged(class, back) {
			errs = append(errs, s.merge(ctx, class, back))
		}
	}
	return errors.Join(errs...)
}

// Place is Apply for an OS that does not run, whose tree is Root: what is in place
// then is merged when it boots, if systemd-sysext.service and
// systemd-confext.service are enabled there, which is the caller's to do. Nothing
// is merged, and Systemd is not asked.
func (s *Store) Place(ctx context.Context, c Change) error {
	if len(c.images) != len(c.New) {
		return errkind.Errorf(errkind.Internal, "place extensions: the images were not verified")
	}
	for _, class := range c.classes() {
		others, err := s.others(class, c)
		if err == nil {
			err = s.checkWay(class, c, others)
		}
		if err == nil {
			err = s.arrange(ctx, class, c, false)
		}
		if err != nil {
			return fmt.Errorf("place %ss: %w", class, err)
		}
	}
	return nil
}

// enable has systemd merge the extensions of the class at boot.
func (s *Store) enable(ctx context.Context, class Class, c Change) error {
	for _, e := range c.New {
		if e.Class == class {
			unit := class.facts().unit
			return s.touch("enable "+unit, func() error { return s.Systemd.Enable(ctx, unit) })
		}
	}
	return nil
}

// arrange makes the folders of a class hold the new generation. With distrust
// every image is hashed once more.
func (s *Store) arrange(ctx context.Context, class Class, c Change, distrust bool) error {
	var errs []error
	for _, e := range c.New {
		if e.Class != class {
			continue
		}
		if err := s.put(ctx, e, c.Old, distrust); err != nil {
			errs = append(errs, fmt.Errorf("put %s in place: %w", e.Path, err))
			if !distrust {
				break
			}
		}
	}
	if len(errs) > 0 && !distrust {
		return errors.Join(errs...)
	}
	for _, e := range c.removed(class) {
		if err := s.takeAway(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("take %s away: %w", e.Path, err))
		}
	}
	return errors.Join(errs...)
}

// put makes an extension be found.
func (s *Store) put(ctx context.Context, e Extension, old Generation, distrust bool) error {
	p, ok, err := s.spot(e, 0)
	if err == nil && !ok {
		err = s.touch("make folder", func() error {
			p, _, err = s.spot(e, 0o755)
			return err
		})
	}
	if err != nil {
		return err
	}
	now, hash, err := p.look()
	if err != nil {
		return err
	}
	before, known := old.at(e.Class, e.Path)
	switch {
	case now == foreign, now == regular && !e.Regular && !(known && before.Regular):
		return inTheWay(e, now)
	case e.Regular && now == regular, !e.Regular && now == linked && hash == e.SHA384:
		return nil
	case e.Regular:
		return s.touch("give back "+e.Name(), func() error { return p.giveBack(ctx) })
	}
	if distrust {
		if err := checkHash(ctx, p.image(), e.SHA384); err != nil {
			return err
		}
	}
	if now == regular {
		kept, _, err := s.spot(before, 0)
		if err != nil {
			return err
		}
		if err := s.touch("keep "+e.Name(), func() error { return kept.keep(ctx) }); err != nil {
			return err
		}
	}
	return s.touch("link "+e.Name(), p.swing)
}

// swing makes the place a link to its image in the store.
func (p spot) swing() error {
	if _, err := os.Stat(p.image()); err != nil {
		return err
	}
	link, err := p.link()
	if err != nil {
		return err
	}
	if err := atomicfile.Sweep(p.file); err != nil {
		return err
	}
	return atomicfile.Symlink(link, p.file)
}

// takeAway makes an extension be found no more. What others put in its place
// since is left alone.
func (s *Store) takeAway(ctx context.Context, e Extension) error {
	p, ok, err := s.spot(e, 0)
	if err != nil || !ok {
		return err
	}
	now, _, err := p.look()
	switch {
	case err != nil:
		return err
	case now == regular && e.Regular:
		err := s.touch("keep "+e.Name(), func() error {
			// There may be no store yet on a host that comes from upstream.
			if p, _, err = s.spot(e, 0o755); err != nil {
				return err
			}
			return p.keep(ctx)
		})
		if err != nil {
			return err
		}
	case now != linked:
		return nil
	}
	return s.touch("remove "+e.Name(), func() error {
		return errors.Join(atomicfile.Remove(p.file), atomicfile.Sweep(p.file))
	})
}

func inTheWay(e Extension, what state) error {
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s is %s, which is in the way of %s %s", e.Path, what, e.Class, e.Name()),
		"Move %s away, or give the extension another path.", e.Path)
}

// Find says which of the extensions that a recorded configuration names are on
// this host, and how. One without a path is looked for by its hash; one that is
// not there is left out, as is one whose place something else has taken.
func (s *Store) Find(recorded []Extension) (Generation, error) {
	var found Generation
	for _, e := range recorded {
		e.SHA384 = strings.ToLower(e.SHA384)
		places, err := s.placesOf(e)
		if err != nil {
			return nil, fmt.Errorf("find %s %s: %w", e.Class, e.SHA384, err)
		}
		for _, at := range places {
			e.Path = at
			p, ok, err := s.spot(e, 0)
			if err != nil {
				return nil, fmt.Errorf("find %s: %w", e.Path, err)
			}
			if !ok {
				continue
			}
			now, hash, err := p.look()
			if err != nil {
				return nil, fmt.Errorf("find %s: %w", e.Path, err)
			}
			if now == regular || now == linked && hash == e.SHA384 {
				e.Regular = now == regular
				found = append(found, e)
				break
			}
		}
	}
	return found, nil
}

// placesOf lists where an extension can be.
func (s *Store) placesOf(e Extension) ([]string, error) {
	if e.Path != "" {
		return []string{e.Path}, checkPath(e.Class, e.Path)
	}
	var places []string
	for _, dir := range e.Class.facts().allowed {
		links, err := s.links(dir)
		if err != nil {
			return nil, err
		}
		for name, hash := range links {
			if hash == e.SHA384 {
				places = append(places, "/"+dir+"/"+name)
			}
		}
	}
	return places, nil
}

// links are the links of ours in a folder: file name to hash.
func (s *Store) links(dir string) (map[string]string, error) {
	real, err := s.folder(dir, 0)
	if err != nil || real == "" {
		return nil, err
	}
	store, err := s.folder(storeDir, 0)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		now, hash, err := spot{file: filepath.Join(real, e.Name()), store: store}.look()
		if err != nil {
			return nil, err
		}
		if now == linked {
			out[e.Name()] = hash
		}
	}
	return out, nil
}
