package osconfig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/run"
)

var update = flag.Bool("update", false, "write the golden files anew")

// image is a small OS. Its account files have lines that only have to survive.
var image = map[string]string{
	"etc/passwd":                           "root:x:0:0:root:/root:/bin/bash\n# no line of passwd(5)\nsvc:x:900:900::/var/lib/svc:/usr/sbin/nologin\n+::::::\n",
	"etc/shadow":                           "root:$6$salt$hash:19000:0:99999:7:::\nsvc:*:19000::::::\n",
	"etc/group":                            "root:x:0:\nwheel:x:10:svc\nsvc:x:900:\nusers:x:100:",
	"etc/gshadow":                          "root:*::\nwheel:::svc\nsvc:!*::\nusers:::\n",
	"etc/login.defs":                       "# comment\nUID_MIN\t1000\nUID_MAX 60000\nHOME_MODE 0750\nUSERGROUPS_ENAB yes\n",
	"etc/default/useradd":                  "# SHELL=/bin/no\nSHELL=/bin/bash\n",
	"etc/skel/.profile":                    "# hello\n",
	"etc/skel/bin/run":                     "#!/bin/sh\n",
	"etc/skel/.link":                       "->.profile",
	"etc/ssh/sshd_config":                  "# the distribution's\nInclude /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin yes\n",
	"etc/selinux/config":                   "# SELINUX= is commented here\nSELINUX=enforcing\nSELINUXTYPE=targeted\n",
	"etc/modprobe.d/modules-disabled.conf": "blacklist br_netfilter\ninstall br-netfilter /bin/false\nblacklist other\n",
	"etc/modprobe.d/module-options.conf":   "options vfio old=1 disable_vga=N\noptions other a=\"b c\"\n",
	"etc/machine-id":                       "uninitialized\n",
	"root/":                                "",
	"var/lib/svc/":                         "",
}

func all() *hostconfig.OS {
	uid := hostconfig.UserID(1500)
	return &hostconfig.OS{
		Hostname: "host-1.example.org",
		SELinux:  hostconfig.SELinux{Mode: hostconfig.SELinuxPermissive},
		Users: []hostconfig.User{
			{Name: "root", SSHMode: hostconfig.SSHKeyOnly, SSHPublicKeys: []string{"ssh-ed25519 AAAA root\n"}},
			{Name: "ada", SSHMode: hostconfig.SSHKeyOnly, SSHPublicKeys: []string{"ssh-ed25519 BBBB ada", "<MY_PUBLIC_SSH_KEY>"}, SecondaryGroups: []string{"wheel", "users"}},
			{Name: "bob", UID: &uid, PrimaryGroup: "users", HomeDirectory: "/srv/homes/bob", StartupCommand: "/usr/bin/menu"},
			{Name: "svc", SecondaryGroups: []string{"ada"}, StartupCommand: "/bin/sh"},
			{Name: "eve"},
		},
		Modules: []hostconfig.Module{
			{Name: "br_netfilter", LoadMode: hostconfig.LoadAlways},
			{Name: "vfio", LoadMode: hostconfig.LoadAuto, Options: map[string]string{"disable_vga": "Y", "ids": "1 2"}},
			{Name: "floppy", LoadMode: hostconfig.LoadDisable},
			{Name: "loop", LoadMode: hostconfig.LoadInherit},
		},
		Services: hostconfig.Services{Enable: []string{"sshd", "chronyd.service", "getty@tty1.service"}, Disable: []string{"cups.socket"}},
		Sysexts:  []hostconfig.Extension{{}},
		Netplan:  hostconfig.Netplan{"version": 2},
	}
}

// units is a systemctl that leaves a link for a unit that it enables.
func units(root string) run.Runner {
	return run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
		if name != "systemctl" || len(args) != 5 || args[0] != "--root" || args[1] != root || args[3] != "--" {
			return nil, fmt.Errorf("unexpected %s %q", name, args)
		}
		dir := filepath.Join(root, "etc/systemd/system/multi-user.target.wants")
		link := filepath.Join(dir, args[4])
		// As the tools of the host it has another umask than this process.
		if err := errors.Join(makeFolders(root, "etc/systemd/system/multi-user.target.wants"), os.RemoveAll(link)); err != nil || args[2] == "disable" {
			return nil, err
		}
		return nil, os.Symlink("/dev/null", link)
	})
}

