package updates

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/feed"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// IncomingDir is the folder, below the root folder of the host, that systemd-sysupdate fills.
const IncomingDir = "var/lib/trident/incoming"

// Source returns where the image of a version is, and the version: the offered one if version
// is "". A version that the caller names may be one that only [Superseded] and [InWindow] keep
// from being offered, because a person who names it decides about both. The source has the
// patches from images that this host has, and the bound of the policy on bytes.
//
// If the version is not offered, the error has the reasons, and the kind of the first one. It
// is errkind.NotFound for a version that the channel does not have.
func (s *Service) Source(ctx context.Context, version string) (fetch.Source, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.ask(ctx)
	if err != nil {
		return fetch.Source{}, "", fmt.Errorf("choose a version of the update feed: %w", err)
	}
	r, err := a.choose(version)
	if err != nil {
		return fetch.Source{}, "", fmt.Errorf("choose a version of the update feed: %w", err)
	}
	src, err := a.source(r)
	return src, r.Version, err
}

// choose returns the offered release, or the release of a version.
func (a *answer) choose(version string) (offered, error) {
	all, offer := a.verdicts()
	if len(a.catalog.faults) > 0 {
		return offered{}, refusal(a.catalog.faults)
	}
	if version == "" && offer >= 0 {
		return all[offer].offered, nil
	}
	if version == "" {
		if len(all) == 0 {
			return offered{}, errkind.Errorf(errkind.NotFound, "the channel %s has no version", a.channel)
		}
		return offered{}, fmt.Errorf("the newest version of the channel, %s, is not offered: %w", all[0].Version, refusal(all[0].reasons))
	}
	at := slices.IndexFunc(all, func(v verdict) bool { return v.Version == version })
	if at < 0 {
		return offered{}, errkind.Errorf(errkind.NotFound, "the channel %s does not have version %.80q", a.channel, version)
	}
	reasons := slices.DeleteFunc(all[at].reasons, func(r Reason) bool { return r.Kind == Superseded || r.Kind == InWindow })
	if len(reasons) > 0 {
		return offered{}, fmt.Errorf("version %s is not offered: %w", version, refusal(reasons))
	}
	return all[at].offered, nil
}

// refusal returns the reasons as an error with the kind of the first one.
func refusal(reasons []Reason) error {
	kind := errkind.Precondition
	switch reasons[0].Kind {
	case Unreachable, Stale:
		kind = errkind.Unavailable
	case Untrusted:
		kind = errkind.Untrusted
	case Current:
		kind = errkind.Exists
	case TooOld:
		kind = errkind.TooOld
	case IsBlocked:
		kind = errkind.Blocked
	case Architecture, OS:
		kind = errkind.Incompatible
	}
	var text []string
	for _, r := range reasons {
		text = append(text, r.Message)
	}
	return errkind.Errorf(kind, "%s", strings.Join(text, " "))
}

// source returns the source of r.
func (a *answer) source(r offered) (fetch.Source, error) {
	from := fetch.Source{URL: a.policy.Feed}
	src, err := below(from, r.Path)
	if err != nil {
		return src, err
	}
	src.SHA256, src.Size, src.MaxBytes = r.SHA256, r.Size, a.policy.MaxBytes
	for _, p := range a.patches(r) {
		patch, err := below(from, p.Path)
		if err != nil {
			return src, err
		}
		src.Patches = append(src.Patches, fetch.Patch{From: p.From, URL: patch.URL, Size: p.Size, SHA256: p.SHA256})
	}
	return src, nil
}

// patches returns the patches of r that this host has the base of, the smallest first.
func (a *answer) patches(r offered) (out []feed.Patch) {
	for _, p := range r.Patches {
		if slices.ContainsFunc(a.self.Images, func(i Image) bool { return i.Version == p.From }) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(x, y feed.Patch) int { return int(min(max(x.Size-y.Size, -1), 1)) })
	return out
}

// Incoming returns the newest image for this host in /var/lib/trident/incoming. It ignores
// files with other names, files that are not regular, and files that other users than root
// may write. It fails with errkind.NotFound if there is no image.
func (s *Service) Incoming() (fetch.Source, error) {
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return fetch.Source{}, fmt.Errorf("look for an image in /%s: %w", IncomingDir, err)
	}
	dir := inroot.FS(s.Root)
	if info, err := dir.Stat(IncomingDir); err == nil && !isRoots(info) {
		err := errkind.Errorf(errkind.Denied, "look for an image in /%s: other users than root may write into the folder", IncomingDir)
		return fetch.Source{}, errkind.WithHint(err, "Give the folder to root: chown root: /%s; chmod go-w /%s", IncomingDir, IncomingDir)
	}
	names, err := dir.List(IncomingDir)
	if err != nil {
		return fetch.Source{}, fmt.Errorf("look for an image in /%s: %w", IncomingDir, err)
	}
	newest, file := "", ""
	for _, name := range names {
		v, err := feed.ParseImageFile(name, host.Architecture)
		if err != nil || newest != "" && compare(v, newest) <= 0 {
			continue
		}
		info, err := dir.Lstat(path.Join(IncomingDir, name))
		if err == nil && info.Mode().IsRegular() && isRoots(info) {
			newest, file = v, name
		}
	}
	if newest == "" {
		err := errkind.Errorf(errkind.NotFound, "look for an image in /%s: there is no image for %s", IncomingDir, host.Architecture)
		return fetch.Source{}, errkind.WithHint(err, "systemd-sysupdate puts images there; their names are like trident_2.0.0_%s.raw.", host.Architecture)
	}
	return fetch.Source{Path: "/" + path.Join(IncomingDir, file)}, nil
}

// isRoots reports whether only root, or the user of this process, may write a file.
func isRoots(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Getuid()) && info.Mode().Perm()&0o022 == 0
}
