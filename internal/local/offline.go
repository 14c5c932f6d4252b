package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hoststate"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/osconfig"
)

const (
	maxHistory = 16 << 20
	maxStatus  = 4 << 20
	// maxBootFile is the largest file, in bytes, that is copied on the EFI system
	// partition.
	maxBootFile = 512 << 20
)

// Initialization says how to record a host that no installation has made.
type Initialization struct {
	// Root is the tree of the host.
	Root string
	// Status is a file in upstream's form to record unchanged; with it, the fields below
	// have no effect. Status and History are files of the machine that this process runs
	// on.
	Status  string
	History string
	Disk    string
	Lazy    map[string]string
	Version string
	Tools   run.Runner
}

// Initialize writes the first record of a host that is built as an image, and prepares
// its boot files for the first update. It fails with Exists if the host has a record.
func Initialize(ctx context.Context, in Initialization) (err error) {
	status, err := in.status(ctx)
	if err != nil {
		return err
	}
	where, err := hoststate.Path(in.Root)
	if err != nil {
		return err
	}
	folder, err := inroot.FS(in.Root).MakeDir(path.Dir(where), 0o700)
	if err != nil {
		return fmt.Errorf("make the folder of the datastore: %w", err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	at, err := folder.OnHost()
	if err != nil {
		return fmt.Errorf("make the folder of the datastore: %w", err)
	}
	store, err := hoststate.Open(ctx, filepath.Join(at, path.Base(where)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	old, err := store.Status(ctx)
	if err != nil {
		return err
	}
	if old.Phase != (hoststate.Fresh{}) {
		return errkind.WithHint(errkind.Errorf(errkind.Exists, "the host has a record already: it is %s", old.Phase.State()),
			"to begin again, delete %s", where)
	}
	if err := copyBootFiles(in.Root, status.Spec); err != nil {
		return fmt.Errorf("copy boot files: %w", err)
	}
	if err := store.Record(ctx, status); err != nil {
		return err
	}
	return store.Backup(ctx)
}

func (in Initialization) status(ctx context.Context) (hoststate.Status, error) {
	if in.Status != "" {
		text, err := readFile(in.Status, maxStatus)
		if err != nil {
			return hoststate.Status{}, errkind.WithName(fmt.Errorf("read host status: %w", err), errkind.NameReadInputFile)
		}
		status, err := hoststate.ParseStatus(text)
		if err != nil {
			return hoststate.Status{}, errkind.WithName(fmt.Errorf("parse host status %s: %w", in.Status, err), errkind.NameParseHostStatus)
		}
		return status, nil
	}
	history, err := readFile(in.History, maxHistory)
	if err != nil {
		return hoststate.Status{}, errkind.WithName(fmt.Errorf("read history of the image: %w", err), errkind.NameHistoryFileNotFound)
	}
	devices, err := in.Tools.Run(ctx, "lsblk", "--json", "--bytes", "--output", lsblkColumns)
	if err != nil {
		return hoststate.Status{}, fmt.Errorf("list disks: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(in.Root, &stat); err != nil {
		return hoststate.Status{}, fmt.Errorf("look at %s: %w", in.Root, err)
	}
	return layoutStatus(imageFacts{
		History: history, Devices: devices, Disk: in.Disk, Lazy: in.Lazy, Version: in.Version,
		RootDevice: fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev)),
	})
}

func readFile(name string, limit int64) ([]byte, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	return inroot.FS("/").ReadFile(strings.TrimPrefix(name, "/"), limit)
}

// copyBootFiles copies EFI/BOOT to EFI/AZLA, where the first update expects the boot
// files of volume A. It does nothing if EFI/BOOT does not exist or EFI/AZLA exists.
func copyBootFiles(root, spec string) (err error) {
	config, err := hostconfig.ParseRecorded([]byte(spec))
	if err != nil {
		return err
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	efi := path.Join(strings.TrimPrefix(espMount(config), "/"), "EFI")
	from, to := path.Join(efi, "BOOT"), path.Join(efi, "AZLA")
	if _, err := r.Stat(to); err == nil {
		return nil
	}
	if _, err := r.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	defer func() {
		if err != nil { // the next call would take a partial copy for a complete one
			err = errors.Join(err, r.RemoveAll(to))
		}
	}()
	return fs.WalkDir(r.FS(), from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(name, from)
		if d.IsDir() {
			return nil
		}
		text, err := inroot.FS(root).ReadFile(name, maxBootFile)
		if err != nil {
			return err
		}
		return osconfig.Write(root, "/"+target, 0o644, func(w io.Writer) error { _, err := w.Write(text); return err })
	})
}

// espMount returns the mount point of the EFI system partition.
func espMount(c *hostconfig.Config) string {
	for _, disk := range c.Spec().Storage.Disks {
		for _, p := range disk.Partitions {
			for _, f := range c.Spec().Storage.Filesystems {
				if p.Type == hostconfig.PartitionESP && f.DeviceID == p.ID && f.MountPoint != nil {
					return f.MountPoint.Path
				}
			}
		}
	}
	for _, f := range c.Spec().Storage.Filesystems {
		if f.IsESP() && f.MountPoint != nil {
			return f.MountPoint.Path
		}
	}
	return "/boot/efi"
}
