package ddi

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// A signature is only put where it has room, and an image that it does not fit in stays as
// it is.
func TestASignatureWithoutRoomIsRefused(t *testing.T) {
	t.Parallel()
	path, root := built(t, sample(t))
	key := rsaKey(t)
	cert := signer(t, key)
	sig, err := SignRootHash(root, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	before := readFile(t, path)
	err = Attach(path, make([]byte, sigSize), cert, func(*Image, *os.File) error { return nil })
	if errkind.Of(err) != errkind.TooLarge || !strings.Contains(err.Error(), "the signature needs ") || !strings.HasPrefix(err.Error(), "sign "+path+": ") {
		t.Errorf("a signature that is too long: %v", err)
	}
	if !bytes.Equal(readFile(t, path), before) {
		t.Error("the image has changed")
	}

	unsigned := openBytes(t, before).Table()
	if err := Attach(path, sig, cert); err != nil {
		t.Fatal(err)
	}
	short := *openBytes(t, readFile(t, path)).Table()
	short.Partitions = append([]gpt.Partition(nil), short.Partitions...)
	short.Partitions[2].Last--
	full := *unsigned
	full.Size -= grain
	for says, table := range map[string]*gpt.Table{
		"the signature partition has 15872 bytes, not 16384":      &short,
		"less than 16384 bytes are free after the last partition": &full,
	} {
		if _, _, err := withSignature(table, root); errkind.Of(err) != errkind.Precondition || err.Error() != says {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// What only root can make is refused in a tree, too.
func TestABuildRefusesWhatOnlyRootCanMake(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	capability := []byte{0, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_raw, of version 2
	for says, spoil := range map[string]func(dir string) error{
		"usr/lib/d is a device node: an image can have only files": func(dir string) error {
			return unix.Mknod(filepath.Join(dir, "usr/lib/d"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		},
		"usr/lib/x has file capabilities": func(dir string) error {
			return unix.Setxattr(filepath.Join(dir, "usr/lib/x"), "security.capability", capability, 0)
		},
	} {
		dir := writeTree(t, map[string]string{"usr/lib/x": "x"})
		if err := spoil(dir); err != nil {
			t.Skipf("this host does not let root make it: %v", err)
		}
		path := filepath.Join(t.TempDir(), "x.raw")
		_, err := Build(t.Context(), path, BuildOptions{Tree: dir, Arch: AMD64, Epoch: epoch})
		if errkind.Of(err) != errkind.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v (%s), want %s", err, errkind.Of(err), says)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("an image was made: %v", err)
		}
	}
}
