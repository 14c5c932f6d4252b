package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/token"
	"github.com/trident-project/trident/internal/linux/inroot"
	"github.com/trident-project/trident/internal/linux/regfile"
)

const maxFile = 1 << 20

func (s *Source) read() (*config.Policy, *token.List, error) {
	s.stamps = []regfile.Stamp{s.stampOf(config.DefaultFile)}
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

func (s *Source) stampOf(path string) regfile.Stamp {
	return regfile.StampOf(filepath.Join(s.root, path))
}
