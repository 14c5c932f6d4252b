package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/isopatch"
	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/internal/linux/regfile"
)

type patchISOOptions struct {
	app     *command.App
	iso     string
	file    string
	inPlace bool
	patches []string
}

const patchISOLong = `Patch-iso puts files into a finished live ISO, without building it anew. The ISO has a
placeholder for each such file, as those of upstream's isopatch; the rest of a
placeholder becomes a comment of YAML and of shell scripts. Without --patch the
command lists the placeholders.

It writes a new image to --file, or with --in-place changes the ISO itself, which
is not whole if the command is interrupted meanwhile. It changes nothing if a file does
not fit, or if the ISO has no placeholder for it, or two.`

func newPatchISOCommand(a *command.App, run func(context.Context, *patchISOOptions) error) *cobra.Command {
	o := &patchISOOptions{app: a}
	cmd := &cobra.Command{
		Use:   "patch-iso ISO",
		Short: "Put files into a live ISO that has placeholders for them",
		Long:  patchISOLong,
		Example: `  trident image patch-iso live.iso
  trident image patch-iso live.iso --file host-1.iso --patch config.yaml:/etc/trident/config.yaml`,
		Args: command.Exactly("ISO"),
		RunE: command.Run(run, o, &o.iso),
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "file", "f", "", "the image to write; - is standard output")
	flags.BoolVar(&o.inPlace, "in-place", false, "change the ISO itself")
	flags.StringArrayVarP(&o.patches, "patch", "p", nil, "SOURCE:PATH, a file and its path in the placeholder; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("file", "in-place")
	return cmd
}

// patchedISO is the result of patch-iso. Its JSON form is documented by docs/cli.md.
type patchedISO struct {
	Path         string            `json:"path"`
	Placeholders []placeholderJSON `json:"placeholders"`
}

type placeholderJSON struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

func (o *patchISOOptions) check() error {
	switch written := o.file != "" || o.inPlace; {
	case len(o.patches) > 0 && !written:
		return errkind.Errorf(errkind.Invalid, "patch %s: name the image to write with --file, or use --in-place", o.iso)
	case len(o.patches) == 0 && written:
		return errkind.Errorf(errkind.Invalid, "patch %s: there is no --patch", o.iso)
	}
	return nil
}

func patchISO(ctx context.Context, o *patchISOOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	patches, sources, err := o.read()
	if err != nil {
		return err
	}
	iso, err := regfile.Open(o.iso)
	if err != nil {
		return fmt.Errorf("open the ISO: %w", err)
	}
	defer func() { _ = iso.Close() }()
	info, err := iso.Stat()
	if err != nil {
		return fmt.Errorf("open the ISO: %w", err)
	}
	if len(patches) == 0 {
		found, err := isopatch.Find(ctx, iso, info.Size())
		if err != nil {
			return fmt.Errorf("read %s: %w", o.iso, command.Interrupted(ctx, err))
		}
		return o.show(o.iso, found)
	}
	plan, err := isopatch.Prepare(ctx, iso, info.Size(), patches)
	if err != nil {
		return fmt.Errorf("patch %s: %w", o.iso, command.Interrupted(ctx, err))
	}
	if o.inPlace {
		if err := applyInPlace(o.iso, info, plan); err != nil {
			return fmt.Errorf("patch %s: %w", o.iso, err)
		}
		return o.show(o.iso, plan.Placeholders())
	}
	out := outfile.File{Path: o.file, Mode: 0o600, Inputs: append(sources, o.iso), Stdout: o.app.Stdout} // the patches may have keys
	err = out.Stream(ctx, func(w io.Writer) error { return plan.Copy(ctx, w, iso, info.Size()) })
	if err != nil {
		return fmt.Errorf("patch %s: %w", o.iso, command.Interrupted(ctx, err))
	}
	if !out.IsFile() {
		return nil
	}
	return o.show(o.file, plan.Placeholders())
}

// read reads the files of --patch.
func (o *patchISOOptions) read() (patches []isopatch.Patch, sources []string, err error) {
	for _, text := range o.patches {
		source, path, ok := strings.Cut(text, ":")
		if !ok || source == "" || path == "" {
			return nil, nil, errkind.Errorf(errkind.Invalid, "read --patch %s: must be SOURCE:PATH", text)
		}
		content, err := regfile.ReadFile(source, isopatch.MaxPlaceholder)
		if err != nil {
			return nil, nil, fmt.Errorf("read --patch: %w", err)
		}
		patches, sources = append(patches, isopatch.Patch{Path: path, Content: content}), append(sources, source)
	}
	return patches, sources, nil
}

// applyInPlace writes into the file that was read, and into no other.
func applyInPlace(path string, read os.FileInfo, plan *isopatch.Plan) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if now, err := f.Stat(); err != nil || !os.SameFile(read, now) {
		return errkind.Errorf(errkind.Unavailable, "another file has taken its place meanwhile")
	}
	if err := plan.Apply(f); err != nil {
		return err
	}
	return f.Sync()
}

func (o *patchISOOptions) show(path string, found []isopatch.Placeholder) error {
	answer := patchedISO{Path: path, Placeholders: []placeholderJSON{}}
	for _, p := range found {
		answer.Placeholders = append(answer.Placeholders, placeholderJSON(p))
	}
	return o.app.Show(answer, func(w *terminal.Table) {
		w.Head("PATH", "BYTE", "SIZE")
		for _, p := range found {
			w.Row(p.Path, fmt.Sprint(p.Offset), fmt.Sprint(p.Size))
		}
	})
}
