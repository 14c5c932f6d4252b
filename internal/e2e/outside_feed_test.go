//go:build outside

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sysupdate is the beginning of a script for a host of Debian 13: it has the transfer of
// docs/feed.md, with the feed at the URL %s, and the keyring of the feed.
const sysupdate = `mount -t tmpfs tmpfs /etc/systemd
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/sysupdate.trident.d /var/lib/trident/incoming
cp keys/for-hosts/import-pubring.gpg /etc/systemd/
cat >/run/sysupdate.trident.d/50-trident.transfer <<END
[Transfer]
Verify=yes

[Source]
Type=url-file
Path=%s/stable/%%a/
MatchPattern=trident_@v_%%a.raw

[Target]
Type=regular-file
Path=/var/lib/trident/incoming
MatchPattern=trident_@v_%%a.raw
Mode=0600
InstancesMax=2
END
sysupdate() { /usr/lib/systemd/systemd-sysupdate --component=trident --no-pager "$@"; }
`

// feedWorkshop makes a published feed with these versions of Trident and a server for it.
func feedWorkshop(t *testing.T, versions ...string) (w *workshop, server *httptest.Server) {
	t.Helper()
	w = newWorkshop(t)
	w.tridentTree()
	w.feed("init")
	for _, v := range versions {
		w.addVersion(v)
	}
	w.feed("publish")
	server = httptest.NewServer(http.FileServer(http.Dir(filepath.Join(w.dir, "feed"))))
	t.Cleanup(server.Close)
	return w, server
}

func (w *workshop) feed(args ...string) {
	w.t.Helper()
	if code, out := w.trident(append(append([]string{"feed"}, args...), "--feed", "feed", "--keys", "keys")...); code != 0 {
		w.t.Fatalf("trident feed %v: exit code %d\n%s", args, code, out)
	}
}

// addVersion builds an image of a version, and adds it to the feed.
func (w *workshop) addVersion(version string) {
	w.t.Helper()
	w.write("own/usr/lib/extension-release.d/extension-release.trident",
		"ID=_any\nARCHITECTURE=x86-64\nSYSEXT_ID=trident\nSYSEXT_VERSION_ID="+version+"\nEXTENSION_RELOAD_MANAGER=1\n", 0o644)
	image := "trident-" + version + ".raw"
	if code, out := w.trident("sysext", "build", "--tree", "own", "--arch", "x86-64", "--output", image); code != 0 {
		w.t.Fatalf("build: exit code %d\n%s", code, out)
	}
	w.feed("add", image, "--channel", "stable")
}

// Debian 13 has systemd 257, and Debian testing the newest systemd of Debian. TRIDENT_FORKY_TREE
// names a tree of the latter.
func TestOutsideSysupdateFetchesTheNewestVersionOfAFeed(t *testing.T) {
	t.Run("Debian 13", func(t *testing.T) {
		out := fetchTheNewest(t, "")
		if strings.Contains(out, "rc.1") { // systemd 257 knows no version with a tilde
			t.Error("the release candidate shows")
		}
	})
	t.Run("Debian testing", func(t *testing.T) {
		tree := os.Getenv("TRIDENT_FORKY_TREE")
		if tree == "" {
			t.Skip("TRIDENT_FORKY_TREE names no tree of Debian testing")
		}
		fetchTheNewest(t, tree)
	})
}

// fetchTheNewest has the systemd-sysupdate of a tree of Debian, or of Debian 13, follow a feed.
// It returns what it prints of the first publication.
func fetchTheNewest(t *testing.T, tree string) string {
	w, server := feedWorkshop(t, "2.1.0-rc.1", "2.0.0", "2.1.0")
	if tree != "" {
		w.debian = tree
	}
	code, out := w.debian13(fmt.Sprintf(sysupdate, server.URL) + `sysupdate list
sysupdate check-new
sysupdate update
cp -r /var/lib/trident/incoming .
sysupdate check-new || echo nothing newer`)
	t.Log(out)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, want := range []string{"2.0.0", "2.1.0", "nothing newer"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	got, err := os.ReadFile(filepath.Join(w.dir, "incoming/trident_2.1.0_x86-64.raw"))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(filepath.Join(w.dir, "trident-2.1.0.raw")); err != nil || !bytes.Equal(want, got) {
		t.Errorf("the image in incoming is not the one that was added: %v", err)
	}
	// The next publication, as the host sees it.
	w.addVersion("2.2.0")
	w.feed("withdraw", "2.0.0")
	w.feed("publish")
	code, next := w.debian13(fmt.Sprintf(sysupdate, server.URL) + `cp incoming/* /var/lib/trident/incoming
sysupdate update
ls /var/lib/trident/incoming`)
	if code != 0 || !strings.Contains(next, "trident_2.2.0_x86-64.raw") {
		t.Errorf("exit code %d\n%s", code, next)
	}
	return out
}

func TestOutsideSysupdateRefusesAFeedThatSomebodyChanged(t *testing.T) {
	w, server := feedWorkshop(t, "2.0.0")
	for _, c := range []struct{ reason, script string }{
		{"BAD signature", "sed -i 's/2.0.0/2.0.1/' feed/stable/x86-64/SHA256SUMS && cp feed/stable/x86-64/trident_2.0.0_x86-64.raw feed/stable/x86-64/trident_2.0.1_x86-64.raw"},
		{"No public key", "rm -r keys && trident feed init --feed other --keys keys >/dev/null"},
	} {
		w.sh("rm -rf before && cp -r feed before")
		w.sh(c.script)
		code, out := w.debian13(fmt.Sprintf(sysupdate, server.URL) + "sysupdate update")
		if code == 0 || !strings.Contains(out, c.reason) {
			t.Errorf("exit code %d, want a failure for %q:\n%s", code, c.reason, out)
		}
		w.sh("rm -r feed && mv before feed")
	}
}
