package extension

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/trident-project/trident/internal/hosttest"
)

// tree makes files below a new folder: content that starts with "->" makes a
// link, a name that ends in "/" a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		target, isLink := strings.CutPrefix(content, "->")
		err := hosttest.MkdirAll(filepath.Dir(file))
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = hosttest.MkdirAll(file)
		case isLink:
			err = os.Symlink(target, file)
		default:
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestTheFirstHitForANameWins(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/extensions/masked/":                "",
		"etc/extensions/linked.raw":             "->/var/lib/store/linked-1.raw",
		"etc/extensions/null":                   "->/dev/null",
		"etc/extensions/dangling.raw":           "->/nowhere",
		"run/extensions/masked.raw":             "x",
		"run/extensions/folder/usr/x":           "",
		"run/extensions/folder.sysext/usr/x":    "",
		"var/lib/extensions/masked.raw":         "x",
		"var/lib/extensions/linked.sysext.raw":  "x",
		"var/lib/extensions/plain.sysext.raw":   "x",
		"var/lib/extensions/null.raw":           "x",
		"var/lib/extensions/notes.txt":          "x",
		"var/lib/extensions/.#temporary.raw":    "x",
		"var/lib/extensions/v.raw.v/v_1.raw":    "x",
		"var/lib/extensions/w.v/w_1/usr/x":      "x",
		"var/lib/store/linked-1.raw":            "x",
		"usr/lib/extensions/not-looked-for.raw": "x",
	})
	got, err := search(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []discovered{
		{Sysext, "folder", "/run/extensions/folder", formDirectory, false},
		{Sysext, "linked", "/etc/extensions/linked.raw", formRaw, false},
		{Sysext, "masked", "/etc/extensions/masked", formDirectory, true},
		{Sysext, "null", "/var/lib/extensions/null.raw", formRaw, false},
		{Sysext, "plain", "/var/lib/extensions/plain.sysext.raw", formRaw, false},
		{Sysext, "v", "/var/lib/extensions/v.raw.v", formVersioned, false},
		{Sysext, "w", "/var/lib/extensions/w.v", formVersioned, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestALinkThatCannotBeFollowedEndsTheSearch(t *testing.T) {
	root := tree(t, map[string]string{"etc/extensions/loop.raw": "->loop.raw"})
	if _, err := search(root); err == nil || !strings.Contains(err.Error(), "etc/extensions/loop.raw") {
		t.Errorf("got %v", err)
	}
}

func TestAHostWithoutExtensionsHasNone(t *testing.T) {
	root := t.TempDir()
	if got, err := search(root); err != nil || len(got) != 0 {
		t.Errorf("Search: %v, %v", got, err)
	}
	if got, err := Sysext.Merged(root); err != nil || len(got) != 0 {
		t.Errorf("Merged: %v, %v", got, err)
	}
}

func TestMergedReadsTheRecordOfSystemd(t *testing.T) {
	root := tree(t, map[string]string{Sysext.facts().merged: "trident\nwith space\n"})
	got, err := Sysext.Merged(root)
	if diff := cmp.Diff([]string{"trident", "with space"}, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Error(err, diff)
	}
}
