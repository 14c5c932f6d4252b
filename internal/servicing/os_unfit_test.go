package servicing

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/operation"
)

// A fields is an object of an image's metadata.
type fields = map[string]any

// described is an image with the files of another one, and other metadata.
func described(t *testing.T, from osImage, version string, change func(fields)) osImage {
	t.Helper()
	data, err := os.ReadFile(from.path)
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(bytes.NewReader(data))
	var b bytes.Buffer
	out, digest := tar.NewWriter(&b), ""
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		content, rerr := io.ReadAll(in)
		if err := errors.Join(err, rerr); err != nil {
			t.Fatal(err)
		}
		if h.Name == "metadata.json" {
			var all fields
			err := json.Unmarshal(content, &all)
			change(all)
			text, merr := json.Marshal(all)
			if err := errors.Join(err, merr); err != nil {
				t.Fatal(err)
			}
			sum := sha512.Sum384(text)
			content, digest = text, hex.EncodeToString(sum[:])
		}
		h.Size = int64(len(content))
		err = out.WriteHeader(h)
		if err == nil {
			_, err = out.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tempDir(t), version+".cosi")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return osImage{version: version, path: path, sha: digest}
}

// filesystem returns the file system of an image at a mount point.
func filesystem(all fields, at string) fields {
	for _, f := range all["images"].([]any) {
		if f := f.(fields); f["mountPoint"] == at {
			return f
		}
	}
	panic("no file system for " + at)
}

// older makes metadata that of an earlier version of the format.
func older(all fields, version string) {
	all["version"] = version
	delete(all, "disk")
	delete(all, "compression")
	if version == "1.0" {
		delete(all, "bootloader")
		delete(all, "osPackages")
	}
}

// more adds to metadata the root file system once more, for another mount point.
func more(at, typ string) func(fields) {
	return func(all fields) {
		other := maps.Clone(filesystem(all, "/"))
		other["mountPoint"], other["fsType"], other["fsUuid"] = at, typ, "99999999-0000-4000-8000-000000000099"
		all["images"] = append(all["images"].([]any), other)
	}
}

// relaxed accepts an image that has the same file twice.
func relaxed(text string) string { return text + "internalParams: {relaxedCosiValidation: true}\n" }

// An image that does not fit the host, or the configuration, is refused by upstream's name
// before anything of the host changes, by a plan and by the step "image" alike.
func TestAnImageThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	a := newAlbum(t)
	var installed *osWorld
	live := tempDir(t)
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(v1, true, true))
		w.rest()
		installed = w.copied(t, live)
	})
	asRoot := func(change func(all, root fields)) func(fields) {
		return func(all fields) { change(all, filesystem(all, "/")) }
	}
	onlyRoot := func(all fields) { all["images"] = []any{filesystem(all, "/")} }
	for n, c := range []struct {
		title  string
		update bool
		image  func(fields)
		config func(string) string
		kind   errkind.Kind
		named  string // upstream's name
		says   string
	}{
		{title: "another architecture", image: func(all fields) { all["osArch"] = "arm64" }, kind: errkind.Incompatible, named: "MismatchedArchitecture",
			says: "the image is for the architecture arm64, and this host is amd64"},
		{title: "GRUB without GRUB", image: func(all fields) { all["bootloader"] = fields{"type": "grub"} }, kind: errkind.NotFound, named: "InvalidBootConfiguration",
			says: "no folder of EFI has grubx64-noprefix.efi"},
		{title: "a format without boot loaders", image: func(all fields) { older(all, "1.0") }, kind: errkind.Unsupported, named: "InvalidBootConfiguration",
			says: "the image boots by a boot loader that its metadata does not name"},
		{title: "another system", update: true, image: func(all fields) { all["osRelease"] = "ID=other\n" }, kind: errkind.Incompatible, named: "MismatchedOsRelease",
			says: `its os-release has ID="other", and this host's has "test"`},
		{title: "another variant", update: true, image: func(all fields) { all["osRelease"] = "ID=test\nVARIANT_ID=edge\n" }, kind: errkind.Incompatible, named: "MismatchedOsRelease",
			says: `its os-release has VARIANT_ID="edge", and this host's has ""`},
		{title: "the file system that is mounted", update: true, image: asRoot(func(_, root fields) { root["fsUuid"] = "11111111-0000-4000-8000-000000000011" }),
			kind: errkind.Invalid, named: "DuplicateFsUuidAbUpdate", says: "the image's file system for / has the UUID 11111111-0000-4000-8000-000000000011, as has /dev/vdb2, which is"},
		{title: "no root file system", image: asRoot(func(_, root fields) { root["mountPoint"] = "/data" }), kind: errkind.Invalid, named: "MissingOsImageFilesystem",
			says: "the image has no file system for /"},
		{title: "no place for a file system", image: more("/data", "ext4"), config: relaxed, kind: errkind.Invalid, named: "UnusedOsImageFilesystem",
			says: "the configuration has no place for the image's file system for /data"},
		{title: "dm-verity", image: asRoot(func(_, root fields) {
			root["verity"] = fields{"image": root["image"], "roothash": strings.Repeat("ab", 32)}
		}),
			kind: errkind.Invalid, named: "VerityMismatch", says: "the image has a verity hash tree for /, and the configuration mounts no verity device there"},
		{title: "/boot that is not ext4", image: more("/boot", "xfs"), config: func(text string) string {
			text = replaced("    - {id: trident,", "    - {id: boot, type: xbootldr, size: 8M}\n    - {id: trident,")(relaxed(text))
			return replaced("  - {deviceId: root, mountPoint: /}", "  - {deviceId: root, mountPoint: /}\n  - {deviceId: boot, mountPoint: /boot}")(text)
		}, kind: errkind.Invalid, named: "UnsupportedBootFileSystemType", says: "the image's file system for /boot is xfs, and must be ext4"},
		{title: "a volume without a pair", update: true, image: more("/var/lib/trident", "ext4"), config: func(text string) string {
			return replaced("{deviceId: trident, source: new,", "{deviceId: trident,")(relaxed(text))
		}, kind: errkind.Invalid, named: errkind.NameInvalidHostConfigurationDynamic,
			says: `/var/lib/trident comes from the image, but its device "trident" is not an A/B volume: ImageUpdateOnStandaloneBlockDevice`},
		{title: "no ESP", image: onlyRoot, config: func(text string) string {
			return replaced("  - {deviceId: esp, mountPoint: /boot/efi}\n", "")(text)
		}, kind: errkind.Invalid, named: "EspMountPointMismatch", says: "the configuration mounts no EFI system partition"},
		{title: "an ESP without boot files", image: onlyRoot, config: func(text string) string {
			return replaced("{deviceId: esp, mountPoint: /boot/efi}", "{deviceId: esp, source: new, mountPoint: /boot/efi}")(text)
		}, kind: errkind.Invalid, named: "EspMountPointMismatch", says: "the EFI system partition does not get the image's boot files"},
		{title: "nothing for the configuration", image: func(all fields) { all["images"] = []any{filesystem(all, "/")} }, config: func(text string) string {
			text = replaced("{deviceId: esp, mountPoint: /boot/efi}", "{deviceId: esp, source: new, mountPoint: /boot/efi}")(text)
			return replaced("{deviceId: root, mountPoint: /}", "{deviceId: root, source: new, mountPoint: /}")(text)
		}, kind: errkind.Invalid, named: "MissingOsImageFilesystem", says: "no file system of the configuration comes from the image"},
	} {
		t.Run(c.title, func(t *testing.T) {
			from := a.v1
			if c.update {
				from = a.v2
			}
			image := from
			if c.image != nil {
				image = described(t, from, fmt.Sprintf("d%d", n), c.image)
			}
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newOSWorld(t, a)
				if c.update {
					w = installed.copied(t, tempDir(t))
				}
				w.powerOn()
				write(t, filepath.Join(w.root, "srv", image.version+".cosi"), fileText(t, image.path))
				text := hostOf(image, "")
				if c.config != nil {
					text = c.config(text)
				}
				w.wantUnfit(text, c.update, c.kind, c.named, c.says)
				w.rest()
			})
		})
	}
}

