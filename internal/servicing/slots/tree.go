package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/mount"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/storage"
	"github.com/trident-project/trident/internal/systemd"
)

// tree is where the new OS is mounted, as this host sees it.
const tree = "/" + newRoot

// withTree mounts all file systems of the OS in the slot while use runs. whole makes the
// tree fit to run programs: without noexec, and with /dev, /proc and others.
func (s *Service) withTree(ctx context.Context, r *opRun, whole bool, use func(c *hostconfig.Config, root string) error) (err error) {
	c, err := r.State.asked()
	if err != nil {
		return err
	}
	root := filepath.Join(s.Root, newRoot)
	if err := s.clear(filepath.Dir(root)); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.unmount(ctx, r)) }()
	if err := s.Touch("mount newroot", func() error { return s.mountTree(r, c, root, whole) }); err != nil {
		return errkind.WithName(err, errkind.NameMountNewroot)
	}
	return use(c, root)
}

// unmount unmounts the new OS, also from the folder above newRoot, where older releases
// mounted it.
func (s *Service) unmount(context.Context, *opRun) error {
	above := filepath.Dir(filepath.Join(s.Root, newRoot))
	return errkind.WithName(s.Touch("unmount newroot", func() error { return s.Machine.Mounts.Unmount(above) }), errkind.NameUnmountNewroot)
}

func (s *Service) mountTree(r *opRun, c *hostconfig.Config, root string, whole bool) error {
	spec, paths := &c.Spec().Storage, toMap(r.State.Paths)
	for _, f := range storage.MountOrder(spec) {
		at := path.Clean(f.MountPoint.Path)
		file := mount.FileSystem{Source: "tmpfs", Type: "tmpfs", NoExec: !whole}
		if f.Type != hostconfig.Tmpfs {
			dev, err := storage.Device(spec, paths, r.State.Slot, f.DeviceID)
			if err != nil {
				return err
			}
			file.Source = dev
			if file.Type, err = s.fstypeOf(dev); err != nil {
				return fmt.Errorf("mount %s: %w", at, err)
			}
		}
		if err := s.mountIn(root, at, file); err != nil {
			return err
		}
	}
	if !whole {
		return nil
	}
	for _, m := range []struct {
		at string
		mount.FileSystem
	}{
		{"/dev", mount.FileSystem{Source: "/dev", Type: mount.Bind}},
		{"/sys", mount.FileSystem{Source: "/sys", Type: mount.Bind, NoExec: true}},
		{"/proc", mount.FileSystem{Source: "proc", Type: "proc", NoExec: true}},
		{"/run", mount.FileSystem{Source: "tmpfs", Type: "tmpfs"}},
		{"/tmp", mount.FileSystem{Source: "tmpfs", Type: "tmpfs"}},
	} {
		if err := s.mountIn(root, m.at, m.FileSystem); err != nil {
			return err
		}
	}
	return nil
}

