// Package policy reads the policy of the gateway for tridentd: which remote identity may do
// what on this host.
//
// The policy is what root has written: the grants in /etc/trident/gateway.yaml and the
// rights of the tokens. tridentd refuses files that anybody but root could have written,
// above all the gateway, which the policy is to bound. Without the file nobody has a right.
package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/config"
	"github.com/trident-project/trident/internal/gateway/identity"
	"github.com/trident-project/trident/internal/gateway/rights"
	"github.com/trident-project/trident/internal/gateway/token"
	"github.com/trident-project/trident/internal/linux/inroot"
)

const maxFile = 1 << 20

// A Source reads the policy of the host below a root folder, and again after each change of
// its files. Its methods may be called concurrently.
type Source struct {
	root  string
	owner uint32

	mu     sync.Mutex
	stamps []stamp
	policy *config.Policy
	tokens *token.List
	err    error
}

// stamp identifies one version of a file.
type stamp struct {
	path         string
	inode        uint64
	size         int64
	mtime, ctime time.Time
	isMissing    bool
}

// NewSource returns the source for the host below root. owner is the user who has to own
// the files: 0 on a host.
func NewSource(root string, owner uint32) *Source { return &Source{root: root, owner: owner} }

// IsInstalled reports whether the host has a policy, which may be unreadable.
func (s *Source) IsInstalled() bool {
	_, err := os.Lstat(filepath.Join(s.root, config.DefaultFile))
	return err == nil
}

// Allow returns nil if an identity may call a method now. The error is of kind Denied; that
// for a policy that cannot be used says why.
func (s *Source) Allow(who, method string, now time.Time) error {
	if err := identity.Check(who); err != nil {
		return err
	}
	policy, tokens, err := s.current()
	if err != nil {
		return errkind.WithHint(errkind.With(errkind.Denied, fmt.Errorf("call a method for %s: %w", who, err)),
			"correct /etc/trident/gateway.yaml on the host; trident-gateway check says what is wrong with it")
	}
	if policy.IsRevoked(who, "") {
		return errkind.Errorf(errkind.Denied, "call a method for %s: this identity is revoked", who)
	}
	set := policy.Rights(who)
	if name, ok := strings.CutPrefix(who, "token:"); ok {
		t, known := tokens.Named(name)
		if !known || t.State(now) != "valid" {
			return errkind.Errorf(errkind.Denied, "call a method for %s: there is no valid token of this name", who)
		}
		own, err := rights.Parse(t.Rights)
		if err != nil {
			return err
		}
		set |= own
	}
	return set.Check(who, method)
}

// current returns the policy as the files have it now.
func (s *Source) current() (*config.Policy, *token.List, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stamps) > 0 && !s.haveChanged() {
		return s.policy, s.tokens, s.err
	}
	s.policy, s.tokens, s.err = s.read()
	return s.policy, s.tokens, s.err
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