// render is a tree as text: mode, owner and content of all that is in it.
func render(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, file)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %d:%d %s", info.Mode(), st.Uid, st.Gid, name)
		switch d.Type() {
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			fmt.Fprintf(&out, " -> %s\n", target)
			return err
		case 0:
			data, err := os.ReadFile(file)
			fmt.Fprintf(&out, "\n    %s\n", strings.ReplaceAll(string(data), "\n", "\n    "))
			return err
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give files to users")
	}
}

func TestASetupMakesTheGoldenTree(t *testing.T) {
	needsRoot(t)
	root := tree(t, image)
	if err := Setup(t.Context(), root, all(), units(root), nil); err != nil {
		t.Fatal(err)
	}
	got := render(t, root)
	const golden = "testdata/setup.golden"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestASetupThatWasCutAnywhereEndsWithTheSameTree(t *testing.T) {
	needsRoot(t)
	var names []string
	whole := tree(t, image)
	if err := Setup(t.Context(), whole, all(), units(whole), func(name string, change func() error) error {
		names = append(names, name)
		return change()
	}); err != nil {
		t.Fatal(err)
	}
	if len(names) < 20 {
		t.Fatalf("only %d changes: %q", len(names), names)
	}
	want := render(t, whole)
	cut := errors.New("the power is cut")
	for i, name := range append(names, "nothing") {
		t.Run(fmt.Sprintf("%d %s", i, name), func(t *testing.T) {
			t.Parallel()
			root := tree(t, image)
			at := 0
			err := Setup(t.Context(), root, all(), units(root), func(_ string, change func() error) error {
				if at++; at <= i {
					return change()
				}
				litter(t, root, name)
				return cut
			})
			if err != nil && !errors.Is(err, cut) || (err == nil) != (i == len(names)) {
				t.Fatal(err)
			}
			if err := Setup(t.Context(), root, all(), units(root), nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, render(t, root)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// litter leaves what a change that was cut in the middle would leave beside the
// file or home that it makes.
func litter(t *testing.T, root, change string) {
	t.Helper()
	i := strings.IndexByte(change, '/')
	if i < 0 {
		return
	}
	dir, name := filepath.Split(change[i:])
	if _, err := os.Stat(filepath.Join(root, dir)); err != nil {
		return
	}
	half := filepath.Join(root, dir, "."+name+".123")
	err := os.WriteFile(half, []byte("half"), 0o600)
	if strings.HasPrefix(change, "make home") {
		err = errors.Join(err, os.Remove(half), os.MkdirAll(filepath.Join(half, "half"), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestASecondSetupChangesNoFileOfSettings(t *testing.T) {
	needsRoot(t)
	root := tree(t, image)
	for i := range 2 {
		err := Setup(t.Context(), root, all(), units(root), func(name string, change func() error) error {
			if i == 1 && (strings.HasPrefix(name, "write /") || strings.HasPrefix(name, "make ")) {
				t.Errorf("again: %s", name)
			}
			return change()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnEmptySectionChangesNothing(t *testing.T) {
	t.Parallel()
	root := tree(t, image)
	err := Setup(t.Context(), root, &hostconfig.OS{}, nil, func(name string, _ func() error) error { return errors.New(name) })
	if err != nil {
		t.Error(err)
	}
}

func TestAReadOnlyFileSystemNamesTheSection(t *testing.T) {
	t.Parallel()
	root := tree(t, image)
	for section, o := range map[string]*hostconfig.OS{
		"os.hostname": {Hostname: "h"}, "os.selinux": {SELinux: hostconfig.SELinux{Mode: hostconfig.SELinuxDisabled}},
		"os.modules": {Modules: []hostconfig.Module{{Name: "vfio", LoadMode: hostconfig.LoadAlways}}},
		"os.users":   {Users: []hostconfig.User{{Name: "ada"}}}, "os.netplan": {Netplan: hostconfig.Netplan{"version": 2}},
		"os.services": {Services: hostconfig.Services{Enable: []string{"a"}}},
	} {
		err := Setup(t.Context(), root, o, units(root), func(string, func() error) error {
			return &fs.PathError{Op: "open", Path: "x", Err: unix.EROFS}
		})
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), section+":") || !strings.Contains(errkind.Hint(err), "read-only") {
			t.Errorf("%s: %v (%s)", section, err, errkind.Of(err))
		}
	}
}

func TestASettingWithoutEffectIsAnError(t *testing.T) {
	t.Parallel()
	uid := func(n hostconfig.UserID) *hostconfig.UserID { return &n }
	user := func(u hostconfig.User) *hostconfig.OS { return &hostconfig.OS{Users: []hostconfig.User{u}} }
	for name, test := range map[string]struct {
		extra    map[string]string
		os       *hostconfig.OS
		kind     errkind.Kind
		upstream string
		says     string
	}{
		"a group that does not exist": {
			nil, user(hostconfig.User{Name: "ada", PrimaryGroup: "none", SecondaryGroups: []string{"wheel", "docker"}}),
			errkind.Precondition, "SetUpUsers", "user ada: these groups do not exist in the OS: none, docker",
		},
		"a group of that name": {nil, user(hostconfig.User{Name: "wheel"}), errkind.Precondition, "SetUpUsers", "has a group wheel"},
		"a user ID in use":     {nil, user(hostconfig.User{Name: "ada", UID: uid(900)}), errkind.Precondition, "SetUpUsers", "belongs to user svc"},
		"another user ID":      {nil, user(hostconfig.User{Name: "svc", UID: uid(901)}), errkind.Precondition, "SetUpUsers", "has user ID 900"},
		"no passwd":            {map[string]string{"etc/passwd": "->nowhere"}, user(hostconfig.User{Name: "ada"}), errkind.Precondition, "SetUpUsers", "no /etc/passwd"},
		"a passwd that leads out": {
			map[string]string{"etc/passwd": "->../../etc/passwd"}, user(hostconfig.User{Name: "ada"}), errkind.Internal, "SetUpUsers", "too many levels",
		},
		"a line that is broken": {map[string]string{"etc/passwd": "ada:x\n"}, user(hostconfig.User{Name: "ada"}), errkind.Corrupt, "SetUpUsers", "line 1"},
		"no ID left": {
			map[string]string{"etc/login.defs": "UID_MIN 900\nUID_MAX 900\n"}, user(hostconfig.User{Name: "ada"}), errkind.Precondition, "SetUpUsers", "no user ID from 900 to 900",
		},
		"keys without a server": {
			map[string]string{"etc/ssh/sshd_config": "->nowhere"}, user(hostconfig.User{Name: "ada", SSHMode: hostconfig.SSHKeyOnly}),
			errkind.Precondition, "SetUpUsers", "no SSH server",
		},
		"SELinux without its files": {
			map[string]string{"etc/selinux/config": "->nowhere"}, &hostconfig.OS{SELinux: hostconfig.SELinux{Mode: hostconfig.SELinuxEnforcing}},
			errkind.Invalid, "SelinuxEnabledButNotFound", "mode enforcing",
		},
		"a module that the image disables elsewhere": {
			map[string]string{"usr/lib/modprobe.d/vendor.conf": "# x\n\tblacklist br-netfilter\n"},
			&hostconfig.OS{Modules: []hostconfig.Module{{Name: "br_netfilter", LoadMode: hostconfig.LoadAlways}}},
			errkind.Precondition, "RunOsModifier", "/usr/lib/modprobe.d/vendor.conf",
		},
		"a folder in the place of a file": {
			map[string]string{"etc/hostname/": ""}, &hostconfig.OS{Hostname: "h"}, errkind.Precondition, "RunOsModifier", "not a file",
		},
		"a unit that there is not": {
			nil, &hostconfig.OS{Services: hostconfig.Services{Disable: []string{"gone"}}}, errkind.Internal, "RunOsModifier", "disable unit gone: systemctl: exit status 1",
		},
		"what CheckOS refuses": {nil, &hostconfig.OS{Hostname: "a b"}, errkind.Invalid, "", "os.hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(image)
			maps.Copy(files, test.extra)
			root := tree(t, files)
			before := look(t, root)
			failing := run.Func(func(context.Context, string, ...string) ([]byte, error) {
				return nil, &run.ExitError{Tool: "systemctl", Status: "exit status 1"}
			})
			err := Setup(t.Context(), root, test.os, failing, nil)
			if err == nil || errkind.Of(err) != test.kind || errkind.Variant(err) != test.upstream || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v (%s, %s)", err, errkind.Of(err), errkind.Variant(err))
			}
			after := look(t, root)
			for _, name := range slices.Sorted(maps.Keys(after)) { // what SSH allows is written first
				if before[name] != after[name] && !strings.HasPrefix(name, "etc/ssh/") {
					t.Errorf("%s was changed: %q", name, after[name])
				}
			}
		})
	}
}

func TestASetupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Setup(ctx, t.TempDir(), &hostconfig.OS{}, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
