package extension

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/systemd"
)

const (
	mergeTime = 3 * time.Minute // for a merge; it needs a second, six on an emulated machine
	blameTime = 10 * time.Second

	// The first versions of systemd that do this (its NEWS).
	reloadsItself   = 255 // reloads itself after a merge if EXTENSION_RELOAD_MANAGER says so
	takesVersions   = 255 // accepts a version in an image's name and none in its extension-release's
	takesSignatures = 259 // accepts a signature that it cannot check, unless its policy forbids it
)

// Check returns an error, of kind Precondition, if Apply would fail: if this systemd does
// not know the class, if a file of others has the path of an extension, or if systemd could
// not merge all extensions that it would find. One extension that systemd cannot mount
// keeps it from merging any, so Check also fails for a faulty extension of another vendor,
// and names it. Check changes nothing.
func (s *Store) Check(ctx context.Context, c Change) error {
	if c.Empty() {
		return nil
	}
	release, err := s.Systemd.Version(ctx)
	if err != nil {
		return err
	}
	if err := checkNames(c, release); err != nil {
		return err
	}
	for _, class := range c.classes() {
		if err := s.checkUnit(ctx, class, release); err != nil {
			return err
		}
		others, err := s.others(class, c)
		if err != nil {
			return err
		}
		if err := s.checkObstacles(class, c, others); err != nil {
			return err
		}
		if err := s.checkOthers(others, release); err != nil {
			return err
		}
	}
	return nil
}

// checkNames fails for an image with a version in its name if this systemd needs an
// extension-release with the whole name: without it systemd merges no extension at all.
func checkNames(c Change, release int) error {
	if release >= takesVersions {
		return nil
	}
	for _, i := range c.images {
		if e := i.ext; !i.inspection.isCalled(e.Name()) {
			err := errkind.Errorf(errkind.Precondition, "systemd %d of this host does not merge %s: its extension-release is called %s, without the version", release, e.Path, i.inspection.release.Name)
			return errkind.WithHint(err, "A version in the name of an image needs systemd %d. Leave the path out, or end it in %s.raw.", takesVersions, i.inspection.release.Name)
		}
	}
	return nil
}

func (s *Store) checkUnit(ctx context.Context, class Class, release int) error {
	facts := class.facts()
	_, err := s.Systemd.Unit(ctx, facts.unit)
	if release >= facts.minimal && errkind.Of(err) != errkind.NotFound {
		return err
	}
	return errkind.WithHint(errkind.Errorf(errkind.Precondition, "this host, with systemd %d, cannot merge a %s: there is no %s", release, class, facts.unit),
		"%ss need systemd %d or later, with %s.", class, facts.minimal, facts.unit)
}

// others returns the extensions that systemd finds besides those of the change.
func (s *Store) others(class Class, c Change) ([]discovered, error) {
	all, err := class.scan(s.Root)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(f discovered) bool {
		_, old := c.Old.at(class, f.Path)
		_, new := c.New.at(class, f.Path)
		return old || new
	}), nil
}

// checkObstacles fails if another extension has the name of one of the new generation,
// because systemd merges only one of them, or if a file of others has its path.
func (s *Store) checkObstacles(class Class, c Change, others []discovered) error {
	for _, e := range c.New {
		if e.Class != class {
			continue
		}
		for _, f := range others {
			if f.Name == e.Name() {
				return errkind.WithHint(errkind.Errorf(errkind.Precondition, "another %s has the name %s, at %s; systemd would merge only one of it and %s", class, f.Name, f.Path, e.Path),
					"Remove %s, or take %s out of the Host Configuration.", f.Path, e.Path)
			}
		}
		p, ok, err := s.placeOf(e, 0)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		now, _, err := p.occupant()
		if err != nil {
			return err
		}
		before, _ := c.Old.at(class, e.Path)
		if now == foreign || now == regular && !before.Regular && !e.Regular {
			return obstructed(e, now)
		}
	}
	return nil
}

