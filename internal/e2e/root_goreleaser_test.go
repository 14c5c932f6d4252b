//go:build root

package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The two readers of .goreleaser.yaml must not drift apart. Building goreleaser takes
// minutes, so this runs where somebody has it: TRIDENT_GORELEASER is its path.
func TestGoreleaserMakesTheSamePackagesByteForByte(t *testing.T) {
	goreleaser := os.Getenv("TRIDENT_GORELEASER")
	if goreleaser == "" {
		t.Skip("TRIDENT_GORELEASER does not name a goreleaser; .ci/tool goreleaser builds one")
	}
	key, err := filepath.Abs(filepath.Join(root, "dist/keys/trident.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := output(&root, nil, "packaging/keys"); err != nil {
		t.Fatal(err)
	}
	// goreleaser wants a clean tree of a commit.
	tree := filepath.Join(t.TempDir(), "tree")
	if _, err := output(nil, nil, "git", "clone", "--quiet", "--no-hardlinks", root, tree); err != nil {
		t.Fatal(err)
	}
	epoch, err := output(&tree, nil, "git", "log", "-1", "--format=%ct")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"TRIDENT_SIGN_CERT=" + key, "GORELEASER_CURRENT_TAG=v1.2.0", "GOFLAGS="}
	out, err := output(&tree, append(env, "SOURCE_DATE_EPOCH="+strings.TrimSpace(epoch)), "go", "run", "./packaging/build", "rpm", "-version", "1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string][]byte{}
	for _, name := range strings.Fields(out) {
		if ours[name], err = os.ReadFile(filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	if len(ours) != 6 {
		t.Fatalf("packages: %s", out)
	}
	// goreleaser gets no SOURCE_DATE_EPOCH: what it makes must depend on the commit alone.
	if _, err := output(&tree, append(env, "SOURCE_DATE_EPOCH="), goreleaser, "release", "--snapshot", "--clean", "--skip=publish"); err != nil {
		t.Fatal(err)
	}
	for name, want := range ours {
		got, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s differs from goreleaser's", name)
		}
	}
}
