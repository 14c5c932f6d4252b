//go:build vm

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/trident-project/trident/proto/client"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
)

// addVendor merges a good extension of another vendor.
func (g *guest) addVendor() {
	g.t.Helper()
	g.sh(`dir=/var/lib/extensions/vendor/usr
		mkdir -p $dir/lib/extension-release.d $dir/share/vendor
		echo ID=_any >$dir/lib/extension-release.d/extension-release.vendor
		echo vendor >$dir/share/vendor/file
		systemctl reload-or-restart systemd-sysext.service`)
}

// rpm runs rpm, which has to succeed without a warning. It ignores the warning about logind,
// which guests do not have.
func (g *guest) rpm(args string) {
	g.t.Helper()
	out := g.sh("rpm " + args + " >/tmp/rpm 2>&1 || { cat /tmp/rpm >&2; exit 1; }; grep -v 'shutdown inhibition lock' /tmp/rpm || true")
	for _, bad := range []string{"error", "warning", "failed", "could not", "Read-only"} {
		if strings.Contains(out, bad) {
			g.t.Errorf("rpm %s: %s", args, out)
		}
	}
}

// checkPackage checks the version of the package, its files below the extensions, and which
// extensions are merged.
func (g *guest) checkPackage(pkg, running, extensions string) {
	g.t.Helper()
	g.checkVersion(running)
	if got := g.sh("rpm -q --queryformat '%{VERSION}' trident"); got != pkg {
		g.t.Errorf("rpm knows trident %s, want %s", got, pkg)
	}
	if got := g.sh("mount --bind / /mnt; /mnt/usr/bin/tridentd --version; /mnt/usr/lib/trident/trident-rescue version; umount /mnt"); strings.Count(got, pkg) != 2 {
		g.t.Errorf("the base is %q, want %s", got, pkg)
	}
	if got := g.sh("cat /usr/.systemd-sysext/extensions /usr/share/vendor/file | sort | tr '\n' ' '"); got != extensions {
		g.t.Errorf("merged are %q, want %q", got, extensions)
	}
	st, err := g.api.Status(g.t.Context())
	if err != nil || st.BaseVersion != pkg {
		g.t.Errorf("status %v, %v; want base %s", st, err, pkg)
	}
}

// The guest has the package 1.0.0 and the extension 2.0.0 all along.
func TestThePackageIsServicedWhileTheExtensionIsMerged(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.addVendor()
	g.mustUpgrade("trident_2.0.0_x86-64.raw")
	const both, vendor = "trident vendor vendor", "vendor vendor"
	g.checkPackage("1.0.0", good, both)
	for _, c := range []struct{ name, args, pkg, running, merged string }{
		{"a package below the extension installs and the extension comes back", "-U /share/trident-1.5.0-1.x86_64.rpm", "1.5.0", good, both},
		{"a downgrade installs and the extension comes back", "-U --oldpackage /share/trident-1.0.0-1.x86_64.rpm", "1.0.0", good, both},
		{"a package above the extension installs and the extension retires", "-U /share/trident-4.0.0-1.x86_64.rpm", "4.0.0", "4.0.0", vendor},
		{"a downgrade below a retired extension leaves it retired", "-U --oldpackage /share/trident-1.5.0-1.x86_64.rpm", "1.5.0", "1.5.0", vendor},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := g.inSubtest(t)
			g.rpm(c.args)
			g.checkPackage(c.pkg, c.running, c.merged)
		})
	}
	t.Run("a retired extension can be activated again", func(t *testing.T) {
		g := g.inSubtest(t)
		_, errs, code := g.trident("self", "activate", good, "--soak", "2s")
		if code != 0 {
			t.Fatalf("%d, %s", code, errs)
		}
		g.checkPackage("1.5.0", good, both)
	})
	t.Run("an erase leaves nothing but state", func(t *testing.T) { g.inSubtest(t).erase() })
}

// erase erases the package while the extension is merged.
func (g *guest) erase() {
	g.t.Helper()
	g.rpm("-e trident")
	for _, c := range []struct{ what, command, want string }{
		{"files", "find / -xdev -iname '*trident*' -not -path '/proc/*' -not -path '/var/lib/trident*'; find /run -path /run/udev -prune -o -iname '*trident*' -print", ""},
		{"state", "ls /var/lib/trident /var/lib/trident/self/*.raw | tr '\n' ' '", "/var/lib/trident/self/2.0.0.raw  /var/lib/trident: datastore.sqlite"},
		{"units", "systemctl list-units --all --plain --no-legend '*trident*'; systemctl list-unit-files --no-legend '*trident*' || true", ""},
		{"processes", "pgrep -l trident || true", ""},
		{"extensions", "cat /usr/.systemd-sysext/extensions /usr/share/vendor/file | tr '\n' ' '", "vendor vendor"},
	} {
		if got := g.sh(c.command); got != c.want && !(c.what == "state" && strings.HasPrefix(got, c.want)) {
			g.t.Errorf("%s after the erase: %q, want %q", c.what, got, c.want)
		}
	}
	if _, errs, code := g.trident("version"); code == 0 || !strings.Contains(errs, "hint: ") {
		g.t.Errorf("trident version after the erase: %d, %q", code, errs)
	}
}

// On a host whose /usr is an image, no package manager runs scriptlets: a new base appears
// with the next boot.
func TestANewerBaseWithoutScriptletsRetiresTheExtension(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.addVendor()
	g.mustUpgrade("trident_2.0.0_x86-64.raw")
	g.sh(`mount --bind / /mnt
		rpm2cpio /share/trident-4.0.0-1.x86_64.rpm | (cd /mnt && busybox cpio -idmu './usr/*' 2>&1)
		umount /mnt; sync`)
	if err := g.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := g.BootAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := g.sh("cat /usr/.systemd-sysext/extensions | tr '\n' ' '"); got != "trident vendor" {
		t.Errorf("merged at boot: %q", got)
	}
	// The first call starts the daemon, which answers before it begins to retire the extension.
	entries, err := g.api.History(t.Context(), 1)
	for end := time.Now().Add(2 * time.Minute); err == nil && len(entries) == 1 && entries[0].Kind != "self-retire" && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
		entries, err = g.api.History(t.Context(), 1)
	}
	if err != nil || len(entries) != 1 || entries[0].Kind != "self-retire" || entries[0].ToVersion != "4.0.0" {
		t.Fatalf("history %v, %v", entries, err)
	}
	op, err := g.api.Watch(t.Context(), entries[0].OperationId, 0, func(e *client.Event) { t.Log(e) })
	if err != nil || op.Phase != operationsv1.Phase_PHASE_DONE {
		t.Fatalf("%v, %v", op, err)
	}
	g.checkVersion("4.0.0")
	if got := g.sh("cat /usr/.systemd-sysext/extensions /usr/share/vendor/file | tr '\n' ' '"); got != "vendor vendor" {
		t.Errorf("merged: %q", got)
	}
	g.checkLeftovers("2.0.0.raw", "2.0.0.json")
}
