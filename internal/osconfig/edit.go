package osconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/inroot"
)

// maxText is the largest file of settings that is read or changed, in bytes.
const maxText = 4 << 20

// original is a file before a change. A missing file has a nil dir.
type original struct {
	dir   *inroot.Dir // its folder
	name  string      // in dir; all symbolic links are resolved
	text  string
	info  fs.FileInfo
	label []byte // the SELinux label, or nil
}

const labelName = "security.selinux"

func (o original) exists() bool { return o.dir != nil }

func (o original) close() error {
	if o.dir == nil {
		return nil
	}
	return o.dir.Close()
}

// readOriginal reads a file, at most maxText bytes. The caller closes the result.
func readOriginal(root, name string) (_ original, err error) {
	dir, base, err := inroot.FS(root).Target(name)
	if _, dangling := errors.AsType[*inroot.DanglingError](err); dangling || errors.Is(err, fs.ErrNotExist) {
		return original{}, nil
	}
	if err != nil {
		return original{}, err
	}
	o := original{dir: dir, name: base}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Close())
		}
	}()
	file, err := dir.Open(base)
	if err != nil {
		return original{}, err
	}
	defer file.Close()
	if o.info, err = file.Stat(); err != nil {
		return original{}, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxText+1))
	if err != nil {
		return original{}, err
	}
	if len(data) > maxText {
		return original{}, errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", name, maxText)
	}
	o.text = string(data)
	label := make([]byte, 1024)
	if n, err := unix.Fgetxattr(int(file.Fd()), labelName, label); err == nil {
		o.label = label[:n]
	}
	return o, nil
}

// replace replaces the file atomically with one of another text and the same mode, owner
// and label.
func (o original) replace(text string) error {
	if err := o.dir.Sweep(o.name); err != nil {
		return err
	}
	return o.dir.Replace(o.name, o.info.Mode()&^fs.ModeType, func(out *os.File) error {
		if _, err := out.WriteString(text); err != nil {
			return err
		}
		if err := out.Chown(ownerOf(o.info)); err != nil {
			return err
		}
		if o.label == nil {
			return nil
		}
		return unix.Fsetxattr(int(out.Fd()), labelName, o.label, 0)
	})
}

// edit replaces the text of a file by what change returns for it. If the file does not
// exist, change gets "", and edit makes a file of that mode, owned by root. edit writes
// nothing if the text does not change.
func (s setup) edit(name string, mode fs.FileMode, change func(old string) (string, error)) (err error) {
	o, err := readOriginal(s.root, name)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, o.close()) }()
	now, err := change(o.text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if now == o.text {
		return nil
	}
	return s.touch("write "+name, func() error {
		if !o.exists() {
			return Write(s.root, name, mode, writerOf(now))
		}
		return o.replace(now)
	})
}

// exists reports whether the tree has that file or folder.
func exists(root, name string) (bool, error) {
	_, err := inroot.FS(root).Stat(strings.TrimPrefix(name, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lines splits a text into lines, each with its line break.
func lines(text string) []string {
	all := strings.SplitAfter(text, "\n")
	if last := len(all) - 1; all[last] == "" {
		return all[:last]
	}
	return all
}

// withLine appends a line to a text.
func withLine(text, line string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text + line + "\n"
}
