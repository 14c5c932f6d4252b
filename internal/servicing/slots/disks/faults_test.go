package disks

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/change"
	"github.com/trident-project/trident/internal/servicing/slots/machine"
	"github.com/trident-project/trident/internal/servicing/slots/record"
	"github.com/trident-project/trident/internal/slot"
	"github.com/trident-project/trident/internal/storage"
)

var errRead = errors.New("input/output error")

// bench is a host of which no disk can be read, and an operation with a configuration.
type bench struct {
	disks  *Disks
	run    *record.Run
	config *hostconfig.Config
	log    strings.Builder
}

func newBench(t *testing.T, config string) *bench {
	t.Helper()
	b := &bench{}
	host := change.New(change.Host{
		Root: hosttest.TempDir(t), Logger: slog.New(slog.DiscardHandler),
		Runner: &operation.Runner{Config: operation.Config{Life: operation.Life{Boot: "now"}}},
	})
	b.disks = &Disks{Host: host, Machine: machine.Machine{
		Arch:      "amd64",
		Inventory: func() (*blockdev.Inventory, error) { return nil, errRead },
		Disks:     storage.Tools{Open: func(string, bool) (blockdev.Device, error) { return nil, errRead }},
	}}
	c, err := hostconfig.ParseRecorded([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	b.config = c
	b.run = operation.Rehearse("op", record.Record{Asked: c.Recorded(), Purpose: record.Installs, Slot: slot.A}, func(_ slog.Level, text string) { b.log.WriteString(text + "\n") })
	return b
}

// Disks that cannot be read end each step with the cause; none takes them for empty ones.
func TestDisksThatCannotBeReadEndEachStep(t *testing.T) {
	t.Parallel()
	b := newBench(t, "storage: {encryption: {volumes: [{id: e, deviceName: e, deviceId: p}]}}\n")
	ctx := t.Context()
	b.run.State.Parts = []record.Part{{Name: "/", Device: "p"}}
	for name, err := range map[string]error{
		"partition": b.disks.Partition(ctx, b.run, b.config),
		"reopen":    b.disks.Reopen(ctx, b.run, b.config),
		"write":     b.disks.Write(ctx, b.run, b.config),
		"kept":      b.disks.checkKept(ctx, b.run, &record.Examined{}),
	} {
		if !errors.Is(err, errRead) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.run.State.Partitioned {
		t.Error("the disks count as partitioned")
	}
}

func TestAConfigurationWithoutAnImageIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, "os: {}\n")
	if _, err := b.disks.Examine(t.Context(), b.run); errkind.Of(err) != errkind.Invalid || errkind.Variant(err) != errkind.NameMissingOsImage {
		t.Errorf("%v (%s)", err, errkind.Variant(err))
	}
}

// A slot is not proven by a tree that was not read, or by a root hash that is none.
func TestATreeThatCannotBeComparedProvesNothing(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", record.RootHashDigits/2)
	for name, c := range map[string]struct {
		root  string
		paths record.Devices
		says  string
	}{
		"the device cannot be read": {hash, record.Devices{{ID: "data", Path: "/d"}, {ID: "hash", Path: "/h"}}, "input/output error"},
		"the device is unknown":     {hash, nil, `"data"`},
		"the root hash is short":    {"abcd", nil, `the recorded root hash "abcd" is not valid`},
		"the root hash is no hash":  {strings.Repeat("x", record.RootHashDigits), nil, "is not valid"},
	} {
		b := newBench(t, "image: {url: 'http://user:secret@host/x.cosi', sha384: ignored}\n")
		b.run.State.Paths = c.paths
		b.run.State.Parts = []record.Part{{Name: "/usr", Device: "data", Done: true, Tree: &record.Tree{Device: "hash", RootHash: c.root}}}
		err := b.disks.VerifyTrees(t.Context(), b.run, b.config)
		if err == nil || !strings.Contains(err.Error(), c.says) || errkind.Variant(err) != errkind.NameCreateVerity || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v (%s)", name, err, errkind.Variant(err))
		}
		if _, err := b.run.State.Prove(); err == nil {
			t.Errorf("%s: the slot is proven", name)
		}
	}
}

// The copy of the boot files that was verified is the only one that is used.
func TestBootFilesThatHaveChangedAreNotUsed(t *testing.T) {
	t.Parallel()
	b := newBench(t, "os: {}\n")
	if _, err := b.disks.OpenESP(b.run); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a copy: %v", err)
	}
	hosttest.Write(t, filepath.Join(b.disks.StagedDir(), "esp.img"), "other")
	b.run.State.Parts = []record.Part{{ESP: true, Content: strings.Repeat("0", 64)}}
	if _, err := b.disks.OpenESP(b.run); errkind.Of(err) != errkind.Corrupt || errkind.Variant(err) != errkind.NameDeployESPImages {
		t.Errorf("another copy: %v", err)
	}
	dir, err := os.Open(b.disks.StagedDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := sameESP(&b.run.State, dir); err == nil || errkind.Of(err) == errkind.Corrupt {
		t.Errorf("a copy that cannot be read: %v", err)
	}
}

