package change

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/atomicfile"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/osconfig"
)

// source describes the copy of a file that a configuration names.
type source struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	// Mode is that of the file, in octal digits. It is "" in lists of older releases.
	Mode string `json:"mode,omitempty"`
}

const manifestName = "sources.json"

// SourcesOf returns the files of the host that additional files and scripts name, sorted.
func SourcesOf(files []hostconfig.AdditionalFile, scripts []hostconfig.Script) []string {
	var out []string
	for _, f := range files {
		if f.Source != "" {
			out = append(out, Absolute(f.Source))
		}
	}
	for _, script := range scripts {
		if script.Path != "" {
			out = append(out, Absolute(script.Path))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// SourceCopy returns the path of the copy of a source.
func (h *Host) SourceCopy(name string) string {
	sum := sha256.Sum256([]byte(Absolute(name)))
	return filepath.Join(h.StagedDir(), hex.EncodeToString(sum[:]))
}

// CopySources replaces the files in StagedDir by copies of the files names of the host, so
// that finalizing does not need the originals.
func (h *Host) CopySources(ctx context.Context, names []string) error {
	err := h.Touch("make staged folder", func() error {
		return errors.Join(os.RemoveAll(h.StagedDir()), os.MkdirAll(h.StagedDir(), 0o700))
	})
	if err != nil {
		return fmt.Errorf("make staged folder: %w", err)
	}
	var list []source
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errkind.With(errkind.Cancelled, err)
		}
		var copied source
		err := h.Touch("copy source", func() (err error) {
			copied, err = h.copySource(name)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		list = append(list, copied)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return h.Touch("write list of sources", func() error {
		return atomicfile.Write(filepath.Join(h.StagedDir(), manifestName), text, 0o600)
	})
}

// copySource copies the file name of the host. It refuses a link through which a user of
// the host could have it copy another file.
func (h *Host) copySource(name string) (source, error) {
	dir, base, err := inroot.FS(h.Root).Target(name)
	if _, dangling := errors.AsType[*inroot.DanglingError](err); dangling || errors.Is(err, fs.ErrNotExist) {
		return source{}, errkind.With(errkind.Invalid, err)
	}
	if err != nil {
		return source{}, err
	}
	defer dir.Close()
	if info, err := dir.Lstat(base); err != nil {
		return source{}, err
	} else if !info.Mode().IsRegular() {
		return source{}, errkind.Errorf(errkind.Invalid, "it is not a regular file")
	}
	f, err := dir.Open(base)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return source{}, err
	case info.Size() > osconfig.MaxFile:
		return source{}, errkind.Errorf(errkind.TooLarge, "it has %d bytes, and %d are allowed", info.Size(), osconfig.MaxFile)
	}
	sum := sha256.New()
	err = atomicfile.WriteFunc(h.SourceCopy(name), 0o600, func(w io.Writer) error {
		_, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(f, osconfig.MaxFile))
		return err
	})
	return source{name, hex.EncodeToString(sum.Sum(nil)), fmt.Sprintf("%04o", info.Mode().Perm())}, err
}

// copies returns the list of the copies in StagedDir.
func (h *Host) copies() ([]source, error) {
	text, err := inroot.FS(h.StagedDir()).ReadFile(manifestName, 16<<20)
	var list []source
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	return list, err
}

// CheckSources returns an error of kind Corrupt if a copy of one of the files is missing or
// has changed since CopySources made it.
func (h *Host) CheckSources(names []string) error {
	list, err := h.copies()
	if errors.Is(err, fs.ErrNotExist) && len(names) == 0 {
		return nil
	}
	for _, name := range names {
		i := slices.IndexFunc(list, func(l source) bool { return l.Path == name })
		if i < 0 || err != nil {
			err = errors.Join(err, errors.New("there is no copy of "+name))
			break
		}
		err = h.checkSource(list[i])
	}
	if err != nil {
		return errkind.WithHint(errkind.Errorf(errkind.Corrupt, "check the copies of staged files: %w", err), "Stage the update again.")
	}
	return nil
}

func (h *Host) checkSource(l source) error {
	f, err := os.Open(h.SourceCopy(l.Path))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != l.SHA256 {
		return fmt.Errorf("the copy of %s has changed", l.Path)
	}
	return nil
}

// contentMode is that of an additional file with its content in the configuration, if it
// has no permissions there.
const contentMode = 0o664

// ModeOf returns the permissions of an additional file: those of the configuration, or else
// those that its source had when CopySources copied it.
func (h *Host) ModeOf(f hostconfig.AdditionalFile) (fs.FileMode, error) {
	digits := f.Permissions
	if digits == "" {
		if f.Content != nil {
			return contentMode, nil
		}
		list, err := h.copies()
		if err != nil {
			return 0, err
		}
		i := slices.IndexFunc(list, func(l source) bool { return l.Path == Absolute(f.Source) })
		if i < 0 || list[i].Mode == "" { // copied by a release that gave all files this mode
			return contentMode, nil
		}
		digits = list[i].Mode
	}
	n, err := strconv.ParseUint(digits, 8, 9)
	if err != nil {
		return 0, errkind.Errorf(errkind.Invalid, "its permissions: %w", err)
	}
	return fs.FileMode(n), nil
}

// WriteContent writes the content of an additional file to w.
func (h *Host) WriteContent(f hostconfig.AdditionalFile, w io.Writer) error {
	if f.Content != nil {
		_, err := io.WriteString(w, *f.Content)
		return err
	}
	in, err := os.Open(h.SourceCopy(f.Source))
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(w, in)
	return err
}
