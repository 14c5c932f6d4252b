package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	cosi "github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/image/build"
)

const verifyLong = `Verify reads the whole image and names the first fault: in the archive, in
metadata.json by every rule of its version, in the length, the SHA-384 or the
unpacked size of a partition image, between the partition table and the metadata,
or between the boot files and the architecture. Verify stores nothing and needs
little memory.

` + sourceText + `

Only --sha384, the value of image.sha384 in a Host Configuration, proves that
metadata.json is the expected one.`

func newVerifyCommand(a *command.App, run func(context.Context, *imageSource) error) *cobra.Command {
	return newSourceCommand(a, &cobra.Command{
		Use:   "verify SOURCE",
		Short: "Check everything about an image",
		Long:  verifyLong,
		Example: `  trident image verify os.cosi
  trident image verify https://example.com/os.cosi --sha384 "$SHA384"`,
	}, run)
}

// verification is the result of verify. Its JSON form is documented by docs/cli.md.
type verification struct {
	Source     string         `json:"source"`
	Size       int64          `json:"size"`
	SHA384     string         `json:"sha384"`
	Expected   bool           `json:"expected"` // that it is this was asked for
	Partitions int            `json:"partitions"`
	Warnings   []cosi.Finding `json:"warnings"`
}

func verify(ctx context.Context, o *imageSource) (err error) {
	img, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	progress := terminal.NewProgress(&o.app.Streams)
	findings, err := img.Verify(ctx, func(done, total int64) { progress.Bytes("verify", done, total) })
	progress.End()
	if err != nil {
		return fmt.Errorf("%s: %w", terminal.Line(o.source), command.Interrupted(ctx, err))
	}
	findings = append(findings, img.Metadata().Doubts()...)
	if i := slices.IndexFunc(findings, func(f cosi.Finding) bool { return f.Name == cosi.NameGPT }); i >= 0 {
		return errkind.Errorf(errkind.Corrupt, "%s: verify image: %s", terminal.Line(o.source), findings[i])
	}
	if i := slices.IndexFunc(findings, func(f cosi.Finding) bool { return f.Name == cosi.NameArch }); i >= 0 {
		return errkind.Errorf(errkind.Incompatible, "%s: verify image: %s", terminal.Line(o.source), findings[i])
	}
	if err := build.CheckPrograms(ctx, img); err != nil {
		return fmt.Errorf("%s: verify image: %w", terminal.Line(o.source), command.Interrupted(ctx, err))
	}
	r := &verification{
		Source: o.source, Size: img.Size(), SHA384: img.SHA384(), Expected: o.sha384 != cosi.Ignored, Warnings: findings,
	}
	for _, p := range img.Partitions() {
		if p.Type == cosi.PartitionRegion {
			r.Partitions++
		}
	}
	return o.app.Show(r, r.write)
}

func (r *verification) write(w *terminal.Table) {
	w.Field("Image", "%s (%s)", r.Source, bytesize.Format(r.Size))
	w.Field("SHA-384", "%s", r.SHA384)
	w.Field("Partitions", "%d", r.Partitions)
	writeFindings(w, r.Warnings)
	if r.Expected {
		w.Field("Result", "everything is as it was built")
	} else {
		w.Field("Result", "it is whole; compare the SHA-384 with that of its maker")
	}
}

func writeFindings(w *terminal.Table, findings []cosi.Finding) {
	for _, f := range findings {
		w.Field("Warning", "%s", f.String())
	}
}
