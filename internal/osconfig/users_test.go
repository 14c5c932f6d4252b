package osconfig

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
)

func setUsers(t *testing.T, root string, users ...hostconfig.User) error {
	t.Helper()
	return Setup(t.Context(), root, &hostconfig.OS{Users: users}, units(root), nil)
}

// added are the lines that a file has more than the image.
func added(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range strings.Split(string(data), "\n") {
		if l != "" && !strings.Contains("\n"+image[name]+"\n", "\n"+l+"\n") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func TestUsersAreMadeAsTheOSMakesThem(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	for name, test := range map[string]struct {
		extra                 map[string]string
		user                  hostconfig.User
		passwd, group, shadow string
	}{
		"no files of defaults": {
			map[string]string{"etc/login.defs": "->none", "etc/default/useradd": "->none"}, hostconfig.User{Name: "ada"},
			"ada:x:1000:1000::/home/ada:/bin/sh", "ada:x:1000:", "ada:!:::::::",
		},
		"no groups of their own": {
			map[string]string{"etc/login.defs": "USERGROUPS_ENAB no\n"}, hostconfig.User{Name: "ada"},
			"ada:x:1000:100::/home/ada:/bin/bash", "", "ada:!:::::::",
		},
		"other places": {
			map[string]string{"etc/default/useradd": "HOME=/people\nSHELL='/bin/zsh'\nSKEL=/none\n"}, hostconfig.User{Name: "ada"},
			"ada:x:1000:1000::/people/ada:/bin/zsh", "ada:x:1000:", "ada:!:::::::",
		},
		"the group ID is taken": {
			map[string]string{"etc/group": image["etc/group"] + "\nx:x:1000:\nwide:x:1007:"}, hostconfig.User{Name: "ada"},
			"ada:x:1000:1008::/home/ada:/bin/bash", "x:x:1000:\nwide:x:1007:\nada:x:1008:", "ada:!:::::::",
		},
		"the highest user ID is taken": {
			map[string]string{"etc/passwd": image["etc/passwd"] + "x:x:60000:0:::\ny:x:1000:0:::\n"}, hostconfig.User{Name: "ada"},
			"ada:x:1001:1001::/home/ada:/bin/bash\nx:x:60000:0:::\ny:x:1000:0:::", "ada:x:1001:", "ada:!:::::::",
		},
		"a group by its number": {
			nil, hostconfig.User{Name: "ada", PrimaryGroup: "100", SecondaryGroups: []string{"10"}},
			"ada:x:1000:100::/home/ada:/bin/bash", "wheel:x:10:svc,ada", "ada:!:::::::",
		},
		"no shadow": {
			map[string]string{"etc/shadow": "->none", "etc/gshadow": "->none"}, hostconfig.User{Name: "ada"},
			"ada:!:1000:1000::/home/ada:/bin/bash", "ada:x:1000:", "",
		},
		"one that is there": {
			map[string]string{"etc/passwd": "ada:secret:1234:10:Ada,,:/:/bin/sh\n", "etc/shadow": "ada::19000:0:90:7:::\n"},
			hostconfig.User{Name: "ada", PrimaryGroup: "users", HomeDirectory: "/home/lady"},
			"ada:x:1234:100:Ada,,:/home/lady:/bin/sh", "", "ada:!:19000:0:90:7:::",
		},
		"one without a line in shadow": {
			map[string]string{"etc/passwd": "ada:hash:1234:10:::\n"}, hostconfig.User{Name: "ada"},
			"ada:x:1234:10:::", "", "ada:!hash:::::::",
		},
		"its home outlived another slot": {
			map[string]string{"home/ada/": ""}, hostconfig.User{Name: "ada"},
			"ada:x:1717:1717::/home/ada:/bin/bash", "ada:x:1717:", "ada:!:::::::",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(image)
			maps.Copy(files, test.extra)
			root := tree(t, files)
			home := filepath.Join(root, "home/ada")
			if _, err := os.Stat(home); err == nil {
				if err := os.Chown(home, 1717, 1717); err != nil {
					t.Fatal(err)
				}
			}
			if err := setUsers(t, root, test.user); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{"passwd": added(t, root, "etc/passwd"), "group": added(t, root, "etc/group")}
			want := map[string]string{"passwd": test.passwd, "group": test.group}
			if test.shadow != "" {
				got["shadow"], want["shadow"] = added(t, root, "etc/shadow"), test.shadow
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// As a user, who can give files to nobody else, only this one can be made.
func TestKeysReplaceThoseThatWereThere(t *testing.T) {
	t.Parallel()
	uid, gid := hostconfig.UserID(os.Getuid()), os.Getgid()
	files := maps.Clone(image)
	files["etc/passwd"] = fmt.Sprintf("me:x:%d:%d::/home/me:\n", uid, gid)
	files["home/me/.ssh/authorized_keys"] = "->/etc/passwd"
	files["home/me/.ssh/config"] = "mine"
	root := tree(t, files)
	me := hostconfig.User{Name: "me", UID: &uid, SSHMode: hostconfig.SSHKeyOnly, SSHPublicKeys: []string{"ssh-ed25519 A me"}}
	if err := setUsers(t, root, me); err != nil {
		t.Fatal(err)
	}
	got := look(t, root)
	if got["home/me/.ssh/authorized_keys"] != "-rw------- ssh-ed25519 A me\n" || got["home/me/.ssh/config"] != "-rw-r----- mine" {
		t.Errorf("got %q", got)
	}
	me.SSHPublicKeys = nil
	if err := setUsers(t, root, me); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, look(t, root)); diff != "" {
		t.Errorf("without keys those of the image stay: %s", diff)
	}
}

func TestALinkInAHomeIsNotFollowed(t *testing.T) {
	t.Parallel()
	uid := hostconfig.UserID(os.Getuid())
	for name, place := range map[string]map[string]string{
		"link":    {"home/me/.ssh": "->/etc", "etc/": ""},
		"file":    {"home/me/.ssh": "x"},
		"home":    {"home/me": "x"},
		"no home": {"etc/passwd": fmt.Sprintf("me:x:%d:0:::\n", uid)},
	} {
		files := maps.Clone(image)
		files["etc/passwd"] = fmt.Sprintf("me:x:%d:0::/home/me:\n", uid)
		maps.Copy(files, place)
		root := tree(t, files)
		err := setUsers(t, root, hostconfig.User{Name: "me", SSHPublicKeys: []string{"k"}})
		if errkind.Of(err) != errkind.Precondition {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(root, "etc/authorized_keys")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: followed", name)
		}
	}
}

func TestAHomeOfSomebodyElseIsRefused(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	for _, dir := range []string{"home/ada", "home/ada/.ssh"} {
		files := maps.Clone(image)
		files["home/ada/.ssh/"] = ""
		root := tree(t, files)
		if err := os.Chown(filepath.Join(root, dir), 4242, 4242); err != nil {
			t.Fatal(err)
		}
		uid := hostconfig.UserID(1000)
		err := setUsers(t, root, hostconfig.User{Name: "ada", UID: &uid, SSHPublicKeys: []string{"k"}})
		if errkind.Of(err) != errkind.Precondition || !strings.Contains(err.Error(), "4242") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestALargeSkeletonIsRefused(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	root := tree(t, image)
	if err := os.Truncate(filepath.Join(root, "etc/skel/.profile"), maxSkeletonFile+1); err != nil {
		t.Fatal(err)
	}
	before := look(t, root)
	if err := setUsers(t, root, hostconfig.User{Name: "ada"}); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("got %v", err)
	}
	for name := range look(t, root) {
		if _, ok := before[name]; !ok && !strings.HasPrefix(name, "etc/ssh/") && name != "home" {
			t.Errorf("%s was left", name)
		}
	}
}

func TestTheSettingsOfSSHComeFirstOnce(t *testing.T) {
	t.Parallel()
	const ours = "Include /etc/ssh/sshd_config.d/global_user.conf"
	for was, want := range map[string]bool{
		"": true, "Port 22\n": true, "Port 22\n" + ours + "\n": true, "#" + ours + "\nPort 22\n": true,
		"# x\n\n  Include   /etc/ssh/sshd_config.d/global_user.conf\nPort 22\n": false,
	} {
		files := maps.Clone(image)
		files["etc/ssh/sshd_config"] = was
		root := tree(t, files)
		s := setup{root: root, touch: func(_ string, change func() error) error { return change() }}
		for range 2 {
			if err := s.ssh([]hostconfig.User{{Name: "a"}, {Name: "root"}}); err != nil {
				t.Fatal(err)
			}
		}
		got := look(t, root)
		now := strings.TrimPrefix(got["etc/ssh/sshd_config"], "-rw-r----- ")
		if (now != was) != want || !strings.HasSuffix(now, was) || strings.Count(now[:len(now)-len(was)], ours) > 1 {
			t.Errorf("%q became %q", was, now)
		}
		if got["etc/ssh/sshd_config.d/global_user.conf"] != "-rw------- PermitRootLogin no\nDenyUsers a root\n" {
			t.Errorf("got %q", got)
		}
	}
}