func (s *Store) checkOthers(others []discovered, release int) error {
	c, err := s.checker(release)
	if err != nil {
		return err
	}
	for _, f := range firstHits(others) {
		if err := c.verdict(f); err != nil {
			return err
		}
	}
	for _, f := range others {
		if err := c.checkReserved(f, s.mounter()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) checker(release int) (checker, error) {
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return checker{}, err
	}
	certs, err := verityCerts(s.Root)
	return checker{inroot.FS(s.Root), host, certs, release >= takesSignatures}, err
}

// merge has systemd merge the extensions, and checks that systemd merged the new
// generation.
func (s *Store) merge(ctx context.Context, class Class, c Change) error {
	limited, cancel := context.WithTimeout(ctx, mergeTime)
	defer cancel()
	unit, since := class.facts().unit, time.Now()
	release, err := s.Systemd.Version(limited)
	if err != nil {
		return fmt.Errorf("merge %ss: %w", class, err)
	}
	err = s.touch("merge "+string(class)+"s", func() error {
		if err := s.Systemd.ReloadOrRestart(limited, unit); err != nil || release >= reloadsItself {
			return err
		}
		return s.Systemd.Reload(limited)
	})
	if err == nil {
		err = s.checkMerged(ctx, class, c)
	}
	if err == nil {
		return nil
	}
	if errkind.Of(err) == errkind.Internal {
		err = errkind.With(errkind.Unhealthy, err)
	}
	return fmt.Errorf("merge %ss: %w%s", class, err, s.blame(ctx, class, release, since))
}

// checkMerged compares the names that systemd reports as merged, and the extension-release
// files in the merged tree, with the images.
func (s *Store) checkMerged(ctx context.Context, class Class, c Change) error {
	names, err := class.Merged(s.Root)
	if err != nil {
		return err
	}
	for i, e := range c.New {
		if e.Class != class || !searched(e) {
			continue
		}
		if !slices.Contains(names, e.Name()) {
			if len(c.images) == 0 && s.isIgnored(ctx, e) {
				continue
			}
			return errkind.Errorf(errkind.Unhealthy, "systemd has refreshed and has not merged %s (it has merged: %s)", e.Name(), strings.Join(names, ", "))
		}
		if len(c.images) == 0 || c.images[i].inspection.lax {
			continue
		}
		seen, err := inroot.FS(s.Root).ReadFile(class.releaseFile(e.Name()), maxRelease)
		if err != nil {
			return fmt.Errorf("read the merged extension-release: %w", err)
		}
		if !bytes.Equal(seen, c.images[i].inspection.text) {
			return errkind.Errorf(errkind.Unhealthy, "systemd has merged another image as %s: the extension-release differs", e.Name())
		}
	}
	found, err := class.scan(s.Root)
	if err != nil {
		return err
	}
	for _, e := range c.removed(class) {
		byOther := slices.ContainsFunc(found, func(f discovered) bool { return f.Name == e.Name() })
		_, moved := find(c.New, func(n Extension) bool { return n.Class == class && n.Name() == e.Name() })
		if slices.Contains(names, e.Name()) && !byOther && !moved {
			return errkind.Errorf(errkind.Unhealthy, "systemd has refreshed, and %s is still merged", e.Name())
		}
	}
	return nil
}

// isIgnored reports whether systemd ignores an extension because it is made for another
// host, for example after an update of the system. It was not merged before either, so
// Undo does not expect it.
func (s *Store) isIgnored(ctx context.Context, e Extension) bool {
	_, err := s.Load(ctx, e)
	return errkind.Of(err) == errkind.Incompatible
}

// isMerged reports whether systemd has merged the generation since its links were made.
func (s *Store) isMerged(class Class, c Change) bool {
	names, err := class.Merged(s.Root)
	if err != nil {
		return false
	}
	for _, e := range c.removed(class) {
		if slices.Contains(names, e.Name()) {
			return false
		}
	}
	for _, e := range c.New {
		if e.Class != class || !searched(e) {
			continue
		}
		p, ok, err := s.placeOf(e, 0)
		if err != nil || !ok || !slices.Contains(names, e.Name()) {
			return false
		}
		info, err := os.Lstat(p.file)
		if err != nil || !mergedSince(s.Root, class, info) {
			return false
		}
	}
	return true
}

func find(g Generation, is func(Extension) bool) (Extension, bool) {
	i := slices.IndexFunc(g, is)
	if i < 0 {
		return Extension{}, false
	}
	return g[i], true
}

// searched reports whether the running system searches the folder of an extension; some
// folders are for an initrd only.
func searched(e Extension) bool {
	return slices.Contains(e.Class.facts().search, strings.TrimPrefix(path.Dir(e.Path), "/"))
}

// blame returns the end of an error that names the faulty extension and its fault, or "".
// systemd names the extension in its journal only.
func (s *Store) blame(ctx context.Context, class Class, release int, since time.Time) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), blameTime)
	defer cancel()
	all, err := class.scan(s.Root)
	if err != nil {
		return "; " + err.Error()
	}
	if c, err := s.checker(release); err == nil {
		for _, f := range firstHits(all) {
			if err := c.verdict(f); err != nil {
				return "; " + err.Error()
			}
		}
	}
	if s.Tools == nil {
		return ""
	}
	tail, err := systemd.JournalTail(ctx, s.Tools, []string{class.facts().unit}, since, 16<<10)
	if err != nil {
		return ""
	}
	return suspects(string(tail), all)
}

// suspects returns the last line of a journal that names an extension.
func suspects(journal string, all []discovered) string {
	lines := strings.Split(strings.TrimSpace(journal), "\n")
	for _, line := range slices.Backward(lines) {
		for _, f := range all {
			if strings.Contains(line, f.Name) && !strings.Contains(line, "Using extensions") {
				return fmt.Sprintf("; systemd said of %s: %.300s", f.Name, line)
			}
		}
	}
	return ""
}