// mountIn mounts a file system in the tree, never outside of it. It makes the folder if that
// is missing.
func (s *Service) mountIn(root, at string, f mount.FileSystem) error {
	dir, err := inroot.FS(root).MakeDir(at, 0o755)
	if err == nil {
		err = errors.Join(s.Machine.Mounts.Mount(f, dir.File()), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

func (s *Service) postProvision(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || len(hooks.Of(c.Spec().Scripts.PostProvision, r.State.Purpose.on())) == 0 {
		return err
	}
	return s.withTree(ctx, r, true, func(c *hostconfig.Config, _ string) error {
		return hooks.Run(ctx, s.Host, r, r.ID, hooks.Point{
			ID: "provision", Name: "post-provision", On: r.State.Purpose.on(), Scripts: c.Spec().Scripts.PostProvision, Tree: tree,
		})
	})
}

func (s *Service) postConfigure(ctx context.Context, r *opRun) error {
	c, err := r.State.asked()
	if err != nil || len(hooks.Of(c.Spec().Scripts.PostConfigure, r.State.Purpose.on())) == 0 {
		return err
	}
	return s.withTree(ctx, r, true, func(c *hostconfig.Config, _ string) error {
		return hooks.Run(ctx, s.Host, r, r.ID, hooks.Point{
			ID: "post", Name: "post-configure", On: r.State.Purpose.on(), Scripts: c.Spec().Scripts.PostConfigure, Tree: tree, Inside: true,
		})
	})
}

// configure writes the files and settings of the configuration into the new OS. It may run
// again.
func (s *Service) configure(ctx context.Context, r *opRun) error {
	return s.withTree(ctx, r, false, func(c *hostconfig.Config, root string) error {
		for _, part := range []func(context.Context, *opRun, *hostconfig.Config, string) error{
			s.writeFstab, s.carryIdentity, s.setUpOS, s.placeFiles, s.placeExtensions, s.setUpTrident, s.guard,
		} {
			if err := part(ctx, r, c, root); err != nil {
				if ctx.Err() != nil {
					return errkind.With(errkind.Cancelled, err)
				}
				return err
			}
		}
		return nil
	})
}

func (s *Service) writeFstab(_ context.Context, r *opRun, c *hostconfig.Config, root string) error {
	text, err := storage.Fstab(&c.Spec().Storage, toMap(r.State.Paths), r.State.Slot)
	if err != nil {
		return err
	}
	return errkind.WithName(s.put(root, "/etc/fstab", 0o644, text), errkind.NameGenerateFstab)
}

// put writes a short file into a tree.
func (s *Service) put(root, name string, mode fs.FileMode, text string) error {
	return s.Touch("write "+path.Base(name), func() error {
		return osconfig.Write(root, name, mode, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
	})
}

// carryIdentity gives the new OS this host's identity, or, in an installation, none.
func (s *Service) carryIdentity(_ context.Context, r *opRun, c *hostconfig.Config, root string) error {
	return s.Touch("carry identity", func() error {
		if r.State.Purpose == installs {
			return osconfig.ResetMachineID(root)
		}
		return osconfig.Carry(s.Root, root, c.Spec().OS.Hostname == "" && !change.Flag(c, "disableHostnameCarryOver"))
	})
}

func (s *Service) setUpOS(ctx context.Context, _ *opRun, c *hostconfig.Config, root string) error {
	return osconfig.Setup(ctx, root, &c.Spec().OS, s.Tools, s.Touch)
}

func (s *Service) placeFiles(_ context.Context, r *opRun, c *hostconfig.Config, root string) error {
	if err := s.CheckResolved(root, c.Spec().OS.AdditionalFiles); err != nil {
		return err
	}
	for _, f := range c.Spec().OS.AdditionalFiles {
		mode, err := s.ModeOf(f)
		if err == nil {
			err = s.Touch("write file", func() error {
				return osconfig.Write(root, change.Absolute(f.Destination), mode, func(out io.Writer) error { return s.WriteContent(f, out) })
			})
		}
		if err != nil {
			return errkind.WithName(fmt.Errorf("write %s: %w", f.Destination, err), errkind.NameWriteAdditionalFile)
		}
		r.Logf(slog.LevelInfo, "%s is written", f.Destination)
	}
	return nil
}

// placeExtensions stages and links the extensions of the configuration in the new OS. They
// have to be compatible with that OS.
func (s *Service) placeExtensions(ctx context.Context, r *opRun, c *hostconfig.Config, root string) error {
	err := s.extensionsInto(ctx, r, c, root)
	return errkind.WithName(err, errkind.NamePopulateExtensionImages)
}

func (s *Service) extensionsInto(ctx context.Context, r *opRun, c *hostconfig.Config, root string) error {
	store := &extension.Store{Root: root, Files: s.Root, Tools: s.Tools, Touch: s.Touch}
	say := func(line string) { r.Logf(slog.LevelInfo, "%s", line) }
	var images []extension.Image
	units := map[string]bool{}
	for _, src := range change.ExtensionSources(c) {
		if src.Path == change.OwnPath {
			continue // see setUpTrident
		}
		fetched := s.newExtensions()
		if here, err := fetched.Load(ctx, extension.Extension{Class: src.Class, Path: src.Path, SHA384: src.SHA384}); err == nil {
			src.URL = "file://" + s.OnHost(filepath.Join(fetched.Root, here.Stored())) // fetched by the step "image"
		}
		image, err := store.Stage(ctx, src, nil, nil, say)
		if err != nil {
			return err
		}
		if image.IsOwn() {
			return ownListed()
		}
		images = append(images, image)
		units["systemd-"+string(src.Class)+".service"] = true
	}
	current, err := store.Find(change.RecordedExtensions(c))
	if err != nil {
		return err
	}
	change, err := extension.Plan(current, images)
	if err != nil {
		return err
	}
	if err := store.Place(ctx, change); err != nil {
		return err
	}
	r.State.Extensions = change
	for unit := range units {
		if err := s.enableIn(ctx, root, unit); err != nil {
			return err
		}
	}
	return nil
}

// enableIn enables a unit in the OS in a tree.
func (s *Service) enableIn(ctx context.Context, root, unit string) error {
	return s.Touch("enable "+unit, func() error { return osconfig.Systemctl(ctx, s.Tools, root, "enable", unit) })
}

// setUpTrident writes the path of the datastore into the new OS, and in an update chooses
// the newer Trident for it: its own or this host's extension.
func (s *Service) setUpTrident(ctx context.Context, r *opRun, c *hostconfig.Config, root string) error {
	if at := c.Spec().Trident.DatastorePath; at != "" && at != hoststate.DefaultPath {
		if err := s.put(root, "/etc/trident/trident.conf", 0o644, "DatastorePath="+at+"\n"); err != nil {
			return errkind.WithName(err, errkind.NameCreateConfigurationFile)
		}
	}
	if r.State.Purpose == installs {
		return nil
	}
	version, err := s.Self.LinkInTree(root)
	if err != nil || version == "" {
		return err
	}
	r.Logf(slog.LevelInfo, "the new system runs trident %s, which is newer than the version in its image", version)
	return s.enableIn(ctx, root, "systemd-sysext.service")
}

// trialTime is the time from boot in which Trident has to confirm a new system.
const trialTime = "15min"

// paramTrial is an internal parameter that replaces trialTime, in the format of
// systemd.time(7). Upstream does not have it.
const paramTrial = "trialTime"

// The units of the guard.
const (
	guardTimer   = "trident-trial.timer"
	guardService = "trident-trial.service"
	unitDir      = "/etc/systemd/system/"
	guardLink    = unitDir + "sysinit.target.wants/" + guardTimer
	evidenceFile = "var/lib/trident/trial-journal"
)

// guard adds a systemd timer to the new OS that reboots it, into the old OS, unless Trident
// confirms it in time: its Trident may not start, or its boot may end in an emergency shell.
// The timer needs systemd only. "settle" removes it.
func (s *Service) guard(_ context.Context, r *opRun, c *hostconfig.Config, root string) error {
	limit := trialTime
	if t, ok := c.Spec().InternalParams[paramTrial].(string); ok {
		limit = t
	}
	if r.State.Purpose == installs { // there is no old system
		return nil
	}
	err := s.put(root, unitDir+guardTimer, 0o644, `# Written by Trident for the first boots of a new system.
[Unit]
Description=Time for Trident to confirm this system
DefaultDependencies=no

[Timer]
OnBootSec=`+limit+`
AccuracySec=1s
`)
	if err == nil {
		err = s.put(root, unitDir+guardService, 0o644, `# Written by Trident for the first boots of a new system.
[Unit]
Description=Reboot into the previous system, because Trident has not confirmed this one
DefaultDependencies=no
SuccessAction=reboot-force
FailureAction=reboot-force

[Service]
Type=oneshot
ExecStart=-/usr/bin/journalctl --boot --no-pager --lines=200 --unit=tridentd.service --unit=trident.service --unit=init.scope
StandardOutput=truncate:/`+evidenceFile+`
TimeoutStartSec=30s
`+systemd.Sandbox())
	}
	if err == nil {
		err = s.Touch("link guard", func() error { return osconfig.Link(root, guardLink, "../"+guardTimer) })
	}
	return err
}

// removeGuard removes the guard from the running OS. It unmerges confexts that make /etc
// read-only, and merges them again; after a power cut, the next call merges them.
func (s *Service) removeGuard(ctx context.Context) error {
	err := s.Touch("stop guard", func() error { return s.Systemd.Stop(ctx, guardTimer) })
	closed, cerr := s.EtcIsReadOnly(s.Root)
	err = errors.Join(err, cerr)
	if closed {
		err = errors.Join(err, s.UnmergeConfexts(ctx))
	}
	for _, name := range []string{guardLink, unitDir + guardTimer, unitDir + guardService, "/" + evidenceFile} {
		err = errors.Join(err, s.Touch("remove guard", func() error { return osconfig.Remove(s.Root, name) }))
	}
	st, serr := s.State(ctx)
	err = errors.Join(err, serr)
	if closed || st.Runs != nil && len(st.Runs.Spec().OS.Confexts) > 0 {
		err = errors.Join(err, s.MergeConfexts(ctx))
	}
	return errors.Join(err, s.Systemd.Reload(ctx))
}

// evidence returns the end of the journal that the guard saved, or "".
func (s *Service) evidence() string {
	data, err := os.ReadFile(filepath.Join(s.Root, evidenceFile))
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(data[max(0, len(data)-hooks.MaxSaid):]))
	return text
}
