package newos

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/storage"
)

// paramSignatures is an internal parameter: the paths, in the image, of the signatures of
// root hashes, by the ids of their verity devices. The initrd gives a signature to the
// kernel, which checks it with the keys that it trusts. Trident checks only that it is there.
const paramSignatures = "veritySignaturePaths"

const maxSignature = 64 << 10 // bytes

// A signature is the file with the signature of a root hash.
type signature struct{ id, path string }

// signatures returns the signatures of a configuration that checkSignaturePaths accepts,
// sorted by the ids of their devices.
func signatures(c *hostconfig.Config) []signature {
	all, _ := c.Spec().InternalParams[paramSignatures].(map[string]any)
	var out []signature
	for _, id := range slices.Sorted(maps.Keys(all)) {
		name, _ := all[id].(string)
		out = append(out, signature{id, name})
	}
	return out
}

// checkSignaturePaths checks the form of the parameter.
func checkSignaturePaths(c *hostconfig.Config) error {
	s := &c.Spec().Storage
	fault := func(format string, args ...any) error {
		field := "internalParams." + paramSignatures
		err := errkind.WithField(errkind.Errorf(errkind.Invalid, field+": "+format, args...), field)
		return errkind.WithName(err, errkind.NameInvalidHostConfigurationDynamic)
	}
	value, is := c.Spec().InternalParams[paramSignatures]
	if _, isMap := value.(map[string]any); is && !isMap {
		return fault("is not a mapping of verity devices to paths in the image")
	}
	for _, sig := range signatures(c) {
		switch {
		case storage.VerityOf(s, sig.id) == nil:
			return fault("storage.verity has no device %q", sig.id)
		case !path.IsAbs(sig.path):
			return fault("%q of device %q is not the absolute path of a file in the image", sig.path, sig.id)
		}
		for _, f := range s.Filesystems {
			if f.IsESP() && f.MountPoint != nil && strings.HasPrefix(path.Clean(sig.path), path.Clean(f.MountPoint.Path)+"/") {
				return fault("%s is on the EFI system partition, which anybody may write", sig.path)
			}
		}
	}
	return nil
}

// checkSignatures fails if the new OS lacks the signature of a root hash.
func (o *OS) checkSignatures(_ context.Context, _ *record.Run, c *hostconfig.Config, root string) error {
	for _, sig := range signatures(c) {
		if err := sig.check(root); err != nil {
			return err
		}
	}
	return nil
}

// check fails unless the OS below root has the file with a PKCS #7 signature in DER form.
func (s signature) check(root string) error {
	err := s.read(root)
	if err != nil {
		err = fmt.Errorf("read the signature %s of the root hash of verity device %q: %w", s.path, s.id, err)
	}
	return errkind.WithName(err, errkind.NameCreateVerity)
}

func (s signature) read(root string) error {
	f, err := inroot.FS(root).Open(path.Clean(s.path)[1:])
	if errors.Is(err, fs.ErrNotExist) {
		return errkind.Errorf(errkind.NotFound, "the image does not have it")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSignature+1))
	if err != nil {
		return err
	}
	if len(data) > maxSignature {
		return errkind.Errorf(errkind.TooLarge, "it has more than %d bytes", maxSignature)
	}
	var content struct {
		Type asn1.ObjectIdentifier
		Rest asn1.RawValue `asn1:"explicit,optional,tag:0"`
	}
	signedData := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2} // RFC 2315, section 14
	if rest, err := asn1.Unmarshal(data, &content); err != nil || len(rest) > 0 || !content.Type.Equal(signedData) {
		return errkind.Errorf(errkind.Invalid, "it is not a PKCS #7 signature in DER form")
	}
	return nil
}
