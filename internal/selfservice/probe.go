package selfservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/selfservice/images"
)

// probeTimeout bounds one run of the candidate.
const probeTimeout = 30 * time.Second

// probe runs the candidate once, outside of the overlay and on a copy of the
// datastore, before anything has changed. It also fails if this host could not
// merge the candidate.
func (s *Service) probe(ctx context.Context, r *opRun) error {
	if err := s.checkHost(r.State); err != nil {
		return err
	}
	if r.State.Base { // the base has run on this host before
		return nil
	}
	image, err := s.images.OpenVerified(ctx, s.images.Path(r.State.Version), nil)
	if err != nil {
		return err
	}
	defer image.Close()
	candidate := filepath.Join(s.dir, probeDir, "tridentd")
	err = s.touch("extract candidate", func() error { return extract(image, candidate) })
	if err != nil {
		return fmt.Errorf("extract the candidate: %w", err)
	}
	if err := s.probeDaemon(ctx, r, candidate); err != nil || !r.State.StageOnly {
		return err
	}
	if err := s.touch("replace staged", func() error { return s.images.ReplaceStaged(r.State.Version) }); err != nil {
		r.Logf(slog.LevelWarn, "delete older staged images: %v", err)
	}
	return nil
}

// probeDaemon runs the target's daemon on a copy of the datastore and compares the
// version that the daemon reports with the target. It removes the copy afterwards.
func (s *Service) probeDaemon(ctx context.Context, r *opRun, daemon string) error {
	version, err := s.runCandidate(ctx, daemon)
	if err = errors.Join(err, s.cleanProbe(ctx, r)); err != nil {
		return err
	}
	if version != r.State.Version {
		return errkind.Errorf(errkind.Unhealthy, "the candidate's image is of version %s, but its tridentd reports version %s", r.State.Version, version)
	}
	return nil
}

func (s *Service) runCandidate(ctx context.Context, daemon string) (version string, err error) {
	datastore := filepath.Join(s.dir, probeDir, "datastore.sqlite")
	err = s.touch("copy datastore", func() error {
		if err := os.MkdirAll(filepath.Dir(datastore), 0o700); err != nil {
			return err
		}
		return s.Store.Snapshot(ctx, datastore)
	})
	if err != nil {
		return "", fmt.Errorf("copy the datastore for the candidate: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, errkind.Errorf(errkind.Unhealthy, "the candidate's tridentd --probe did not end within %s", probeTimeout))
	defer cancel()
	var out []byte
	err = s.touch("run candidate", func() error {
		out, err = s.Tools.Run(ctx, daemon, "--probe", "--datastore", datastore)
		return err
	})
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", errkind.Errorf(errkind.Unhealthy, "the candidate cannot start on this host: %w", err)
	}
	var answer struct {
		Version string `json:"version"`
		OK      bool   `json:"ok"`
	}
	if err := json.Unmarshal(out, &answer); err != nil || !answer.OK {
		return "", errkind.Errorf(errkind.Unhealthy, "the answer of the candidate's tridentd --probe is not a JSON object with ok and version: %.200q", out)
	}
	return answer.Version, nil
}

func extract(i *images.Opened, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	in, err := i.Files.Open(extension.OwnDaemon)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o700)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

func (s *Service) cleanProbe(context.Context, *opRun) error {
	return s.touch("clean probe", func() error { return os.RemoveAll(filepath.Join(s.dir, probeDir)) })
}

// checkHost fails if the operation cannot succeed on this host, whatever the image.
// The step fetch calls it before anything is fetched. The step probe calls it again,
// because an operation may begin after fetch, and the host may have changed.
func (s *Service) checkHost(r record) error {
	if err := s.checkStore(); err != nil || r.StageOnly {
		return err
	}
	return s.canMerge(r)
}

// CanActivate returns why no version could be activated on this host with the consent of t,
// whatever its image: the errors with which an upgrade would fail before it fetches anything.
func (s *Service) CanActivate(t Trial) error {
	if s.Fixed != nil {
		return s.Fixed
	}
	return s.canMerge(record{Trial: t})
}

// canMerge fails if systemd could not merge the extensions of this host, or if a
// merge would make a writable /usr read-only without leave.
func (s *Service) canMerge(r record) error {
	if err := extension.CheckMergeable(s.Root); err != nil {
		return err
	}
	if err := extension.CheckOthers(s.Root); err != nil {
		return err
	}
	if r.Trial.AllowReadOnlyUsr || r.Back {
		return nil
	}
	return s.checkUsrStaysWritable()
}

// checkUsrStaysWritable fails if a merge would make a writable /usr read-only: the
// package manager could not write to /usr as long as an extension is merged.
func (s *Service) checkUsrStaysWritable() error {
	merged, err := extension.Sysext.Merged(s.Root)
	if err != nil || len(merged) > 0 {
		return err
	}
	fs, err := statfs(filepath.Join(s.Root, "usr"))
	if err != nil {
		return fmt.Errorf("examine the file system of /usr: %w", err)
	}
	if fs.Flags&unix.ST_RDONLY != 0 {
		return nil
	}
	return errkind.WithHint(
		errkind.Errorf(errkind.Precondition, "/usr is writable and would be read-only while an extension is merged: the package manager could not write to /usr"),
		"allow a read-only /usr with --allow-read-only-usr, for automatic upgrades with \"trident self policy set --allow-read-only-usr\", or upgrade the package of trident instead")
}
