package loginfile_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/gateway/loginfile"
)

// names is a list as those of tokens and passphrases.
type names struct {
	Names []string `json:"names"`
}

func (n *names) Write(path string, gid int) error { return loginfile.Write(path, n, gid) }

func read(path string) (*names, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &names{}, nil
	}
	n := &names{}
	return n, errors.Join(err, json.Unmarshal(data, n))
}

func TestChangesWaitForEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder", "file.json")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := loginfile.Change(path, os.Getegid(), read, func(n *names) error { n.Names = append(n.Names, "x"); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n, err := read(path); err != nil || len(n.Names) != 20 {
		t.Errorf("%v, %v", n, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestAChangeThatFailsLeavesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file.json")
	fails := errors.New("fails")
	if err := loginfile.Change(path, os.Getegid(), read, func(n *names) error { n.Names = []string{"x"}; return fails }); !errors.Is(err, fails) {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := loginfile.Change(path, os.Getegid(), read, func(*names) error { t.Error("a damaged list is changed"); return nil }); err == nil {
		t.Error("a damaged list is accepted")
	}
	if text, err := os.ReadFile(path); string(text) != "{" {
		t.Errorf("%q, %v", text, err)
	}
	if err := loginfile.Change(filepath.Join(path, "below"), 0, read, func(*names) error { return nil }); err == nil {
		t.Error("a folder is made below a file")
	}
	if err := loginfile.Write(path, func() {}, 0); err == nil {
		t.Error("what has no JSON is written")
	}
}

func TestANameIsAWord(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "CI-2_b.c", strings.Repeat("x", 64)} {
		if err := loginfile.CheckName("a token", name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 65), "a b", "a/b", "a:b", "ä", "a\n"} {
		if err := loginfile.CheckName("a token", name); errkind.Of(err) != errkind.Invalid || !strings.HasPrefix(err.Error(), "name a token: ") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
