package sysext

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/outfile"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/internal/trust"
	"github.com/trident-project/trident/internal/version"
)

type signOptions struct {
	app           *command.App
	image         string
	printRootHash bool
	signature     string
	key, cert     string
}

const signLong = `Sign adds a signature to an image, or replaces its signature. With --key sign makes
the signature with a key in a PEM file. With --signature it reads the signature from
a file: a detached PKCS#7 in DER over the root hash, in lower-case hex and without
a newline. So the key can stay in an HSM or with a signing service, which needs only
the output of --print-root-hash.

Sign checks the signed image with the rules of a host, and adds no signature that
every host would refuse.`

func newSignCommand(a *command.App, run func(context.Context, *signOptions) error) *cobra.Command {
	o := &signOptions{app: a}
	cmd := &cobra.Command{
		Use:   "sign FILE (--key KEY --cert CERT | --print-root-hash | --signature P7S --cert CERT)",
		Short: "Sign an image, with a key or with a signature from elsewhere",
		Long:  signLong,
		Example: `  trident sysext sign trident.raw --key k.pem --cert c.pem

  trident sysext sign trident.raw --print-root-hash | tr -d '\n' > hash
  openssl smime -sign -noattr -binary -md sha256 -in hash -outform der \
    -signer c.pem -inkey k.pem -out hash.p7s
  trident sysext sign trident.raw --signature hash.p7s --cert c.pem`,
		Args: command.Exactly("FILE"),
		RunE: command.Run(run, o, &o.image),
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.printRootHash, "print-root-hash", false, "print the root hash, and sign nothing")
	flags.StringVar(&o.signature, "signature", "", "a file with a signature")
	addKeyFlags(flags, &o.key, &o.cert)
	cmd.MarkFlagsOneRequired("key", "print-root-hash", "signature")
	cmd.MarkFlagsMutuallyExclusive("key", "print-root-hash", "signature")
	cmd.MarkFlagsMutuallyExclusive("cert", "print-root-hash")
	return cmd
}

func addKeyFlags(flags *pflag.FlagSet, key, cert *string) {
	flags.StringVar(key, "key", "", "the private key, PEM")
	flags.StringVar(cert, "cert", "", "the certificate of the key, PEM")
}

func sign(ctx context.Context, o *signOptions) error {
	if o.printRootHash {
		root, err := rootHash(o.image)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(o.app.Stdout, ddi.HashString(root))
		return err
	}
	if o.cert == "" {
		return errkind.Errorf(errkind.Invalid, "sign %s: --cert is missing", o.image)
	}
	if _, err := (outfile.File{Path: o.image}).Whole(); err != nil {
		return err
	}
	sig, s, err := o.sign()
	if err != nil {
		return err
	}
	if err := ddi.Attach(o.image, sig, s.cert, checkAsHost(ctx, o.app, s.cert)); err != nil {
		return err
	}
	s.print(o.app.Stderr)
	return nil
}

// sign makes the signature, or reads it.
func (o *signOptions) sign() ([]byte, signer, error) {
	if o.signature != "" {
		cert, err := readCertificate(o.cert)
		if err == nil {
			err = checkSigner(o.cert, cert, o.app.Now())
		}
		if err != nil {
			return nil, signer{}, err
		}
		sig, err := readSignature(o.signature)
		return sig, signer{cert: cert}, err
	}
	s, err := readSigner(o.key, o.cert, o.app.Now())
	if err != nil {
		return nil, s, err
	}
	root, err := rootHash(o.image)
	if err != nil {
		return nil, s, err
	}
	sig, err := ddi.SignRootHash(root, s.cert, s.key)
	return sig, s, err
}

// checkAsHost returns a check of an image with the rules of a host that trusts the signer.
// cert is nil for an image that build has made and nobody has signed yet.
func checkAsHost(ctx context.Context, a *command.App, cert *x509.Certificate) func(*ddi.Image, *os.File) error {
	return func(img *ddi.Image, file *os.File) error {
		if cert != nil {
			_, err := trust.PolicyOf(cert).Verify(ctx, img, version.Clock(a.Now()), func(int64, int64) {})
			if errors.Is(err, trust.ErrUnknownSigner) {
				err = errkind.WithHint(err, "--cert must name the certificate of the key that made the signature.")
			}
			if err != nil {
				return fmt.Errorf("no host would accept the image: %w", err)
			}
		}
		if _, err := checkTree(img, file); err != nil {
			return fmt.Errorf("no host would accept the image: %w", err)
		}
		return nil
	}
}

// checkTree checks the content of an image that was verified or that build has made.
func checkTree(img *ddi.Image, file *os.File) (_ extension.Release, err error) {
	tree, err := extension.OpenTree(img, file)
	if err != nil {
		return extension.Release{}, err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	return extension.CheckImage(img, tree)
}

func rootHash(image string) (root [32]byte, err error) {
	img, err := openImage(image)
	if err != nil {
		return root, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	return img.RootHash(), nil
}

// image is an open image file.
type image struct {
	*ddi.Image
	*os.File
	size int64
}

func openImage(path string) (image, error) {
	f, err := regfile.Open(path)
	if info, statErr := os.Stat(path); err != nil && statErr == nil && info.IsDir() {
		err = errkind.WithHint(err, "An image is made of a folder by trident sysext build --tree %s.", path)
	}
	if err != nil {
		return image{}, fmt.Errorf("open image: %w", err)
	}
	info, err := f.Stat()
	var img *ddi.Image
	if err == nil {
		img, err = ddi.Open(f, info.Size())
	}
	if err != nil {
		return image{}, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return image{img, f, info.Size()}, nil
}

// signer is a key and its certificate.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// print prints the subject of the certificate.
func (s signer) print(w io.Writer) {
	if s.cert == nil {
		fmt.Fprintln(w, "Not signed: no --key was given.")
		return
	}
	fmt.Fprintf(w, "Signed by %s, whose certificate is valid until %s.\n", terminal.Line(s.cert.Subject.String()), s.cert.NotAfter.UTC().Format(time.DateOnly))
}

func readSigner(key, cert string, now time.Time) (signer, error) {
	c, err := readCertificate(cert)
	if err == nil {
		err = checkSigner(cert, c, now)
	}
	if err != nil {
		return signer{}, err
	}
	k, err := readKey(key)
	return signer{c, k}, err
}

// checkSigner returns the error about the signer that the check of the image would return
// at the end.
func checkSigner(file string, cert *x509.Certificate, now time.Time) error {
	if err := trust.CheckSigner(cert, version.Clock(now)); err != nil {
		return fmt.Errorf("sign with %s: no host would accept the signature: %w", file, err)
	}
	return nil
}
