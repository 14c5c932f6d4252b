package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	cosi "github.com/trident-project/trident/internal/image"
)

const inspectLong = `Inspect shows the metadata of an image: system, boot loader, partitions, file
systems, extensions, and warnings. It reads the headers and metadata.json, and refuses metadata
that break a rule. "trident image verify" checks the content.

` + sourceText

func newInspectCommand(a *command.App, run func(context.Context, *imageSource) error) *cobra.Command {
	return newSourceCommand(a, &cobra.Command{
		Use:   "inspect SOURCE",
		Short: "Show the content of an image",
		Long:  inspectLong,
		Example: `  trident image inspect os.cosi
  trident image inspect oci://registry.example.com/os:42 --auth-file ~/.docker/config.json`,
	}, run)
}

// inspection is the result of inspect. Its JSON form is documented by docs/cli.md.
type inspection struct {
	Source   string          `json:"source"`
	Size     int64           `json:"size"`
	SHA384   string          `json:"sha384"`
	Metadata json.RawMessage `json:"metadata"` // as it is in the image
	Warnings []cosi.Finding  `json:"warnings"`

	image *cosi.Image
}

func inspect(ctx context.Context, o *imageSource) (err error) {
	img, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	r := &inspection{
		Source: o.source, Size: img.Size(), SHA384: img.SHA384(), Metadata: img.RawMetadata(),
		Warnings: append(append([]cosi.Finding{}, img.Warnings()...), img.Metadata().Doubts()...), image: img,
	}
	return o.app.Show(r, r.write)
}

func (r *inspection) write(w *terminal.Table) {
	m := r.image.Metadata()
	w.Field("Image", "%s (%s)", r.Source, bytesize.Format(r.Size))
	w.Field("SHA-384", "%s", r.SHA384)
	w.Field("Format", "COSI %s", m.Version)
	if m.ID != "" {
		w.Field("ID", "%s", m.ID)
	}
	system := cmp.Or(m.OSRelease.Get("PRETTY_NAME"), m.OSRelease.Get("NAME"), m.OSRelease.Get("ID"), "not named")
	w.Field("System", "%s, %s, %d packages", system, m.Arch, len(m.Packages))
	if b := m.Bootloader; b != nil {
		w.Field("Boot loader", "%s", b.Type)
		if b.SystemdBoot != nil {
			for _, e := range b.SystemdBoot.Entries {
				w.Field(fmt.Sprintf("  %s", e.Type), "%s", e.Path)
				w.Field("", "kernel %s, %s", e.Kernel, e.Cmdline)
			}
		}
	}
	if m.Disk != nil {
		w.Field("Disk", "%s, sectors of %d bytes", bytesize.Format(m.Disk.Size), m.Disk.LBASize)
	}
	writeFindings(w, r.Warnings)
	w.Head("PARTITION", "SIZE", "PACKED", "MOUNT POINT", "TYPE", "UUID", "SHA-384 OF THE PACKED")
	for _, p := range r.image.Partitions() {
		number, mount, fsType, uuid := fmt.Sprint(p.Number), "-", "-", "-"
		switch {
		case p.Type == cosi.PrimaryGPT:
			number = "table"
		case p.Number == 0: // before version 1.2
			number = "-"
		}
		if f := p.Filesystem; f != nil && p.HashTree {
			mount, fsType = "-", "hash tree of "+cmp.Or(f.MountPoint, "-")
		} else if f != nil {
			mount, fsType, uuid = cmp.Or(f.MountPoint, "-"), f.Type, cmp.Or(f.UUID, "-")
		}
		w.Row(number, bytesize.Format(p.File.Size), bytesize.Format(p.File.Compressed), mount, fsType, uuid, cmp.Or(p.File.SHA384, "none"))
	}
	for _, c := range r.image.Extensions() {
		w.Line("")
		w.Line("Carries a %s: %s, %s, packed %s, %s", c.Class, c.File.Path, bytesize.Format(c.File.Size), bytesize.Format(c.File.Compressed), cmp.Or(c.Path, "at its default path"))
	}
	for _, f := range m.Filesystems {
		if f.Verity == nil {
			continue
		}
		w.Line("")
		w.Line("Root hash of %s: %s", f.MountPoint, f.Verity.RootHash)
		switch at := f.Verity.HashOffset; {
		case f.Inline() && at == 0:
			w.Line("Its hash tree lies behind the file system, in the same partition.")
		case f.Inline():
			w.Line("Its hash tree lies behind the file system, from byte %d of the same partition on.", at)
		}
	}
}
