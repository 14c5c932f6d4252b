package sysext

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/trident-project/trident/internal/bytesize"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/linux/ddi"
)

type inspectOptions struct {
	app   *command.App
	image string
}

const inspectLong = `Inspect shows the content of an image: partitions, root hash, the claimed signer,
extension-release, and the files. Inspect reads the structure alone: "trident sysext
verify" checks signature and content.`

func newInspectCommand(a *command.App, run func(context.Context, *inspectOptions) error) *cobra.Command {
	o := &inspectOptions{app: a}
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show the content of an image",
		Example: `  trident sysext inspect trident.raw
  trident sysext inspect trident.raw --output json`,
		Long: inspectLong,
		Args: command.Exactly("FILE"),
		RunE: command.Run(run, o, &o.image),
	}
}

// inspection is the result of inspect. Its JSON form is documented by docs/cli.md.
type inspection struct {
	File         string             `json:"file"`
	Size         int64              `json:"size"`
	Architecture string             `json:"architecture"`
	RootHash     string             `json:"rootHash"`
	Partitions   []partition        `json:"partitions"`
	Signature    *signatureInfo     `json:"signature"`
	Releases     []extensionRelease `json:"extensionReleases"`
	Files        []fileInfo         `json:"files"`
	// Unread says why inspect lists no files of a sound image.
	Unread string `json:"unread,omitempty"`
}

type partition struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	ID     string `json:"id"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// signatureInfo is the content of a signature, which is not verified.
type signatureInfo struct {
	Signer      string     `json:"signer"`
	Fingerprint string     `json:"fingerprint"`
	NotBefore   *time.Time `json:"notBefore,omitempty"`
	NotAfter    *time.Time `json:"notAfter,omitempty"`
	Bytes       int        `json:"bytes"`
}

type extensionRelease struct {
	Name   string            `json:"name"`
	Fields map[string]string `json:"fields"`
}

type fileInfo struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"`
	Size   int64  `json:"size"`
	Target string `json:"target,omitempty"`
}

func inspect(_ context.Context, o *inspectOptions) (err error) {
	img, err := openImage(o.image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	r, err := describe(o.image, img)
	if err != nil {
		return fmt.Errorf("%s: %w", o.image, err)
	}
	return o.app.Show(r, r.write)
}

func describe(file string, img image) (*inspection, error) {
	r := &inspection{
		File: file, Size: img.size, Architecture: string(img.Arch()), RootHash: ddi.HashString(img.RootHash()),
		Signature: describeSignature(img.Signature()), Releases: []extensionRelease{}, Files: []fileInfo{},
	}
	for _, p := range img.Table().Partitions {
		r.Partitions = append(r.Partitions, partition{p.Name, p.Type.String(), p.ID.String(), p.Offset(), p.Size()})
	}
	fsys, err := img.FS()
	if err == nil {
		err = r.readTree(fsys)
	}
	if errkind.Of(err) == errkind.Unsupported {
		r.Unread = err.Error()
		return r, nil
	}
	return r, err
}

// maxListed is the most files that inspect lists.
const maxListed = 1 << 16

func (r *inspection) readTree(fsys fs.FS) error {
	names, err := releaseNames(fsys)
	if err != nil {
		return err
	}
	for _, name := range names {
		release, err := extension.ReadRelease(fsys, name)
		if err != nil {
			return err
		}
		r.Releases = append(r.Releases, extensionRelease{name, release.Fields})
	}
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case name == ".":
			return nil
		case len(r.Files) == maxListed || strings.Count(name, "/") > 64:
			return errkind.Errorf(errkind.TooLarge, "%s: the image has more than %d files, or folders more than 64 deep", name, maxListed)
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f := fileInfo{Path: name, Mode: info.Mode().String()}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if f.Target, err = fs.ReadLink(fsys, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case info.Mode().IsRegular():
			f.Size = info.Size()
		}
		r.Files = append(r.Files, f)
		return nil
	})
}

// releaseNames are the names for which an image has an extension-release.
func releaseNames(fsys fs.FS) ([]string, error) {
	const dir, prefix = "usr/lib/extension-release.d", "extension-release."
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutPrefix(path.Base(e.Name()), prefix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

func describeSignature(sig *ddi.Signature) *signatureInfo {
	if sig == nil {
		return nil
	}
	s := &signatureInfo{Fingerprint: sig.CertificateFingerprint, Bytes: len(sig.PKCS7)}
	for _, cert := range embedded(sig.PKCS7) {
		sum := sha256.Sum256(cert.Raw)
		if fp := hex.EncodeToString(sum[:]); s.Fingerprint == "" || s.Fingerprint == fp {
			s.Signer, s.Fingerprint, s.NotBefore, s.NotAfter = cert.Subject.String(), fp, &cert.NotBefore, &cert.NotAfter
			break
		}
	}
	return s
}

// embedded returns the certificates in a PKCS#7 signature (RFC 2315, sections 7 and 9.1),
// for display only: nobody has verified them.
func embedded(der []byte) []*x509.Certificate {
	var content, signed, certs cryptobyte.String
	explicit0 := asn1.Tag(0).Constructed().ContextSpecific()
	in := cryptobyte.String(der)
	ok := in.ReadASN1(&content, asn1.SEQUENCE) && content.SkipASN1(asn1.OBJECT_IDENTIFIER) &&
		content.ReadASN1(&content, explicit0) && content.ReadASN1(&signed, asn1.SEQUENCE) &&
		signed.SkipASN1(asn1.INTEGER) && signed.SkipASN1(asn1.SET) && signed.SkipASN1(asn1.SEQUENCE) &&
		signed.ReadASN1(&certs, explicit0)
	if !ok {
		return nil
	}
	list, err := x509.ParseCertificates(certs)
	if err != nil {
		return nil
	}
	return list
}

func (r *inspection) write(w *terminal.Table) {
	w.Field("File", "%s (%s)", r.File, bytesize.Format(r.Size))
	w.Field("Architecture", "%s", r.Architecture)
	w.Field("Root hash", "%s", r.RootHash)
	switch s := r.Signature; {
	case s == nil:
		w.Field("Signature", "none")
	default:
		w.Field("Signature", "says to be by %s (not checked)", cmp.Or(s.Signer, "a certificate that is not included"))
		w.Field("", "certificate %s", cmp.Or(s.Fingerprint, "not named"))
	}
	w.Head("PARTITION", "SIZE", "OFFSET", "ID")
	for _, p := range r.Partitions {
		w.Row(p.Name, bytesize.Format(p.Size), p.Offset, p.ID)
	}
	for _, release := range r.Releases {
		w.Line("")
		w.Line("extension-release.%s", release.Name)
		for _, key := range slices.Sorted(maps.Keys(release.Fields)) {
			w.Line("  %s=%s", key, release.Fields[key])
		}
	}
	if r.Unread != "" {
		w.Line("")
		w.Line("The files are not shown: %s", r.Unread)
		return
	}
	w.Head("MODE", "SIZE", "FILE")
	for _, f := range r.Files {
		name := terminal.Line(f.Path)
		if f.Target != "" {
			name += " -> " + terminal.Line(f.Target)
		}
		w.Row(f.Mode, bytesize.Format(f.Size), name)
	}
}
