package osconfig

import (
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

func TestFaultsAreFoundBeforeAnythingIsChanged(t *testing.T) {
	t.Parallel()
	uid := func(n hostconfig.UserID) *hostconfig.UserID { return &n }
	users := func(u ...hostconfig.User) hostconfig.OS { return hostconfig.OS{Users: u} }
	modules := func(m ...hostconfig.Module) hostconfig.OS { return hostconfig.OS{Modules: m} }
	enable := func(u ...string) hostconfig.OS { return hostconfig.OS{Services: hostconfig.Services{Enable: u}} }
	for says, os := range map[string]hostconfig.OS{
		"os.hostname: ":                         {Hostname: "-a"},
		`os.hostname: "a..b"`:                   {Hostname: "a..b"},
		`os.users[0].name: "a:b"`:               users(hostconfig.User{Name: "a:b"}),
		`os.users[0].name: "-r"`:                users(hostconfig.User{Name: "-r"}),
		`os.users[0].name: "1234"`:              users(hostconfig.User{Name: "1234"}),
		`os.users[0].name: ".."`:                users(hostconfig.User{Name: ".."}),
		`os.users[0].name: "a?b"`:               users(hostconfig.User{Name: "a\nb"}),
		`os.users[0].name: ""`:                  users(hostconfig.User{}),
		"os.users[1].uid: 7 is":                 users(hostconfig.User{Name: "a", UID: uid(7)}, hostconfig.User{Name: "b", UID: uid(7)}),
		"os.users[0].uid: 4294967295":           users(hostconfig.User{Name: "a", UID: uid(1<<32 - 1)}),
		"os.users[0].homeDirectory: \"home\"":   users(hostconfig.User{Name: "a", HomeDirectory: "home"}),
		"os.users[0].homeDirectory: \"/a:b\"":   users(hostconfig.User{Name: "a", HomeDirectory: "/a:b"}),
		"os.users[0].startupCommand: ":          users(hostconfig.User{Name: "a", StartupCommand: "/bin/sh\nroot::0:0:::"}),
		"os.users[0].primaryGroup: ":            users(hostconfig.User{Name: "a", PrimaryGroup: "a,b"}),
		"os.users[0].secondaryGroups[1]: ":      users(hostconfig.User{Name: "a", SecondaryGroups: []string{"ok", "a:b"}}),
		"os.users[0].sshPublicKeys[1]: ":        users(hostconfig.User{Name: "a", SSHPublicKeys: []string{"k\n", "k\nl"}}),
		"os.users[0].sshPublicKeys[0]: ":        users(hostconfig.User{Name: "a", SSHPublicKeys: []string{" \n"}}),
		`os.modules[0]: "a b"`:                  modules(hostconfig.Module{Name: "a b"}),
		`os.modules[1]: "a_b" is os.modules[0]`: modules(hostconfig.Module{Name: "a-b"}, hostconfig.Module{Name: "a_b"}),
		`os.modules[0]: "m" has options`:        modules(hostconfig.Module{Name: "m", LoadMode: hostconfig.LoadDisable, Options: map[string]string{"a": "b"}}),
		`os.modules[0]: "a=b" is not the name`:  modules(hostconfig.Module{Name: "m", Options: map[string]string{"a=b": "c"}}),
		`the value of option "a"`:               modules(hostconfig.Module{Name: "m", Options: map[string]string{"a": "b\ninstall x y"}}),
		`os.services.enable[0]: "--now"`:        enable("--now"),
		`os.services.enable[1]: "a/b"`:          enable("a@b.service", "a/b"),
		`os.services.enable[0]: ""`:             enable(""),
		`os.services.enable[0]: ".service"`:     enable(".service"),
		`os.services.disable[0]: "a.service" is in os.services.enable`: {
			Services: hostconfig.Services{Enable: []string{"a"}, Disable: []string{"a.service"}},
		},
	} {
		err := CheckOS(&os, true)
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), says) || errkind.Field(err) == "" {
			t.Errorf("wants %s: %v (%s)", says, err, errkind.Of(err))
		}
	}
}

func TestAllFaultsAreInOneError(t *testing.T) {
	t.Parallel()
	err := CheckOS(&hostconfig.OS{
		Hostname: "a b", Users: []hostconfig.User{{Name: "a:b"}, {Name: "c", HomeDirectory: "x"}},
		KernelCommandLine: hostconfig.KernelCommandLine{ExtraCommandLine: []string{"quiet"}},
	}, true)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v", err)
	}
}

func TestCheckOSAcceptsValidSettings(t *testing.T) {
	t.Parallel()
	o := all()
	o.Hostname = "a_b.c-d.example"
	o.Users = append(o.Users, hostconfig.User{Name: "host$"}, hostconfig.User{Name: "_a.b-C9"})
	o.Services.Enable = append(o.Services.Enable, `dev-disk-by\x2dlabel-x.swap`, "a@", "a@b:c.timer")
	for _, sealed := range []bool{false, true} {
		if err := CheckOS(o, sealed); err != nil {
			t.Error(err)
		}
	}
}

func TestArgumentsOfTheKernelAreNotSkippedInSilence(t *testing.T) {
	t.Parallel()
	os := hostconfig.OS{KernelCommandLine: hostconfig.KernelCommandLine{ExtraCommandLine: []string{"quiet", "console=ttyS0"}}}
	err := CheckOS(&os, true)
	if errkind.Of(err) != errkind.Unsupported || !strings.Contains(err.Error(), "quiet console=ttyS0") || !strings.Contains(errkind.Hint(err), "add-on") {
		t.Errorf("a sealed command line: %v (%s)", err, errkind.Hint(err))
	}
	if err := CheckOS(&os, false); err != nil {
		t.Errorf("a command line that Trident writes: %v", err)
	}
}
