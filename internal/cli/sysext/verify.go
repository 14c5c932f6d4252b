package sysext

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/trust"
	"github.com/trident-project/trident/internal/version"
)

type verifyOptions struct {
	app   *command.App
	image string
	trust []string
}

const verifyLong = `Verify checks an image and names the first fault: in the partition table, in the
signature, which must be by a trusted and valid certificate, in a block that does
not match the root hash, in extension-release, or in the files. An image may have
plain files and folders under usr and opt only, an image of Trident itself only the
files of Trident.

Verify trusts the certificates of this host in /usr/lib/trident/trust.d and
/etc/trident/trust.d, or instead those of --trust. Only a host knows whether the
image fits it and whether it has blocked the version.`

func newVerifyCommand(a *command.App, run func(context.Context, *verifyOptions) error) *cobra.Command {
	o := &verifyOptions{app: a}
	cmd := &cobra.Command{
		Use:     "verify FILE",
		Short:   "Check everything about an image",
		Long:    verifyLong,
		Example: "  trident sysext verify trident.raw --trust signer.crt",
		Args:    command.Exactly("FILE"),
		RunE:    command.Run(run, o, &o.image),
	}
	cmd.Flags().StringArrayVar(&o.trust, "trust", nil, "a certificate in PEM, or a folder of *.crt; may be repeated")
	return cmd
}

// verification is the result of verify. Its JSON form is documented by docs/cli.md.
type verification struct {
	File      string `json:"file"`
	RootHash  string `json:"rootHash"`
	Signer    string `json:"signer"`
	Extension string `json:"extension"`
	Version   string `json:"version"`
}

func verify(ctx context.Context, o *verifyOptions) (err error) {
	policy, err := o.policy()
	if err != nil {
		return err
	}
	img, err := openImage(o.image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	progress := terminal.NewProgress(&o.app.Streams)
	verified, err := policy.Verify(ctx, img.Image, version.Clock(o.app.Now()), func(done, total int64) { progress.Bytes("verify", done, total) })
	progress.End()
	if err != nil {
		return fmt.Errorf("verify %s: %w", o.image, o.explain(command.Interrupted(ctx, err), policy, img.Signature() != nil))
	}
	release, err := checkTree(img.Image, img.File)
	if err != nil {
		return fmt.Errorf("verify %s: %w", o.image, err)
	}
	r := &verification{
		File: o.image, RootHash: ddi.HashString(img.RootHash()), Signer: verified.Signer(), Extension: release.Name, Version: release.Version,
	}
	return o.app.Show(r, r.write)
}

func (o *verifyOptions) policy() (trust.Policy, error) {
	if len(o.trust) == 0 {
		return trust.Load("/")
	}
	return trust.LoadFiles(o.trust...)
}

// explain returns err with the hint to name the certificate of the signer: a caller who
// verifies an image elsewhere than on its host knows whose image it should be.
func (o *verifyOptions) explain(err error, policy trust.Policy, signed bool) error {
	if !signed || errkind.Of(err) != errkind.Untrusted {
		return err
	}
	const hint = "Name the certificate of the vendor whom you expect to have signed it: --trust FILE."
	if errors.Is(err, trust.ErrUnknownSigner) && len(o.trust) > 0 {
		return errkind.WithHint(err, hint+" The certificates of this machine do not count beside --trust.")
	}
	if len(o.trust) > 0 {
		return err
	}
	if len(policy.Certificates()) == 0 {
		return errkind.WithHint(errkind.Errorf(errkind.Untrusted, "no certificate was named, and none is trusted on this machine"), hint)
	}
	return errkind.WithHint(err, hint+" Without --trust the certificates of this machine count.")
}

func (r *verification) write(w *terminal.Table) {
	w.Field("File", "%s", r.File)
	w.Field("Extension", "%s", r.Extension)
	w.Field("Version", "%s", r.Version)
	w.Field("Root hash", "%s", r.RootHash)
	w.Field("Signer", "%s", r.Signer)
	w.Field("Result", "everything is as it was signed")
}
