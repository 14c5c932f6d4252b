package newos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/hooks"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// autorelabel has an OS that supports it label its files at its next boot.
const autorelabel = "/.autorelabel"

// Label has the new OS's own setfiles give all its files the labels of its SELinux policy:
// files that Trident wrote, and new file systems, have no labels.
func (o *OS) Label(ctx context.Context, r *record.Run) error {
	return o.withTree(ctx, r, true, func(c *hostconfig.Config, root string) error {
		policy, err := osconfig.PolicyOf(root)
		if err != nil || policy == nil {
			return err
		}
		if err := o.besideExtensions(r, c, policy.Mode); err != nil {
			return err
		}
		if r.State.Purpose == record.Installs {
			if _, _, err := inheritedFiles(c, root); err != nil { // "try" copies the labels of these folders
				return err
			}
		}
		tool, err := labelTool(root)
		switch {
		case err != nil:
			return err
		case tool != "":
			return o.setFiles(ctx, r, c, tool, policy)
		case policy.Mode == hostconfig.SELinuxEnforcing:
			return noSetfiles()
		}
		r.Logf(slog.LevelWarn, "the new system has no setfiles to label its files for SELinux, which is permissive in it; %s asks it to do so at its boot", autorelabel)
		return o.put(root, autorelabel, 0o644, "")
	})
}

func noSetfiles() error {
	err := errkind.Errorf(errkind.Precondition, "label the files of the new system, which enforces SELinux: it has no setfiles")
	return errkind.WithName(errkind.WithHint(err, "Put setfiles (policycoreutils) into the image, or set os.selinux.mode to permissive."), errkind.NameMissingBinary)
}

// labelTools are the possible paths of setfiles.
var labelTools = []string{"/usr/sbin/setfiles", "/sbin/setfiles", "/usr/bin/setfiles"}

// labelTool returns the path of setfiles in the OS in a tree, or "".
func labelTool(root string) (string, error) {
	for _, name := range labelTools {
		info, err := inroot.FS(root).Stat(name[1:])
		if err == nil && info.Mode().IsRegular() {
			return name, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find setfiles: %w", err)
		}
	}
	return "", nil
}

func (o *OS) setFiles(ctx context.Context, r *record.Run, c *hostconfig.Config, tool string, policy *osconfig.Policy) error {
	mounts, err := o.labelled(r, c)
	if err != nil || len(mounts) == 0 {
		return err
	}
	// Without -m, setfiles skips file systems for which this host's kernel, perhaps
	// without SELinux, shows no labels.
	text := "exec " + hooks.Quote(tool) + " -m " + hooks.Quote(policy.Contexts)
	for _, at := range mounts {
		text += " " + hooks.Quote(at)
	}
	text += "\n"
	var said []byte
	err = o.Touch("label files", func() (err error) {
		said, err = hooks.RunInside(ctx, o.Host, r.ID, "labels", text, r.State.Purpose.On(), tree)
		return err
	})
	if err != nil {
		if len(said) > 0 {
			r.Logf(slog.LevelError, "setfiles said: %s", said)
		}
		return errkind.WithName(fmt.Errorf("label the files of the new system for SELinux: %w", err), errkind.NameCommandFailed)
	}
	r.Logf(slog.LevelInfo, "files are labelled for SELinux, which is %s: %s", policy.Mode, strings.Join(mounts, " "))
	return nil
}

// labelled returns the writable mount points of the new OS that can have labels. setfiles
// does not cross from one into another by itself.
func (o *OS) labelled(r *record.Run, c *hostconfig.Config) (mounts []string, err error) {
	for _, f := range storage.MountOrder(&c.Spec().Storage) {
		if f.Type == hostconfig.Tmpfs || slices.Contains(strings.Split(f.MountPoint.Options, ","), "ro") {
			continue
		}
		dev, err := r.State.Path(c, f.DeviceID)
		if err != nil {
			return nil, err
		}
		typ, err := o.Machine.FSType(dev)
		if err != nil {
			return nil, err
		}
		if typ == string(hostconfig.Ext4) || typ == string(hostconfig.XFS) {
			mounts = append(mounts, path.Clean(f.MountPoint.Path))
		}
	}
	if storage.RootVerity(&c.Spec().Storage) != nil && !r.State.Immutable {
		mounts = append(mounts, "/etc") // last: the folder of its changes has other labels by its own path
	}
	return mounts, nil
}

// besideExtensions refuses extensions in a new OS that enforces SELinux.
func (o *OS) besideExtensions(r *record.Run, c *hostconfig.Config, mode hostconfig.SELinuxMode) error {
	if len(c.Spec().OS.Sysexts)+len(c.Spec().OS.Confexts)+len(r.State.Carried) == 0 {
		return nil
	}
	switch mode {
	case hostconfig.SELinuxEnforcing:
		return change.ExtensionsEnforced()
	case hostconfig.SELinuxPermissive:
		r.Logf(slog.LevelWarn, "SELinux is permissive in the new system: extensions change the labels of files, and there will be denials in the log")
	}
	return nil
}
