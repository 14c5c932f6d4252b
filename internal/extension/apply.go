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

// Apply activates the new generation, for this boot and the next ones, and returns when
// systemd has merged it. Apply begins with Check. A failed Apply restores nothing: the
// caller calls Apply again, or Undo; both accept any state that Apply leaves.
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

// Undo restores the old generation after an Apply of the change, complete or not. It fails
// for an old image that is missing or has another hash, restores all others, and returns all
// errors. If the old generation is merged already, Undo does not merge it again, because a
// faulty extension of another vendor could make a merge fail.
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

// Place is Apply for an OS that does not run, whose tree is Root. It does not merge, and
// does not call Systemd. The OS merges the extensions when it boots, if the caller has
// enabled its systemd-sysext.service and systemd-confext.service.
func (s *Store) Place(ctx context.Context, c Change) error {
	if len(c.images) != len(c.New) {
		return errkind.Errorf(errkind.Internal, "place extensions: the images were not verified")
	}
	for _, class := range c.classes() {
		others, err := s.others(class, c)
		if err == nil {
			err = s.checkObstacles(class, c, others)
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

// arrange makes the links of the new generation of a class and removes those of the old
// one. With distrust it hashes every image again and continues after an error.
func (s *Store) arrange(ctx context.Context, class Class, c Change, distrust bool) error {
	var errs []error
	for _, e := range c.New {
		if e.Class != class {
			continue
		}
		if err := s.put(ctx, e, c.Old, distrust); err != nil {
			errs = append(errs, fmt.Errorf("place %s: %w", e.Path, err))
			if !distrust {
				break
			}
		}
	}
	if len(errs) > 0 && !distrust {
		return errors.Join(errs...)
	}
	for _, e := range c.removed(class) {
		if err := s.remove(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", e.Path, err))
		}
	}
	return errors.Join(errs...)
}

// put makes the file or the link by which systemd finds an extension.
func (s *Store) put(ctx context.Context, e Extension, old Generation, distrust bool) error {
	p, ok, err := s.placeOf(e, 0)
	if err == nil && !ok {
		err = s.touch("make folder", func() error {
			p, _, err = s.placeOf(e, 0o755)
			return err
		})
	}
	if err != nil {
		return err
	}
	now, hash, err := p.occupant()
	if err != nil {
		return err
	}
	before, known := old.at(e.Class, e.Path)
	switch {
	case now == foreign, now == regular && !e.Regular && !(known && before.Regular):
		return obstructed(e, now)
	case e.Regular && now == regular, !e.Regular && now == linked && hash == e.SHA384:
		return nil
	case e.Regular:
		return s.touch("give back "+e.Name(), func() error { return p.restoreFile(ctx) })
	}
	if distrust {
		if err := checkHash(ctx, p.image(), e.SHA384); err != nil {
			return err
		}
	}
	if now == regular {
		former, _, err := s.placeOf(before, 0)
		if err != nil {
			return err
		}
		if err := s.touch("keep "+e.Name(), func() error { return former.copyToStore(ctx) }); err != nil {
			return err
		}
	}
	return s.touch("link "+e.Name(), p.repoint)
}

// repoint makes the place a link to its image in the store, in one step.
func (p place) repoint() error {
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

// remove removes the file or the link of an extension. It does not remove a file that Trident
// did not write.
func (s *Store) remove(ctx context.Context, e Extension) error {
	p, ok, err := s.placeOf(e, 0)
	if err != nil || !ok {
		return err
	}
	now, _, err := p.occupant()
	switch {
	case err != nil:
		return err
	case now == regular && e.Regular:
		err := s.touch("keep "+e.Name(), func() error {
			// A host that upstream's Trident serviced may have no store yet.
			if p, _, err = s.placeOf(e, 0o755); err != nil {
				return err
			}
			return p.copyToStore(ctx)
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

func obstructed(e Extension, what state) error {
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "%s is %s; the %s %s needs that path", e.Path, what, e.Class, e.Name()),
		"Move %s to another folder, or give the extension another path.", e.Path)
}

// Linked returns the extensions that the host has by a link into the store, in the order in which
// systemd finds them, without an image of Trident itself.
func (s *Store) Linked() (Generation, error) {
	var out Generation
	for _, class := range []Class{Sysext, Confext} {
		found, err := class.scan(s.Root)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			e := Extension{Class: class, Path: f.Path}
			if f.Kind != formRaw || f.Name == Own {
				continue
			}
			p, ok, err := s.placeOf(e, 0)
			if err != nil {
				return nil, fmt.Errorf("find %s: %w", f.Path, err)
			}
			if !ok {
				continue
			}
			now, hash, err := p.occupant()
			if err != nil {
				return nil, fmt.Errorf("find %s: %w", f.Path, err)
			}
			if now == linked {
				e.SHA384 = hash
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// Find returns the extensions of a recorded configuration that this host has, with their
// paths. It finds an extension without a path by its hash. It omits an extension that the
// host does not have, and one whose path has another file.
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
			p, ok, err := s.placeOf(e, 0)
			if err != nil {
				return nil, fmt.Errorf("find %s: %w", e.Path, err)
			}
			if !ok {
				continue
			}
			now, hash, err := p.occupant()
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

// placesOf returns the paths that an extension may have.
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

// links returns the links to the store in a folder: a map of file names to hashes.
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
		now, hash, err := place{file: filepath.Join(real, e.Name()), store: store}.occupant()
		if err != nil {
			return nil, err
		}
		if now == linked {
			out[e.Name()] = hash
		}
	}
	return out, nil
}
