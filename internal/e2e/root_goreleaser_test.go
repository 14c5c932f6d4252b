//go:build root

package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The two readers of .goreleaser.yaml must not drift apart. Building goreleaser takes
// minutes, so this runs where somebody has it: TRIDENT_GORELEASER is its path.
func TestGoreleaserMakesTheSamePackages(t *testing.T) {
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
	ours := map[string]string{}
	for _, name := range strings.Fields(out) {
		ours[filepath.Base(name)] = unpacked(t, filepath.Join(tree, name))
	}
	if len(ours) != 8 {
		t.Fatalf("packages: %s", out)
	}
	// goreleaser gets no SOURCE_DATE_EPOCH: what it makes must depend on the commit alone.
	if _, err := output(&tree, append(env, "SOURCE_DATE_EPOCH="), goreleaser, "release", "--snapshot", "--clean", "--skip=publish"); err != nil {
		t.Fatal(err)
	}
	for name, want := range ours {
		if diff := cmp.Diff(want, unpacked(t, filepath.Join(tree, "dist/build", name))); diff != "" {
			t.Errorf("%s differs from goreleaser's (-ours +theirs):\n%s", name, diff)
		}
	}
}

// unpacked is all of a package but how it is compressed: goreleaser is built with a
// compressor of its own version.
func unpacked(t *testing.T, path string) string {
	t.Helper()
	header, err := output(nil, nil, "rpm", "-qp", "--info", "--dump", "--scripts", "--triggers", "--provides", "--requires", "--conflicts", path)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := output(nil, nil, "sh", "-c", `rpm2cpio "$0" | sha256sum`, path)
	if err != nil {
		t.Fatal(err)
	}
	return header + payload
}
