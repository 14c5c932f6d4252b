package product

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/trident-project/trident/internal/linux/ddi"
)

// Sysext makes a signed extension of another vendor: its ID and its files below
// usr, by path.
func (m *Maker) Sysext(ctx context.Context, file, id string, files map[string]string) (string, error) {
	tree, err := m.vendorTree(file, "usr/lib/extension-release.d/extension-release."+id, "ID=_any\nSYSEXT_ID="+id+"\n", files)
	if err != nil {
		return "", err
	}
	path := filepath.Join(m.dir, file)
	_, err = ddi.Build(ctx, path, ddi.BuildOptions{Tree: tree, Arch: ddi.AMD64, Epoch: time.Unix(1700000000, 0), Key: m.key, Cert: m.cert})
	return path, err
}

// Confext makes an unsigned extension of /etc: a bare file system, which systemd
// takes as well.
func (m *Maker) Confext(ctx context.Context, file, id string, files map[string]string) (string, error) {
	tree, err := m.vendorTree(file, "etc/extension-release.d/extension-release."+id, "ID=_any\nCONFEXT_ID="+id+"\n", files)
	if err != nil {
		return "", err
	}
	path := filepath.Join(m.dir, file)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	_, err = m.script(ctx, nil, "mkfs.ext4", "-q", "-E", "root_owner=0:0", "-d", tree, path, "4M")
	return path, err
}

func (m *Maker) vendorTree(file, release, text string, files map[string]string) (string, error) {
	tree := filepath.Join(m.dir, file+".tree")
	if err := os.RemoveAll(tree); err != nil {
		return "", err
	}
	files = maps.Clone(files)
	files[release] = text
	for name, content := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			return "", err
		}
	}
	return tree, nil
}
