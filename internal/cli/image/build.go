package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	cosi "github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/image/build"
	"github.com/trident-project/trident/internal/linux/outfile"
)

type buildOptions struct {
	build.Options
	app       *command.App
	image     string
	frameSize string
}

const buildLong = `Build makes an image of version 1.2 (1.3 if it carries extensions) from a raw disk image with a GPT, or from
files with the content of partitions, and prints the SHA-384 of its metadata.json,
the value of image.sha384 in a Host Configuration. The same version of Trident makes
the same bytes from the same input.

An image of a disk has all of its partitions. The types of the partitions name the
mount points (Discoverable Partitions Specification), unless --mount is given: then
only --mount does. A partition without a mount point is in the image, too.

The keys of --mount are partition (its number), mount (the mount point), fstype and
fsuuid (default: what build reads from ext2 to 4, xfs, btrfs and vfat), verity (the
number of the partition with the hash tree, which may be the same one), roothash and
hashoffset (the byte of that partition at which the tree begins). --partition takes
name, type (a GUID, or esp, xbootldr, root, usr, home, srv, var, tmp, swap,
linux-generic, root-verity, usr-verity and so on), file, and the same keys, except
that verity is the name of a partition.

--packages takes dpkg's status file, what dpkg -l prints, lines of name, version and
architecture or of name, version, release and architecture, what rpm -qa prints, or
a JSON array as in metadata.json. The release of a Debian package is
its revision, or 0.

--sysext and --confext add an extension image (see "trident sysext build") for the
system in the image. Trident places it in the slot of the system, under its own name.
Versions of Trident that read only version 1.2 install the system without it.

--frame-size packs each file system with a hash tree in a partition of its own in
zstd frames of that size, from 4K to 4M, with an index. A host that updates from the
image then fetches only the frames with blocks that its other slot lacks. The smaller
the frames, the fewer bytes an update needs, and the larger is the whole image: with
4K by about a half. Other readers of COSI read such an image, too.

For systemd-boot build finds the boot entries in the ESP and the XBOOTLDR partition:
unified kernel images in EFI/Linux, and files in loader/entries.`

func newBuildCommand(a *command.App, run func(context.Context, *buildOptions) error) *cobra.Command {
	o := &buildOptions{app: a}
	cmd := &cobra.Command{
		Use:   "build FILE",
		Short: "Make an image from a disk image or from partitions",
		Long:  buildLong,
		Example: `  trident image build os.cosi --disk os.raw --arch x86_64 --os-release root/etc/os-release --packages root/var/lib/dpkg/status
  trident image build os.cosi --arch arm64 --os-release os-release --packages packages.json \
    --partition name=esp,type=esp,file=esp.vfat,mount=/boot/efi \
    --partition name=root,type=root,file=root.ext4,mount=/`,
		Args: command.Exactly("FILE"),
		RunE: command.Run(run, o, &o.image),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Disk, "disk", "", "a raw disk image or a disk")
	flags.StringArrayVar(&o.Partitions, "partition", nil, "a partition, as name=…,type=…,file=…[,mount=…]; may be repeated")
	flags.StringArrayVar(&o.Mounts, "mount", nil, "a file system of the disk, as partition=…,mount=…; may be repeated")
	flags.StringVar(&o.OSRelease, "os-release", "", "the os-release file of the system")
	flags.StringVar(&o.Packages, "packages", "", "a list of the installed packages")
	flags.StringVar(&o.Bootloader, "bootloader", "", "systemd-boot or grub; default systemd-boot, if the image has boot entries")
	flags.StringVar(&o.Arch, "arch", "", "the architecture: x86_64 or arm64")
	flags.StringArrayVar(&o.Sysexts, "sysext", nil, "a sysext image for the system to carry; may be repeated")
	flags.StringArrayVar(&o.Confexts, "confext", nil, "a confext image for the system to carry; may be repeated")
	flags.StringVar(&o.frameSize, "frame-size", "", "the size of the zstd frames of verified file systems, from 4K to 4M, for updates with few bytes")
	flags.StringVar(&o.ID, "id", "", "a UUID for this image")
	command.Required(cmd, "arch", "os-release")
	cmd.MarkFlagsOneRequired("disk", "partition")
	cmd.MarkFlagsMutuallyExclusive("disk", "partition")
	cmd.MarkFlagsMutuallyExclusive("mount", "partition")
	command.CompleteFlag(cmd, "bootloader", cosi.SystemdBoot, cosi.GRUB)
	command.CompleteFlag(cmd, "arch", arch.Names()...)
	return cmd
}

// built is the result of build. Its JSON form is documented by docs/cli.md.
type built struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA384 string `json:"sha384"`
	// Warnings are what is odd about the image.
	Warnings []cosi.Finding `json:"warnings"`

	spec *cosi.Spec
}

func buildImage(ctx context.Context, o *buildOptions) error {
	img, err := build.Open(o.Options)
	if err != nil {
		return err
	}
	defer img.Close()
	spec := &img.Spec
	if o.frameSize != "" {
		if spec.FrameSize, err = bytesize.Parse(o.frameSize); err != nil {
			return errkind.With(errkind.Invalid, fmt.Errorf("read --frame-size: %w", err))
		}
	}
	out := outfile.File{Path: o.image, Mode: 0o644, Inputs: img.Inputs(), Stdout: o.app.Stdout}
	if err := out.CheckStream(); err != nil {
		return err
	}
	r := &built{Path: o.image, Warnings: []cosi.Finding{}, spec: spec}
	spec.Temp = out.TempDir()
	spec.Warn = func(f cosi.Finding) { r.Warnings = append(r.Warnings, f) }
	progress := terminal.NewProgress(&o.app.Streams)
	err = out.Stream(ctx, func(w io.Writer) error {
		var err error
		counted := &countingWriter{w: w}
		r.SHA384, err = cosi.Write(ctx, counted, *spec, func(done, total int64) { progress.Bytes("pack", done, total) })
		r.Size = counted.n
		return err
	})
	progress.End()
	if err != nil {
		return command.Interrupted(ctx, err)
	}
	if !out.IsFile() { // whoever reads the image wants nothing else in it
		o.app.Stdout = o.app.Stderr
	}
	return o.app.Show(r, r.write)
}

// countingWriter counts the bytes that it passes on.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (r *built) write(w *terminal.Table) {
	w.Field("Image", "%s (%s)", r.Path, bytesize.Format(r.Size))
	w.Field("SHA-384", "%s", r.SHA384)
	for _, m := range r.spec.Mounts {
		text := fmt.Sprintf("partition %d", m.Number)
		if m.HashTree == m.Number {
			text += ", with its hash tree"
		} else if m.HashTree != 0 {
			text += fmt.Sprintf(", hash tree in partition %d", m.HashTree)
		}
		w.Field(m.MountPoint, "%s", text)
	}
	for _, e := range r.spec.Extensions {
		w.Field("Carries", "a %s (%s)", e.Class, bytesize.Format(e.Size))
	}
	if len(r.spec.Mounts) == 0 {
		w.Field("Mounts", "none were found: see --mount")
	}
	writeFindings(w, r.Warnings)
	boot := r.spec.Bootloader.Type
	if set := r.spec.Bootloader.SystemdBoot; set != nil {
		paths := []string{}
		for _, e := range set.Entries {
			paths = append(paths, e.Path)
		}
		slices.Sort(paths)
		boot += ": " + strings.Join(paths, ", ")
	}
	w.Field("Boot loader", "%s", boot)
}
