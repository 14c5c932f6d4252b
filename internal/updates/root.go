package updates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/trident-project/trident/internal/linux/inroot"
)

// The files with the root metadata that a host trusts from the beginning; the first that
// exists counts.
const (
	ownersRoot = "etc/trident/feed-root.json"
	bakedRoot  = "usr/lib/trident/feed-root.json"
)

// untrustedRoot says why this host has no root metadata to begin with.
type untrustedRoot struct{ error }

func (e untrustedRoot) Unwrap() error { return e.error }

// A root is root metadata that is signed by itself.
type root struct {
	data []byte
	meta *metadata.Metadata[metadata.RootType]
	hash string // of what is signed, so that more signatures do not make another root
}

func parseRoot(data []byte) (root, error) {
	var set *trustedmetadata.TrustedMetadata
	err := guard(func() (err error) {
		set, err = trustedmetadata.New(data)
		return err
	})
	if err != nil {
		return root{}, err
	}
	signed, err := json.Marshal(set.Root.Signed)
	if err != nil {
		return root{}, err
	}
	sum := sha256.Sum256(signed)
	return root{data, set.Root, hex.EncodeToString(sum[:])}, nil
}

func (r root) version() int64 { return r.meta.Signed.Version }

// readAnchor reads the root that the owner of the host, or the builder of its image, trusts.
func readAnchor(hostRoot string) (root, error) {
	for _, name := range []string{ownersRoot, bakedRoot} {
		data, err := inroot.FS(hostRoot).ReadFile(name, maxRootFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return root{}, untrustedRoot{fmt.Errorf("read the root metadata of the update feed: %w", err)}
		}
		r, err := parseRoot(data)
		if err != nil {
			return root{}, untrustedRoot{fmt.Errorf("the root metadata of the update feed, /%s, cannot be used: %w", name, err)}
		}
		return r, nil
	}
	return root{}, untrustedRoot{fmt.Errorf("this host has no root metadata of an update feed: neither /%s nor /%s exists", ownersRoot, bakedRoot)}
}
