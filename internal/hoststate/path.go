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

// DefaultPath is where the datastore is unless the host says otherwise.
const DefaultPath = "/var/lib/trident/datastore.sqlite"

// Path returns where the datastore of the host below root is, as that host sees
// it: the last line DatastorePath= of /etc/trident/trident.conf (reference,
// 4.10), or DefaultPath.
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
				errkind.NameImageBadAgentConfiguration), "name the whole path, or delete the line for %s", DefaultPath)
		}
		out = path.Clean(value)
	}
	return out, nil
}
