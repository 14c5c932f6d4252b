// Package loginfile changes the files that say who can log in at the gateway: the
// tokens, the passphrases and the console token. Root owns the files, and the gateway, whose
// group can read them, never changes them.
package loginfile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/atomicfile"
)

// maxName is the longest name, in bytes.
const maxName = 64

// CheckName fails with Invalid unless name can be the name of what, which may be "a token":
// letters, digits, dots, dashes and underscores.
func CheckName(what, name string) error {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) {
		return errkind.Errorf(errkind.Invalid, "name %s: %.80q is not 1 to %d letters, digits, dots, dashes and underscores", what, name, maxName)
	}
	return nil
}

// Write replaces the file at path by content as JSON. Only its owner can write it, and only
// members of the group gid can read it.
func Write(path string, content any, gid int) error {
	data, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteForGroup(path, append(data, '\n'), 0o640, gid)
}

// Change replaces the list in the file at path by what change makes of it, and makes the
// folder if there is none. Two programs at a time wait for each other. If change fails, the
// file stays as it is.
func Change[L interface{ Write(string, int) error }](path string, gid int, read func(string) (L, error), change func(L) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", folder.Name(), err)
	}
	list, err := read(path)
	if err == nil {
		err = change(list)
	}
	if err != nil {
		return err
	}
	return list.Write(path, gid)
}
