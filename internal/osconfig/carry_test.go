package osconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
)

const (
	mine  = "0123456789abcdef0123456789abcdef"
	other = "ffffffffffffffffffffffffffffffff"
)

func TestTheIdentityOfAHostIsCarriedOver(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		old, new, want map[string]string
		hostname       bool
	}{
		"all of it": {
			old:      map[string]string{"etc/machine-id": mine + "\n", "etc/hostname": "host\n", "etc/ssh/ssh_host_ed25519_key": "secret"},
			new:      map[string]string{"etc/machine-id": "uninitialized\n", "etc/hostname": "image\n"},
			want:     map[string]string{"etc/machine-id": "-r--r--r-- " + mine + "\n", "etc/hostname": "-rw-r--r-- host\n"},
			hostname: true,
		},
		"not its name": {
			old:  map[string]string{"etc/machine-id": mine + "\n", "etc/hostname": "host\n"},
			new:  map[string]string{"etc/hostname": "image\n"},
			want: map[string]string{"etc/machine-id": "-r--r--r-- " + mine + "\n", "etc/hostname": "-rw-r----- image\n"},
		},
		"a link to the ID, and the ID of D-Bus": {
			old: map[string]string{"etc/machine-id": mine + "\n"},
			new: map[string]string{"etc/machine-id": "->../../run/machine-id", "var/lib/dbus/machine-id": other + "\n"},
			want: map[string]string{
				"etc/machine-id": "-r--r--r-- " + mine + "\n", "var": "folder", "var/lib": "folder", "var/lib/dbus": "folder",
			},
		},
		"none yet": {
			old:      map[string]string{"etc/machine-id": ""},
			new:      map[string]string{"etc/machine-id": other + "\n"},
			want:     map[string]string{"etc/machine-id": "-r--r--r-- "},
			hostname: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, test.new)
			test.want["etc"] = "folder"
			old := tree(t, test.old)
			for range 2 {
				if err := Carry(old, root, test.hostname); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, look(t, root)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestAnInvalidMachineIDIsNotCarriedOver(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"x\n", strings.ToUpper(mine), strings.Repeat("0", 32), mine + mine} {
		err := Carry(tree(t, map[string]string{"etc/machine-id": id}), tree(t, map[string]string{"etc/": ""}), true)
		if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != "CopyMachineId" {
			t.Errorf("%q: %v", id, err)
		}
	}
	err := Carry(tree(t, map[string]string{"etc/hostname/": ""}), tree(t, nil), true)
	if errkind.Variant(err) != "ReadHostname" {
		t.Errorf("hostname: %v", err)
	}
}

func TestAnImageWithAMachineIDMakesNoTwins(t *testing.T) {
	t.Parallel()
	for was, want := range map[string]string{
		mine + "\n":       "-r--r--r-- ",
		"broken":          "-r--r--r-- ",
		"":                "-rw-r----- ",
		"uninitialized\n": "-rw-r----- uninitialized\n",
	} {
		root := tree(t, map[string]string{"etc/machine-id": was, "var/lib/dbus/machine-id": mine})
		if err := ResetMachineID(root); err != nil {
			t.Fatal(err)
		}
		got := look(t, root)
		if got["etc/machine-id"] != want || got["var/lib/dbus/machine-id"] != "" {
			t.Errorf("%q became %q", was, got)
		}
	}
	root := tree(t, map[string]string{"etc/": "", "var/lib/dbus/machine-id": "->/etc/machine-id"})
	if err := ResetMachineID(root); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/machine-id")); !errors.Is(err, os.ErrNotExist) {
		t.Error("an ID was made where there was none")
	}
	if got := look(t, root)["var/lib/dbus/machine-id"]; got != "->/etc/machine-id" {
		t.Errorf("the link of D-Bus is %q", got)
	}
}
