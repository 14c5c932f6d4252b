package feed

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/feed/publish"
	"github.com/trident-project/trident/internal/linux/regfile"
)

type signOptions struct {
	place
	signature, key string
}

const signLong = `Sign says which root waits for a signature by a root key that is kept elsewhere, and
takes the signature in. What is signed is the content of a file, as it is, by ed25519
(RFC 8032): 64 bytes, raw or in base64. Sign checks the signature before it keeps it.

With --key sign makes the signature itself, for a key that is on this machine only for
now.`

func newSignCommand(a *command.App, run func(context.Context, *signOptions) error) *cobra.Command {
	o := &signOptions{place: place{app: a}}
	cmd := &cobra.Command{
		Use:   "sign --feed DIR --keys DIR [--signature FILE | --key KEY]",
		Short: "Take in a signature by a root key that is kept elsewhere",
		Long:  signLong,
		Example: `  trident feed sign --feed feed --keys keys
  openssl pkeyutl -sign -rawin -inkey root.pem -in keys/next-root.tosign -out root.sig
  trident feed sign --feed feed --keys keys --signature root.sig`,
		Args: command.Exactly(),
		RunE: command.Run(run, o),
	}
	o.addFlags(cmd)
	cmd.Flags().StringVar(&o.signature, "signature", "", "a file with a signature")
	cmd.Flags().StringVar(&o.key, "key", "", "the private root key, PEM")
	cmd.MarkFlagsMutuallyExclusive("signature", "key")
	return cmd
}

func sign(_ context.Context, o *signOptions) error {
	r := &rotated{place: o.flags(), done: "No root waits for a signature. A new root counts after: trident feed publish"}
	return r.show(o.place, func(p *publish.Publisher) error {
		switch {
		case o.signature != "":
			signature, err := readSignature(o.signature)
			if err != nil {
				return err
			}
			return p.TakeSignature(signature)
		case o.key != "":
			key, err := publish.ReadKey(o.key)
			if err != nil {
				return err
			}
			return p.SignWith(key)
		}
		return nil
	})
}

// readSignature reads 64 bytes, or their base64.
func readSignature(file string) ([]byte, error) {
	data, err := regfile.ReadFile(file, 4096)
	if err != nil {
		return nil, fmt.Errorf("read signature: %w", err)
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(data))); err == nil && len(raw) == 64 {
		return raw, nil
	}
	return data, nil
}
