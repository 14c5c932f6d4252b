package hoststate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// DefaultPath is the path of the datastore unless the host configures another one.
const DefaultPath = "/var/lib/trident/datastore.sqlite"

// Path returns the path of the datastore on the host below root, as processes of
// that host see it: the value of the last line DatastorePath= in
// /etc/trident/trident.conf, or DefaultPath.
func Path(root string) (string, error) {
	const file, key = "etc/trident/trident.conf", "DatastorePath="
	data, err := inroot.FS(root).ReadFile(file, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultPath, nil
	}
	if err != nil {
		return "", fmt.Errorf("find the datastore: %w", err)
	}
	out := DefaultPath
	for line := range strings.Lines(string(data)) {
		value, ok := strings.CutPrefix(line, key)
		if value = strings.TrimSpace(value); !ok || value == "" {
			continue
		}
		if !path.IsAbs(value) || strings.ContainsRune(value, 0) {
			return "", errkind.WithHint(errkind.WithName(
				errkind.Errorf(errkind.Invalid, "find the datastore: /%s: %s%.200q is not an absolute path", file, key, value),
				errkind.NameImageBadAgentConfiguration), "give an absolute path, or delete the line to use %s", DefaultPath)
		}
		out = path.Clean(value)
	}
	return out, nil
}
