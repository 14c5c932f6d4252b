package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
)

// check finds the faults that would make a later step fail, before the host changes.
func (s *Service) check(ctx context.Context, r *opRun, w comparison) error {
	for _, check := range []func(context.Context, *opRun, comparison) error{
		s.checkFiles, s.checkScripts, s.checkSELinux, s.checkExtensions, s.checkNetplan,
	} {
		if err := check(ctx, r, w); err != nil {
			return err
		}
	}
	r.State.Checked = true
	return nil
}

func (s *Service) checkFiles(_ context.Context, _ *opRun, w comparison) error {
	closed, err := s.EtcIsReadOnly(s.Root)
	if err != nil {
		return err
	}
	if err := s.CheckResolved(s.Root, w.change.Files.Write); err != nil {
		return err
	}
	for _, name := range w.changed() {
		err := osconfig.Check(s.Root, name)
		if closed && change.InEtc(name) && errors.Is(err, unix.EROFS) { // see withEtc
			err = nil
		}
		if err != nil {
			return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
		}
	}
	return nil
}

// checkScripts refuses scripts of this update that cannot be run.
func (s *Service) checkScripts(_ context.Context, _ *opRun, w comparison) error {
	spec, on := w.asked.Spec(), hostconfig.OnRuntimeUpdate
	return hooks.Check(slices.Concat(hooks.Of(spec.Scripts.PreServicing, on), hooks.Of(spec.Scripts.PostConfigure, on), hooks.HealthScripts(spec.Health, on)))
}

// checkSELinux refuses new extensions if SELinux is enforced, and warns if it is
// permissive: files that are merged have the labels of their image.
func (s *Service) checkSELinux(_ context.Context, r *opRun, _ comparison) error {
	if c := r.State.Extensions; c.Empty() || len(c.New) == 0 {
		return nil
	}
	enforce, err := inroot.FS(s.Root).ReadFile("sys/fs/selinux/enforce", 16)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("ask whether SELinux is enforced: %w", err)
	case strings.TrimSpace(string(enforce)) == "1":
		return change.ExtensionsEnforced()
	}
	r.Logf(slog.LevelWarn, "SELinux is permissive: extensions change the labels of files, and there will be denials in the log")
	return nil
}

func (s *Service) checkExtensions(ctx context.Context, r *opRun, _ comparison) error {
	return errkind.WithName(s.Extensions.Check(ctx, r.State.Extensions), errkind.NamePopulateExtensionImages)
}

func (s *Service) checkNetplan(ctx context.Context, r *opRun, w comparison) error {
	n := w.asked.Spec().OS.Netplan
	if !w.change.Netplan || n == nil {
		return nil
	}
	return s.TryNetplan(ctx, r.ID, "os.netplan", n)
}

func (s *Service) cleanCheck(_ context.Context, r *opRun) error { return s.CleanNetplanCheck(r.ID) }
