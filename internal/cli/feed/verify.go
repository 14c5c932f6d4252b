package feed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/feed/publish"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/regfile"
)

type verifyOptions struct {
	place
	source  string
	root    string
	pubring string
}

const verifyLong = `Verify reads a feed as a host does, from its URL or its folder, beginning with a root
that hosts have. It checks signatures, versions and dates of the metadata, the hash of
every image and patch, and SHA256SUMS with its signature as systemd-sysupdate does.

Verify does not check who has signed the images: see trident sysext verify.`

func newVerifyCommand(a *command.App, run func(context.Context, *verifyOptions) error) *cobra.Command {
	o := &verifyOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "verify FEED --root FILE",
		Short: "Check a feed as a host sees it",
		Long:  verifyLong,
		Example: `  trident feed verify feed --root keys/for-hosts/feed-root.json
  trident feed verify https://updates.example/trident --root feed-root.json --pubring import-pubring.gpg`,
		Args: command.Exactly("FEED"),
		RunE: command.Run(run, o, &o.source),
	}
	o.addTime(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.root, "root", "", "a root of the feed that hosts have")
	flags.StringVar(&o.pubring, "pubring", "", "the OpenPGP keyring of hosts; default import-pubring.gpg beside --root, if it is there")
	command.Required(cmd, "root")
	return cmd
}

// verified is the result of verify. Its JSON form is documented by docs/cli.md.
type verified struct {
	Feed string `json:"feed"`
	publish.Report
}

func verify(ctx context.Context, o *verifyOptions) error {
	opts := publish.VerifyOptions{Feed: o.source}
	var err error
	if opts.Now, err = o.now(); err != nil {
		return err
	}
	if opts.Root, err = regfile.ReadFile(o.root, 1<<20); err != nil {
		return fmt.Errorf("read root: %w", err)
	}
	if opts.Pubring, err = o.readPubring(); err != nil {
		return err
	}
	progress := terminal.NewProgress(&o.app.Streams)
	opts.Progress = func(done, total int64) { progress.Bytes("verify", done, total) }
	report, err := publish.Verify(ctx, opts)
	progress.End()
	if err != nil {
		return command.Interrupted(ctx, err)
	}
	r := &verified{fetch.Redact(o.source), report}
	if fetch.Scheme(o.source) == "" {
		r.Feed = o.source
	}
	return o.app.Show(r, r.write)
}

// readPubring reads the keyring of the flag, or the one beside the root; nil without one.
func (o *verifyOptions) readPubring() ([]byte, error) {
	file := o.pubring
	if file == "" {
		file = filepath.Join(filepath.Dir(o.root), "import-pubring.gpg")
	}
	data, err := regfile.ReadFile(file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) && o.pubring == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	return data, nil
}

func (r *verified) write(w *terminal.Table) {
	w.Field("Feed", "%s", r.Feed)
	w.Field("Root", "version %d", r.Root)
	w.Field("Valid until", "%s", r.Expires.Format(time.RFC3339))
	writeNotes(w, r.Notes)
	w.Head("CHANNEL", "VERSION", "ARCHITECTURE", "SIZE", "PATCHES", "PUBLISHED")
	for _, name := range slices.Sorted(maps.Keys(r.Channels)) {
		for _, i := range r.Channels[name] {
			w.Row(name, i.Release.Version, i.Release.Architecture, bytesize.Format(i.Size), len(i.Release.Patches), i.Release.Published.Format(time.DateOnly))
		}
	}
}
