//go:build root

package osconfig

import (
	"maps"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/run"
)

const unitText = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"

func TestTheRealSystemctlChangesTheTree(t *testing.T) {
	files := maps.Clone(image)
	for _, unit := range []string{"on.service", "off.service", "both@.service", "systemd-sysext.service"} {
		files["usr/lib/systemd/system/"+unit] = unitText
	}
	const wants = "etc/systemd/system/multi-user.target.wants/"
	files[wants+"off.service"] = "->/usr/lib/systemd/system/off.service"
	root := tree(t, files)
	o := &hostconfig.OS{
		Services: hostconfig.Services{Enable: []string{"on", "both@x.service"}, Disable: []string{"off.service"}},
		Sysexts:  []hostconfig.Extension{{}},
	}
	for range 2 {
		if err := Setup(t.Context(), root, o, run.Host{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		got := look(t, root)
		for _, unit := range []string{"on.service", "both@x.service", "systemd-sysext.service"} {
			if !strings.HasPrefix(got[wants+unit], "->") {
				t.Errorf("%s: %s is not enabled", when, unit)
			}
		}
		if got[wants+"off.service"] != "" {
			t.Errorf("%s: off.service is enabled", when)
		}
	}
	check("after the setup")
	if out, err := exec.Command("systemctl", "--root", root, "--preset-mode=enable-only", "preset-all").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check("after a first boot")

	o = &hostconfig.OS{Services: hostconfig.Services{Enable: []string{"gone.timer"}}}
	if err := Setup(t.Context(), root, o, run.Host{}, nil); err == nil || !strings.Contains(err.Error(), "enable unit gone.timer: systemctl: ") {
		t.Errorf("a unit that there is not: %v", err)
	}
}

// What shadow's own tools find wrong in the files is found without our reading of
// their formats.
func TestTheAccountFilesAreRightForShadow(t *testing.T) {
	files := maps.Clone(image)
	files["etc/passwd"] = strings.NewReplacer("# no line of passwd(5)\n", "", "+::::::\n", "", "/bin/bash", "", "/usr/sbin/nologin", "").Replace(image["etc/passwd"])
	files["etc/default/useradd"] = "SHELL=\n"
	files["bin/sh"] = "x"
	root := tree(t, files)
	o := all()
	for i := range o.Users {
		o.Users[i].StartupCommand = ""
	}
	if err := Setup(t.Context(), root, o, units(root), nil); err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"pwck", "grpck"} {
		if out, err := exec.Command(tool, "--read-only", "--root", root).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", tool, err, out)
		}
	}
}

func TestAReadOnlyTreeIsRefused(t *testing.T) {
	root := tree(t, image)
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err := Setup(t.Context(), root, &hostconfig.OS{Users: []hostconfig.User{{Name: "ada"}}}, run.Host{}, nil)
	if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "os.users") {
		t.Errorf("users: %v", err)
	}
	old := tree(t, map[string]string{"etc/machine-id": mine + "\n"})
	if err := Carry(old, root, true); errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != "CopyMachineId" {
		t.Errorf("machine ID: %v", err)
	}
}

// systemctl follows links of the tree from this host's root folder; it must not be asked
// where they lead out.
func TestTheRealSystemctlIsNotLedOutOfTheTree(t *testing.T) {
	for name, inside := range map[string]string{
		"etc/systemd": "usr/units", "etc/systemd/system": "usr/units", "etc": "usr/etc", "etc/systemd/system/multi-user.target.wants": "usr/wants",
	} {
		outside := tree(t, map[string]string{"d/system/": ""})
		for _, target := range []string{outside + "/d", strings.Repeat("../", 20) + outside[1:] + "/d", strings.Repeat("../", strings.Count(name, "/")) + inside} {
			root := tree(t, map[string]string{"usr/lib/systemd/system/on.service": unitText, inside + "/": "", name: "->" + target})
			before := render(t, outside)
			err := Systemctl(t.Context(), run.Host{}, root, "enable", "on.service")
			if isIn := !strings.HasSuffix(target, "/d"); isIn && err != nil || !isIn && errkind.Of(err) != errkind.Precondition {
				t.Errorf("/%s is a link to %s: %v", name, target, err)
			}
			if got := render(t, outside); got != before {
				t.Errorf("/%s is a link to %s: outside is\n%s", name, target, got)
			}
		}
	}
}
