package extension

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/erofs/go-erofs"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hosttest"
)

func folder(perm fs.FileMode, uid, gid uint32) *fstest.MapFile {
	mode := fs.ModeDir | perm
	return &fstest.MapFile{Mode: mode, Sys: &erofs.Stat{Mode: mode, UID: uid, GID: gid}}
}

// Once merged, a folder of the host has the mode and the owner that it has in the
// extension.
func TestAFolderThatWouldChangeTheHostsIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		folder *fstest.MapFile
		at     string
		want   string // "": accepted
	}{
		"closed to others":         {folder(0o700, 0, 0), "usr/bin", "/usr/bin"},
		"closed to others, by 027": {folder(0o750, 0, 0), "usr/bin", "/usr/bin"},
		"not to be listed":         {folder(0o711, 0, 0), "usr/lib", "/usr/lib"},
		"the top":                  {folder(0o700, 0, 0), "usr", "/usr"},
		"open for all to write":    {folder(0o777, 0, 0), "usr/bin", "/usr/bin"},
		"of a user":                {folder(0o755, 1000, 0), "usr/bin", "1000:0"},
		"of a group":               {folder(0o755, 0, 1000), "usr/bin", "0:1000"},
		"in place of a link":       {folder(0o755, 0, 0), "usr/sbin", "/usr/sbin"},
		"opens a private folder":   {folder(0o755, 0, 0), "usr/lib/private", "/usr/lib/private"},
		"as the host's":            {folder(0o755, 0, 0), "usr/bin", ""},
		"root may less":            {folder(0o555, 0, 0), "usr/bin", ""},
		"one of its own":           {folder(0o700, 0, 0), "usr/lib/vendor", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, dir := range []string{"usr/bin", "usr/lib/private"} {
				if err := hosttest.MkdirAll(filepath.Join(w.root, dir)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Join(w.root, "usr/lib/private"), 0o700); err != nil {
				t.Fatal(err)
			}
			w.link("bin", "usr/sbin")
			files := fstest.MapFS{c.at: c.folder, Sysext.releaseFile("foo"): {Mode: 0o644, Data: []byte("ID=_any\nSYSEXT_ID=foo\n")}}
			image := offered(Sysext, gptOf(t, part{rootAMD64, erofsOf(t, files)}))
			_, err := w.store.Stage(t.Context(), w.source(image), nil, nil, nil)
			if c.want == "" && err != nil || c.want != "" && (errkind.Of(err) != errkind.Forbidden || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", errkind.Of(err), err, c.want)
			}
		})
	}
}

func TestAnImageThatClosesUsrBinIsRefused(t *testing.T) {
	data, err := os.ReadFile("../../../shared/testdata/reports/sysext-usr-bin-0700.erofs.raw")
	if err != nil {
		t.Skip("the image of the report is not there: ", err)
	}
	w := newWorld(t)
	if err := hosttest.MkdirAll(filepath.Join(w.root, "usr/bin")); err != nil {
		t.Fatal(err)
	}
	_, err = w.store.Stage(t.Context(), w.source(offered(Sysext, data)), nil, nil, nil)
	if errkind.Of(err) != errkind.Forbidden || !strings.Contains(err.Error(), "/usr/bin") {
		t.Errorf("%s: %v", errkind.Of(err), err)
	}
}
