package ddi

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/internal/linux/regfile"
)

// Attach adds a signature to the image at path, which Build made, or replaces its
// signature. It replaces the file only if each of checks accepts the signed image;
// after a failure the file is unchanged. Without checks, Attach fails if sig is not a
// signature of the image's root hash by the key of cert.
func Attach(path string, sig []byte, cert *x509.Certificate, checks ...func(*Image, *os.File) error) error {
	if err := attach(path, sig, cert, checks); err != nil {
		return fmt.Errorf("sign %s: %w", path, err)
	}
	return nil
}

func attach(path string, sig []byte, cert *x509.Certificate, checks []func(*Image, *os.File) error) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil { // replace the target of a link, not the link
		return err
	}
	f, err := regfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := Open(f, info.Size())
	if err != nil {
		return err
	}
	if len(checks) == 0 {
		if err := checkSignature(m.rootHash, sig, cert); err != nil {
			return err
		}
	}
	return atomicfile.FillFunc(path, info.Mode().Perm(), func(out *os.File) error {
		if _, err := io.Copy(out, f); err != nil {
			return err
		}
		if err := writeSignature(out, m.table, m.rootHash, sig, cert); err != nil {
			return err
		}
		for _, judge := range checks {
			if err := check(out, judge); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeSignature writes a signature, then the table, into an existing image.
func writeSignature(f *os.File, table *gpt.Table, root [32]byte, sig []byte, cert *x509.Certificate) error {
	content, err := encodeSignature(root, cert, sig)
	if err != nil {
		return err
	}
	table, at, err := withSignature(table, root)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(content, at); err != nil {
		return err
	}
	return gpt.Write(f, table)
}

// withSignature returns the table with a signature partition, and the offset of that
// partition. A new one uses the room that Build left after the hash tree.
func withSignature(t *gpt.Table, root [32]byte) (*gpt.Table, int64, error) {
	parts, err := classify(t.Partitions)
	if err != nil {
		return nil, 0, err
	}
	if parts.sig != nil {
		if parts.sig.Size() != sigSize {
			return nil, 0, errkind.Errorf(errkind.Precondition, "the signature partition has %d bytes, not %d", parts.sig.Size(), sigSize)
		}
		return t, parts.sig.Offset(), nil
	}
	last := inOrder(t.Partitions)[len(t.Partitions)-1]
	at := (last.Offset() + last.Size() + grain - 1) / grain * grain
	if at+sigSize > t.Size-gpt.OverheadBack {
		return nil, 0, errkind.Errorf(errkind.Precondition, "less than %d bytes are free after the last partition", sigSize)
	}
	kind, _ := typeOf(parts.data.Type)
	name := kind.String() + "-verity-sig"
	kind.role = roleSig
	typ, _ := idOf(kind)
	table := *t
	table.Partitions = append(table.Partitions[:len(table.Partitions):len(table.Partitions)], gpt.Partition{
		Type: typ, ID: identity(root).uuid("signature"), Attributes: attrReadOnly, Name: name,
		First: uint64(at / 512), Last: uint64((at+sigSize)/512) - 1,
	})
	return &table, at, nil
}