// wantUnfit wants a configuration to be refused by a plan, and by an operation that it
// undoes before it has changed anything.
func (w *osWorld) wantUnfit(text string, update bool, kind errkind.Kind, named, says string) {
	w.t.Helper()
	ctx, s := w.t.Context(), w.daemon.service
	c, err := hostconfig.ParseRecorded([]byte(text)) // as an older release, or upstream, has accepted it
	if err != nil {
		w.t.Fatal(err)
	}
	was, before := w.status(), w.state()
	plan, begin := s.PlanInstall, func() (string, error) {
		return s.Install(ctx, InstallRequest{Config: c, Stage: true, Finalize: true})
	}
	if update {
		plan, begin = s.Plan, func() (string, error) {
			return s.Update(ctx, UpdateRequest{Config: c, Stage: true, Finalize: true})
		}
	}
	if _, err := plan(ctx, c); errkind.Of(err) != kind || errkind.Variant(err) != named || err == nil || !strings.Contains(err.Error(), says) {
		w.t.Errorf("the plan: %s, %s: %v", errkind.Of(err), errkind.Variant(err), err)
	}
	id, err := begin()
	if err != nil {
		w.t.Errorf("it did not begin: %v", err)
		return
	}
	op := w.waiting(id)
	if op.Phase != operation.Undone || op.Reached != "image" || op.Failure.Kind != kind || op.Failure.Name != named || !strings.Contains(op.Failure.Message, says) {
		w.t.Errorf("%s at %q: %+v", op.Phase, op.Reached, op.Failure)
	}
	if st := w.status(); st.Phase != was.Phase || st.Spec != was.Spec || st.LastError == nil {
		w.t.Errorf("the status is %+v, was %+v", st, was)
	}
	if w.state() != before {
		w.t.Errorf("the disk or the firmware has changed; touches: %v", w.Trace)
	}
}

func fileText(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Only a file system in use keeps an image out: the slot that does not run is overwritten,
// even by the image that it has.
func TestAnImageMayReplaceItselfInTheOtherSlot(t *testing.T) {
	t.Parallel()
	onMachine(t, func(t *testing.T, w *osWorld) {
		w.must(updating(v2, true, true))
		w.must(updating(v1, true, true))
		if got := w.text("usr/share/version"); got != "v1\n" {
			t.Errorf("%q runs", got)
		}
	})
}
