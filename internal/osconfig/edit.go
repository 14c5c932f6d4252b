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

// maxText bounds a file of settings that is changed, in bytes.
const maxText = 4 << 20

// original is a file before it is changed, with the folder that it is in. One that is
// not there has no folder.
type original struct {
	dir   *inroot.Dir
	name  string // in dir, after all links of the tree
	text  string
	info  fs.FileInfo
	label []byte // of SELinux, or nil
}

const labelName = "security.selinux"

func (o original) exists() bool { return o.dir != nil }

func (o original) close() error {
	if o.dir == nil {
		return nil
	}
	return o.dir.Close()
}

// readOriginal reads a file, which the caller closes.
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

// replace writes the file anew, as it was but for its text.
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

// edit gives a file the text that change makes of the text it has, which is ""
// where there is no file; a new one gets that mode and belongs to root. Nothing is
// touched when the text stays as it is.
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

// exists says whether a file or folder is in the tree.
func exists(root, name string) (bool, error) {
	_, err := inroot.FS(root).Stat(strings.TrimPrefix(name, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// lines are the lines of a text, each with the line break at its end.
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
