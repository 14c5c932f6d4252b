package selfservice

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostinfo"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/rescue"
	"github.com/trident-project/trident/internal/trust"
	"github.com/trident-project/trident/internal/version"
)

// imageName is the name that systemd knows our extension by, and the SYSEXT_ID
// that it has to carry.
const imageName = "trident"

// Files of an image, and of a host that has it merged.
const (
	daemonPath  = "usr/bin/tridentd"
	rescuerPath = "usr/lib/trident/trident-rescue"
	releasePath = "usr/lib/extension-release.d/extension-release." + imageName
)

// allowedPrefixes and allowedPaths are what an image of ours may have. base.json
// is the base's own, and nothing may widen trust: no trust.d, no verity.d.
func allowed(path string) bool {
	switch path {
	case "usr", "usr/bin", "usr/lib", "usr/lib/extension-release.d", "usr/lib/systemd", "usr/lib/systemd/system",
		"usr/lib/systemd/system/sockets.target.upholds", "usr/lib/systemd/system/multi-user.target.upholds",
		"usr/lib/trident", rescuerPath, releasePath, "usr/bin/trident", daemonPath,
		"usr/share", "usr/share/man", "usr/share/doc", "usr/share/licenses",
		"usr/share/bash-completion", "usr/share/bash-completion/completions", "usr/share/bash-completion/completions/trident",
		"usr/share/zsh", "usr/share/zsh/site-functions", "usr/share/zsh/site-functions/_trident",
		"usr/share/fish", "usr/share/fish/vendor_completions.d", "usr/share/fish/vendor_completions.d/trident.fish":
		return true
	}
	dir, name := filepath.Split(path)
	switch dir = strings.TrimSuffix(dir, "/"); {
	case under(path, "usr/share/doc/trident"), under(path, "usr/share/licenses/trident"):
		return true
	case strings.HasPrefix(dir, "usr/lib/systemd/system"):
		return strings.HasPrefix(name, "trident") &&
			(dir == "usr/lib/systemd/system" || strings.HasSuffix(dir, ".target.upholds") && strings.Count(dir, "/") == 4)
	case dir == "usr/share/man":
		return strings.HasPrefix(name, "man")
	case strings.HasPrefix(dir, "usr/share/man/man"):
		return strings.HasPrefix(name, "trident") && strings.Count(dir, "/") == 3
	}
	return false
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// An image is an open one that our own trust vouches for, with what it says
// about itself. Only openVerified makes one.
type image struct {
	verified trust.Verified[*ddi.Image]
	file     *os.File
	files    fs.FS
	release  extension.Release
	rootHash string
}

func (i *image) Close() error { return i.file.Close() }

// openVerified opens the image at path, and checks that it is signed for
// ourselves, whole, ours, and free of anything that is not ours to bring.
func (s *Service) openVerified(ctx context.Context, path string, progress func(done, total int64)) (_ *image, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	raw, err := ddi.Open(f, fi.Size())
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	policy, err := trust.Load(s.Root)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	i := &image{file: f, rootHash: ddi.HashString(raw.RootHash())}
	if i.verified, err = policy.Verify(ctx, raw, time.Now(), progress); err != nil {
		return nil, err
	}
	if i.files, err = raw.FS(); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	if i.release, err = extension.ReadRelease(i.files, imageName); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return i, s.checkOurs(i)
}

// checkOurs checks that a verified image is one of Trident, for this host.
func (s *Service) checkOurs(i *image) error {
	if i.release.SysextID != imageName {
		return errkind.Errorf(errkind.Incompatible, "it is not an image of trident: its SYSEXT_ID is %q", i.release.SysextID)
	}
	if _, err := version.Parse(i.release.Version); err != nil {
		return errkind.Errorf(errkind.Invalid, "the image's SYSEXT_VERSION_ID: %w", err)
	}
	host, err := hostinfo.Read(s.Root)
	if err != nil {
		return err
	}
	if err := i.release.Fits(host); err != nil {
		return err
	}
	if err := extension.CheckContent(i.files, allowed); err != nil {
		return errkind.WithHint(err, "an image of trident may carry trident's own files only")
	}
	if _, err := fs.Stat(i.files, daemonPath); err != nil {
		return errkind.Errorf(errkind.Invalid, "the image has no %s: %w", daemonPath, err)
	}
	return nil
}

// swing makes a verified image the one that systemd finds.
func (s *Service) swing(i *image, v string) error {
	if _, ok := i.verified.Value(); !ok {
		return errkind.Errorf(errkind.Untrusted, "the image of trident %s is not verified", v)
	}
	return s.swingBack(s.linkTo(v))
}

// swingBack points the link to where it pointed before; it has to work also when
// what lies there would not be trusted any more.
func (s *Service) swingBack(link string) error {
	if err := os.MkdirAll(filepath.Join(s.Root, filepath.Dir(rescue.Link)), 0o755); err != nil {
		return fmt.Errorf("swing extension link: %w", err)
	}
	return rescue.SystemHost{Root: s.Root, Out: io.Discard}.Swing(link)
}

func (s *Service) unlink() error { return s.swingBack("") }

// checkMerged makes sure that /usr shows the image: its release and its daemon,
// byte by byte.
func (s *Service) checkMerged(i *image) error {
	names, err := extension.Merged(s.Root)
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		found = found || name == imageName
	}
	if !found {
		return errkind.Errorf(errkind.Internal, "systemd has refreshed, but the image is not merged (merged are: %s)", strings.Join(names, ", "))
	}
	for _, path := range []string{releasePath, daemonPath} {
		want, err := sum(i.files, path)
		if err != nil {
			return fmt.Errorf("read %s of the image: %w", path, err)
		}
		got, err := sum(inroot.FS(s.Root), path)
		if err != nil {
			return fmt.Errorf("read merged %s: %w", path, err)
		}
		if got != want {
			return errkind.Errorf(errkind.Internal, "systemd has merged something else than the image: /%s differs", path)
		}
	}
	return nil
}

func sum(fsys fs.FS, path string) (out [sha256.Size]byte, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return out, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), errors.Join(err, f.Close())
}

// mergedVersion is the version of the extension that is merged now; "" for none.
func (s *Service) mergedVersion() (string, error) {
	names, err := extension.Merged(s.Root)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if name == imageName {
			r, err := extension.ReadRelease(inroot.FS(s.Root), imageName)
			return r.Version, err
		}
	}
	return "", nil
}

// versionOfImage is the version that the name of an image in the store says.
func versionOfImage(path string) string {
	return strings.TrimSuffix(filepath.Base(path), ".raw")
}
