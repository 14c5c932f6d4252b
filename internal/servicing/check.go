package servicing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
)

// Times for netplan.
const (
	generateTime = time.Minute
	applyTime    = 3 * time.Minute
)

// check looks for everything that would fail later, before anything is changed.
func (s *Service) check(ctx context.Context, r *opRun) error {
	w, err := r.State.work()
	if err != nil {
		return err
	}
	for _, check := range []func(context.Context, *opRun, work) error{
		s.checkFiles, s.checkScripts, s.checkSELinux, s.checkExtensions, s.checkNetplan,
	} {
		if err := check(ctx, r, w); err != nil {
			return err
		}
	}
	r.State.Checked = true
	return nil
}

func (s *Service) checkFiles(_ context.Context, _ *opRun, w work) error {
	closed, err := s.etcClosed(s.Root)
	if err != nil {
		return err
	}
	if err := s.checkResolved(s.Root, w.change.Files.Write); err != nil {
		return err
	}
	for _, name := range w.changed() {
		err := osconfig.Check(s.Root, name)
		if closed && inEtc(name) && errors.Is(err, unix.EROFS) { // see withEtc
			err = nil
		}
		if err != nil {
			return errkind.WithName(err, dynamic)
		}
	}
	return nil
}

var (
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	control  = "\x00"
)

// checkScripts looks at the scripts that will run, as far as nobody has before.
func (s *Service) checkScripts(_ context.Context, _ *opRun, w work) error {
	spec, on := w.asked.Spec(), hostconfig.OnRuntimeUpdate
	return checkScripts(slices.Concat(hooks(spec.Scripts.PreServicing, on), hooks(spec.Scripts.PostConfigure, on), healthScripts(spec.Health, on)))
}

// healthScripts are the scripts of the health checks that a servicing runs.
func healthScripts(h hostconfig.Health, on hostconfig.ServicingType) (all []hostconfig.Script) {
	for _, c := range healthChecks(h, on) {
		if c.Script != nil {
			all = append(all, *c.Script)
		}
	}
	return all
}

func checkScripts(all []hostconfig.Script) error {
	for i, h := range all {
		fault := ""
		for name, value := range h.EnvironmentVariables {
			if !variable.MatchString(name) {
				fault = fmt.Sprintf("%.80q cannot be the name of an environment variable", name)
			} else if strings.Contains(value, control) {
				fault = fmt.Sprintf("the environment variable %s has a zero byte in it", name)
			}
		}
		if strings.Contains(strings.Join(h.Arguments, ""), control) {
			fault = "an argument has a zero byte in it"
		}
		if h.Content == nil && h.Path == "" {
			fault = "it has neither content nor path"
		}
		if fault != "" {
			return errkind.WithName(errkind.Errorf(errkind.Invalid, "script %s: %s", nameOf(h.Name, i), fault), dynamic)
		}
	}
	return nil
}

// checkSELinux refuses what an overlay would break: below it files have the labels
// of the image that they are from.
func (s *Service) checkSELinux(_ context.Context, r *opRun, _ work) error {
	change := r.State.Extensions
	if change.Empty() || len(change.New) == 0 {
		return nil
	}
	enforce, err := inroot.FS(s.Root).ReadFile("sys/fs/selinux/enforce", 16)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("ask whether SELinux is enforced: %w", err)
	case strings.TrimSpace(string(enforce)) == "1":
		return withExtensionsEnforced()
	}
	r.Logf(slog.LevelWarn, "SELinux is permissive: extensions change the labels of files, and there will be denials in the log")
	return nil
}

func withExtensionsEnforced() error {
	err := errkind.Errorf(errkind.Precondition, "SELinux is enforced, and extensions would change the labels of files (ExtensionImagesAndSelinuxUnsupported)")
	return errkind.WithName(errkind.WithHint(err, "Use extensions with SELinux disabled, or permissive."), dynamic)
}

func (s *Service) checkExtensions(ctx context.Context, r *opRun, _ work) error {
	return errkind.WithName(s.extensions.Check(ctx, r.State.Extensions), errkind.NamePopulateExtensionImages)
}

func (s *Service) checkNetplan(ctx context.Context, r *opRun, w work) error {
	n := w.asked.Spec().OS.Netplan
	if !w.change.Netplan || n == nil {
		return nil
	}
	return s.tryNetplan(ctx, r.ID, "os.netplan", n)
}

// tryNetplan has this host's netplan read a network below a folder of its own; at is
// where the configuration has it. An error is of kind Precondition where the host has no
// netplan.
func (s *Service) tryNetplan(ctx context.Context, id, at string, n hostconfig.Netplan) error {
	root := s.netplanCheckDir(id)
	err := s.touch("check netplan", func() error {
		// A small world of its own; what there is to see of a host is not in it.
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(osconfig.Netplan)), 0o700); err != nil {
			return err
		}
		if err := osconfig.WriteNetwork(root, n); err != nil {
			return err
		}
		return s.netplan(ctx, generateTime, "generate", "--root-dir", root)
	})
	if err = errors.Join(err, s.cleanNetplan(id)); err == nil {
		return nil
	}
	if errkind.Of(err) == errkind.Precondition { // there is no netplan
		err = errkind.WithHint(err, "Install netplan, or leave %s out.", at)
		return errkind.WithName(fmt.Errorf("check %s: %w", at, err), errkind.NameMissingBinary)
	}
	if ctx.Err() == nil && errkind.Of(err) == errkind.Internal {
		err = errkind.With(errkind.Invalid, err)
	}
	return errkind.WithName(fmt.Errorf("check %s: %w", at, err), errkind.NameGenerateNetplanConfig)
}

func (s *Service) netplanCheckDir(id string) string {
	return filepath.Join(s.workDir(id), "netplan-check")
}

func (s *Service) cleanCheck(_ context.Context, r *opRun) error { return s.cleanNetplan(r.ID) }

func (s *Service) cleanNetplan(id string) error {
	return s.touch("clean netplan check", func() error { return os.RemoveAll(s.netplanCheckDir(id)) })
}

func (s *Service) netplan(ctx context.Context, limit time.Duration, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errkind.Errorf(errkind.Timeout, "it did not end within %s", limit))
	defer cancel()
	_, err := s.Tools.Run(ctx, "netplan", args...)
	return err
}

// healthChecks are the health checks that a servicing runs.
func healthChecks(h hostconfig.Health, servicing hostconfig.ServicingType) []hostconfig.HealthCheck {
	var out []hostconfig.HealthCheck
	for _, c := range h.Checks {
		on := []hostconfig.ServicingType(nil)
		switch {
		case c.Script != nil:
			on = c.Script.RunOn
		case c.Systemd != nil:
			on = c.Systemd.RunOn
		}
		if hostconfig.RunsOn(on, servicing) {
			out = append(out, c)
		}
	}
	return out
}

// nameOf is what a script or a check is called in messages.
func nameOf(name string, i int) string {
	if name == "" {
		return plainName(name, i)
	}
	return fmt.Sprintf("%.80q", name)
}

// plainName is nameOf without quotation marks, for texts that have their own.
func plainName(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return strings.Trim(fmt.Sprintf("%.80q", name), `"`)
}

// camel is a word of upstream's, ab-update-staged, as upstream's texts and file names
// spell it: AbUpdateStaged.
func camel(kebab string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(kebab, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
