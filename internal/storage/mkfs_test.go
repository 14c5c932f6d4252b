package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
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
	both := []string{"e2fsck -f -y /dev/x", "resize2fs /dev/x"}
	for _, tt := range []struct {
		typ         string
		size        int64 // of the file system, on a device of 64 MiB
		check, grow error
		ran         []string
		fails       bool
	}{
		{"ext4", 16 * mib, nil, nil, both, false},
		{"ext4", 64*mib - 4096, nil, nil, both, false},
		{"ext4", 64 * mib, broken, broken, nil, false}, // no byte changes
		{"ext2", 64 * mib, broken, broken, nil, false},
		{"ext4", 16 * mib, exit("exit status 1"), nil, both, false},
		{"ext4", 16 * mib, exit("exit status 4"), nil, both[:1], true},
		{"ext3", 16 * mib, nil, broken, both, true},
		{"ext4", 0, nil, nil, nil, true}, // no superblock
		{"xfs", 0, broken, broken, nil, false},
		{"vfat", 0, broken, broken, nil, false},
	} {
		dev := blockdevtest.New(64*mib, 512)
		if tt.size > 0 {
			superblock := make([]byte, 1024)
			binary.LittleEndian.PutUint32(superblock[4:], uint32(tt.size/4096))
			binary.LittleEndian.PutUint32(superblock[24:], 2)
			binary.LittleEndian.PutUint16(superblock[56:], 0xef53)
			if _, err := dev.WriteAt(superblock, 1024); err != nil {
				t.Fatal(err)
			}
		}
		var ran []string
		err := Resize(t.Context(), Tools{
			Open: func(string, bool) (blockdev.Device, error) { return dev, nil },
			Runner: run.Func(func(_ context.Context, name string, args ...string) ([]byte, error) {
				ran = append(ran, name+" "+strings.Join(args, " "))
				if name == "e2fsck" {
					return nil, tt.check
				}
				return nil, tt.grow
			}),
		}, tt.typ, "/dev/x")
		if (err != nil) != tt.fails || tt.fails && errkind.Variant(err) != "DeployImages" {
			t.Errorf("%+v: %v", tt, err)
		}
		if diff := cmp.Diff(tt.ran, ran); diff != "" {
			t.Errorf("%s, %d bytes: %s", tt.typ, tt.size, diff)
		}
	}
}
