package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/token"
	"github.com/trident-project/trident/internal/linux/inroot"
)

const maxFile = 1 << 20

// stamp identifies one version of a file.
type stamp struct {
	path         string
	inode        uint64
	size         int64
	mtime, ctime time.Time
	isMissing    bool
}

func (s *Source) haveChanged() bool {
	for _, old := range s.stamps {
		if s.stampOf(old.path) != old {
			return true
		}
	}
	return false
}

func (s *Source) read() (*config.Policy, *token.List, error) {
	s.stamps = []stamp{s.stampOf(config.DefaultFile)}
	text, err := s.readFile(config.DefaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.New("this host has no policy for a gateway")
	}
	if err != nil {
		return nil, nil, err
	}
	policy, tokens, err := config.ParsePolicy(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", config.DefaultFile, err)
	}
	s.stamps = append(s.stamps, s.stampOf(tokens))
	text, err = s.readFile(tokens)
	if errors.Is(err, fs.ErrNotExist) {
		return policy, &token.List{}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	list, err := token.Parse(text)
	return policy, list, err
}

// readFile reads a file that only its owner can have written.
func (s *Source) readFile(path string) ([]byte, error) {
	f, err := inroot.FS(s.root).Open(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || st.Uid != s.owner || info.Mode().Perm()&0o022 != 0 {
		return nil, errkind.WithHint(
			errkind.Errorf(errkind.Denied, "%s is not a regular file that root owns and that nobody else can write", path),
			"chown root %s && chmod go-w %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errkind.Errorf(errkind.TooLarge, "%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

func (s *Source) stampOf(path string) stamp {
	info, err := os.Stat(filepath.Join(s.root, path))
	if err != nil {
		return stamp{path: path, isMissing: true}
	}
	out := stamp{path: path, size: info.Size(), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		out.inode, out.ctime = st.Ino, time.Unix(st.Ctim.Unix())
	}
	return out
}