// Trident writes /etc/fstab, so /etc has to be writable.
func TestAReadOnlyRootIsAcceptedIfEtcIsWritable(t *testing.T) {
	t.Parallel()
	const alone = "storage: {filesystems: [{deviceId: root, mountPoint: /}, {deviceId: usr, mountPoint: /usr}]}\n"
	const beside = "storage: {filesystems: [{deviceId: root, mountPoint: /}, {deviceId: etc, mountPoint: /etc}]}\n"
	for name, c := range map[string]struct {
		config string
		part   record.Part
		want   errkind.Kind
	}{
		"erofs":                          {alone, record.Part{Name: "/", Device: "root", Type: "erofs"}, errkind.Unsupported},
		"squashfs for /etc":              {beside, record.Part{Name: "/etc", Device: "etc", Type: "squashfs"}, errkind.Unsupported},
		"erofs for /usr":                 {alone, record.Part{Name: "/usr", Device: "usr", Type: "erofs"}, ""},
		"/etc is another file system":    {beside, record.Part{Name: "/", Device: "root", Type: "erofs"}, ""},
		"a verified root has an overlay": {alone, record.Part{Name: "/", Device: "root", Type: "erofs", Tree: &record.Tree{}}, ""},
		"ext4":                           {alone, record.Part{Name: "/", Device: "root", Type: "ext4"}, ""},
	} {
		b := newBench(t, c.config)
		err := b.disks.checkWritable(c.part, &record.Examined{Config: b.config})
		if c.want == "" && err != nil || c.want != "" && errkind.Of(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHashTreeThatTridentCannotSetUpIsRefused(t *testing.T) {
	t.Parallel()
	v := &hostconfig.Verity{ID: "v"}
	has := func(change func(*image.Verity)) image.Filesystem {
		tree := &image.Verity{RootHash: strings.Repeat("ab", record.RootHashDigits/2), Image: image.File{Path: "hash"}}
		change(tree)
		return image.Filesystem{Image: image.File{Path: "data"}, Verity: tree}
	}
	same := func(*image.Verity) {}
	for _, c := range []struct {
		name  string
		esp   bool
		have  image.Filesystem
		named string
		says  string
	}{
		{"as configured", false, has(same), "", ""},
		{"of an ESP", true, has(same), errkind.NameUnexpectedVerityOnEsp, "firmware cannot verify"},
		{"behind the data", false, has(func(v *image.Verity) { v.HashOffset = 4096 }), errkind.NameVerityMismatch, "is not at the beginning of a partition of its own"},
		{"of SHA-512", false, has(func(v *image.Verity) { v.RootHash += v.RootHash }), errkind.NameVerityMismatch, "has 128 digits, and that of the supported SHA-256 has 64"},
		{"none", false, image.Filesystem{}, errkind.NameVerityMismatch, "the image has no hash tree for it"},
	} {
		err := sameVerity(v, c.esp, "/usr", c.have)
		if errkind.Variant(err) != c.named || (err == nil) != (c.named == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s)", c.name, err, errkind.Variant(err))
		}
	}
}

// An overlay that keeps its changes elsewhere has none of what Trident writes to /etc, so the
// OS counts as immutable. Arguments of other folders do not count.
func TestAnOverlayOfTheImageThatHasNoChangesOfTrident(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"":                                  "",
		"rd.overlayfs=/etc":                 "",
		"rd.overlayfs=/opt,/u,/w,UUID=a":    "",
		"rd.overlayfs=/etc,/mine,/w,UUID=a": "the overlay on /etc of the image's UKI keeps its changes in the folder /mine",
	} {
		b := newBench(t, "storage: {filesystems: [{deviceId: o, mountPoint: /var/lib/trident-overlay}]}\n")
		o := opening{run: b.run, examined: &record.Examined{Config: b.config}, cmdline: parseCmdline(text)}
		if mounts, err := o.mountsEtc(); mounts || err != nil || !strings.Contains(b.log.String(), says) || (says == "") != (b.log.Len() == 0) {
			t.Errorf("%q: %v, %v, and the log %q", text, mounts, err, b.log.String())
		}
	}
}

// Without panic= a kernel that finds corrupt data waits for a person.
func TestAPanicThatDoesNotRebootIsWarnedOf(t *testing.T) {
	t.Parallel()
	names, ok := storage.VerityArgumentsOf("root")
	if !ok {
		t.Fatal("no arguments for root")
	}
	for text, warns := range map[string]bool{"": true, " panic=10": false} {
		b := newBench(t, "storage: {verity: [{id: v, name: root, dataDeviceId: d, hashDeviceId: h, corruptionOption: panic}]}\n")
		o := opening{run: b.run, examined: &record.Examined{Config: b.config}, cmdline: parseCmdline(names.Options + "panic-on-corruption" + text)}
		if err := o.checkCorruption(names, 0); err != nil || strings.Contains(b.log.String(), "no panic=") != warns {
			t.Errorf("%q: %v, and the log %q", text, err, b.log.String())
		}
	}
}
