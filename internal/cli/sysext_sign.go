package cli

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
)

type sysextSignOptions struct {
	app           *app
	image         string
	printRootHash bool
	signature     string
	key, cert     string
}

const sysextSignLong = `Sign adds a signature to an image, or replaces the one that it has. With --key
it is made here, from a key in a PEM file. With --signature it is taken from a
file: a detached PKCS#7 in DER over the root hash, in lower-case hex and without
a newline. So the key can stay in an HSM or with a signing service, which needs to
see nothing but what --print-root-hash prints.`

func newSysextSignCommand(a *app, run func(context.Context, *sysextSignOptions) error) *cobra.Command {
	o := &sysextSignOptions{app: a}
	cmd := &cobra.Command{
		Use:   "sign FILE (--key KEY --cert CERT | --print-root-hash | --signature P7S --cert CERT)",
		Short: "Sign an image, here or elsewhere",
		Long:  sysextSignLong,
		Example: `  trident sysext sign trident.raw --key k.pem --cert c.pem

  trident sysext sign trident.raw --print-root-hash | tr -d '\n' > hash
  openssl smime -sign -noattr -binary -md sha256 -in hash -outform der \
    -signer c.pem -inkey k.pem -out hash.p7s
  trident sysext sign trident.raw --signature hash.p7s --cert c.pem`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.image = args[0]
			return run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.printRootHash, "print-root-hash", false, "print what is to be signed, and sign nothing")
	flags.StringVar(&o.signature, "signature", "", "a signature made elsewhere")
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

func sysextSign(_ context.Context, o *sysextSignOptions) error {
	root, err := rootHash(o.image)
	if err != nil {
		return err
	}
	if o.printRootHash {
		_, err := fmt.Fprintln(o.app.stdout, ddi.HashString(root))
		return err
	}
	if o.cert == "" {
		return errkind.Errorf(errkind.Invalid, "sign %s: --cert is missing", o.image)
	}
	if o.signature == "" {
		s, err := readSigner(o.key, o.cert)
		if err != nil {
			return err
		}
		return s.sign(o.image, root)
	}
	cert, err := readCertificate(o.cert)
	if err != nil {
		return err
	}
	sig, err := readSmall("signature", o.signature)
	if err != nil {
		return err
	}
	return ddi.Attach(o.image, sig, cert)
}

func rootHash(image string) (root [32]byte, err error) {
	img, err := openImage(image)
	if err != nil {
		return root, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	return img.RootHash(), nil
}

// image is an image in a file, which stays open.
type image struct {
	*ddi.Image
	*os.File
	size int64
}

func openImage(path string) (image, error) {
	f, err := os.Open(path)
	if err != nil {
		return image{}, fmt.Errorf("open image: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errkind.Errorf(errkind.Invalid, "it is no regular file")
	}
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

func (s signer) sign(image string, root [32]byte) error {
	sig, err := ddi.SignRootHash(root, s.cert, s.key)
	if err != nil {
		return err
	}
	return ddi.Attach(image, sig, s.cert)
}

func readSigner(key, cert string) (signer, error) {
	c, err := readCertificate(cert)
	if err != nil {
		return signer{}, err
	}
	k, err := readKey(key)
	return signer{c, k}, err
}

func readCertificate(path string) (*x509.Certificate, error) {
	block, err := readPEM("certificate", path, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "read certificate %s: %w", path, err)
	}
	return cert, nil
}

// readKey never says more of the file than its name.
func readKey(path string) (crypto.Signer, error) {
	block, err := readPEM("key", path, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if s, ok := key.(crypto.Signer); ok && err == nil {
		return s, nil
	}
	return nil, errkind.Errorf(errkind.Invalid, "read key %s: it holds no private key that can sign", path)
}

// readPEM returns the first block of one of the types.
func readPEM(what, path string, types ...string) (*pem.Block, error) {
	data, err := readSmall(what, path)
	if err != nil {
		return nil, err
	}
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		for _, t := range types {
			if block.Type == t {
				return block, nil
			}
		}
		data = rest
	}
	return nil, errkind.Errorf(errkind.Invalid, "read %s %s: it has no PEM block %q", what, path, types[0])
}

// readSmall reads a file of at most 1 MiB.
func readSmall(what, path string) ([]byte, error) {
	const limit = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(data) > limit {
		return nil, errkind.Errorf(errkind.TooLarge, "read %s %s: it has more than %d bytes", what, path, limit)
	}
	return data, nil
}
