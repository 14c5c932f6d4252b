package storage

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/run"
)

func TestEveryTypeOfFileSystemHasItsTool(t *testing.T) {
	t.Parallel()
	const id = "7fe3efd3-9e3a-4aee-8cf6-4ab9a5d2d5c3"
	for typ, want := range map[string]string{
		"ext4": "mkfs.ext4 -q -F -U " + id + " -E hash_seed=" + id + " /dev/x",
		"xfs":  "mkfs.xfs -q -f -m uuid=" + id + " /dev/x",
		"vfat": "mkfs.vfat -i 7fe3efd3 /dev/x",
		"ntfs": "mkfs.ntfs -q -Q -F /dev/x",
		"swap": "mkswap -f -U " + id + " /dev/x",
	} {
		got, err := mkfs(Format{Type: typ, Path: "/dev/x", UUID: formatUUID(typ, id)})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v", typ, got, err)
		}
	}
	if _, err := mkfs(Format{Type: "tmpfs"}); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("tmpfs: %v", err)
	}
}

func TestTypesAreThoseOfTheArchitecture(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		seen := map[string]bool{}
		for _, typ := range []hostconfig.PartitionType{"esp", "root", "swap", "root-verity", "home", "var", "usr", "usr-verity", "tmp", "linux-generic", "srv", "xbootldr"} {
			id, err := typeID(typ, arch)
			if err != nil || seen[id.String()] || typeName(id.String()) != string(typ) {
				t.Errorf("%s on %s: %s, %v", typ, arch, id, err)
			}
			seen[id.String()] = true
		}
	}
	own, err := typeID("01234567-89ab-cdef-0123-456789abcdef", "")
	if err != nil || own.String() != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("%s, %v", own, err)
	}
	if _, err := typeID("root", "mips"); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("got %v", err)
	}
}

func TestResizing(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	exit := func(status string) error { return &run.ExitError{Tool: "e2fsck", Status: status} }
	for _, tt := range []struct {
		typ         string
		check, size error
		ran         []string
		fails       bool
	}{
		{"ext4", nil, nil, []string{"e2fsck -f -y /dev/x", "resize2fs /dev/x"}, false},
		{"ext4", exit("exit status 1"), nil, []string{"e2fsck -f -y /dev/x", "resize2fs /dev/x"}, false},
		{"ext4", exit("exit status 4"), nil, []string{"e2fsck -f -y /dev/x"}, true},
		{"ext3", nil, broken, []string{"e2fsck -f -y /dev/x", "resize2fs /dev/x"}, true},
		{"xfs", broken, broken, nil, false},
		{"vfat", broken, broken, nil, false},
	} {
		var ran []string
		err := Resize(t.Context(), run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
			ran = append(ran, name+" "+strings.Join(args, " "))
			if name == "e2fsck" {
				return nil, tt.check
			}
			return nil, tt.size
		}), tt.typ, "/dev/x")
		if (err != nil) != tt.fails || tt.fails && errkind.Variant(err) != "DeployImages" {
			t.Errorf("%+v: %v", tt, err)
		}
		if diff := cmp.Diff(tt.ran, ran); diff != "" {
			t.Errorf("%s: %s", tt.typ, diff)
		}
	}
}
