package newos

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/extension"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/run"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing/slots/record"
)

// verified is a configuration with a verified root and, at /srv, a verified file system.
const verified = `storage:
  verity: [{id: v, name: root, dataDeviceId: data, hashDeviceId: hash}, {id: s, name: srv, dataDeviceId: sdata, hashDeviceId: shash}]
  filesystems: [{deviceId: v, mountPoint: {path: /, options: ro}}, {deviceId: s, mountPoint: {path: /srv, options: ro}}, {deviceId: home, mountPoint: /home}, {deviceId: var, mountPoint: /var}, {deviceId: esp, mountPoint: /boot/efi}]
`

func parse(t *testing.T, text string) *hostconfig.Config {
	t.Helper()
	c, err := hostconfig.ParseRecorded([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A setting for which Trident would have to write into a verified file system is refused by
// its place in the configuration.
func TestSettingsForAVerifiedFileSystemAreRefused(t *testing.T) {
	t.Parallel()
	const sum = ", sha384: ignored"
	for _, c := range []struct {
		name      string
		text      string
		carried   []record.Carried
		immutable bool
		says      []string // nil: accepted
	}{
		{name: "homes that can be written", text: "os: {users: [{name: ann, sshPublicKeys: [k]}, {name: root}]}\n"},
		{name: "the home of root", text: "os: {users: [{name: root, sshPublicKeys: [k]}]}\n", says: []string{"os.users[0]: /root is on the file system at /, which is verified"}},
		{name: "a home of its own", text: "os: {users: [{name: ann, homeDirectory: /srv/ann}]}\n", says: []string{"os.users[0]: /srv/ann is on the file system at /srv"}},
		{name: "extensions in /var", text: "os: {sysexts: [{url: 'file:///a.raw'" + sum + "}], confexts: [{url: 'file:///b.raw'" + sum + "}]}\n"},
		{name: "extensions below a verified folder", text: "os: {sysexts: [{url: 'file:///a.raw'" + sum + ", path: /srv/a.raw}], confexts: [{url: 'file:///b.raw'" + sum + ", path: /usr/lib/confexts/b.raw}]}\n",
			says: []string{"os.sysexts[0]: /srv/a.raw is on the file system at /srv", "os.confexts[0]: /usr/lib/confexts/b.raw is on the file system at /"}},
		{name: "extensions that the image carries for /var", carried: []record.Carried{{File: "extensions/a.raw", Class: extension.Sysext}, {File: "extensions/b.raw", Class: extension.Confext}}},
		{name: "an extension that the image carries for /usr", carried: []record.Carried{{File: "extensions/a.raw", Class: extension.Sysext, Path: "/usr/lib/extensions/a.raw"}},
			says: []string{"the image carries a sysext for /usr/lib/extensions, on the file system at /, which is verified and so read-only"}},
		{name: "an image that takes no extensions", immutable: true, carried: []record.Carried{{File: "extensions/a.raw", Class: extension.Sysext}}, says: []string{"the image carries extensions, and takes none"}},
		{name: "an image that takes no settings", immutable: true, text: "os: {hostname: a}\n", says: []string{"os.hostname: the image takes no settings"}},
		{name: "a signature that is not named by its path", text: "internalParams: {veritySignaturePaths: {v: root.p7s}}\n", says: []string{`"root.p7s" of device "v" is not the absolute path of a file in the image`}},
	} {
		config := parse(t, verified+c.text)
		r := record.Record{Carried: c.carried, Immutable: c.immutable}
		op := operation.Rehearse("op", r, nil)
		err := (&OS{}).CheckImmutable(t.Context(), op, &record.Examined{Record: &op.State, Config: config})
		if (err == nil) != (c.says == nil) || err != nil && errkind.Variant(err) != errkind.NameInvalidHostConfigurationDynamic {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, says := range c.says {
			if !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("%s: %v, want %q", c.name, err, says)
			}
		}
	}
}

// The kernel of the new OS needs the signature of its root hash, so a file that is none ends
// the step that configures the OS.
func TestAnOSWithoutTheSignatureOfARootHashIsRefused(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	signed := func(oid asn1.ObjectIdentifier) string {
		der, err := asn1.Marshal(struct{ Type asn1.ObjectIdentifier }{oid})
		if err != nil {
			t.Fatal(err)
		}
		return string(der)
	}
	good := signed(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})
	for name, content := range map[string]string{
		"good": good, "text": "no signature", "data": signed(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}),
		"longer": good + "x", "large": strings.Repeat("x", maxSignature+1),
	} {
		hosttest.Write(t, filepath.Join(root, name), content)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "folder"), 0o755), os.Symlink("/loop", filepath.Join(root, "loop"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]errkind.Kind{
		"good": "", "text": errkind.Invalid, "data": errkind.Invalid, "longer": errkind.Invalid, "large": errkind.TooLarge,
		"gone": errkind.NotFound, "folder": errkind.Internal, "loop": errkind.Internal,
	} {
		c := parse(t, verified+"internalParams: {veritySignaturePaths: {v: /"+name+"}}\n")
		err := (&OS{}).checkSignatures(t.Context(), nil, c, root)
		if want == "" && err != nil || want != "" && (err == nil || errkind.Variant(err) != errkind.NameCreateVerity || !strings.Contains(err.Error(), `the signature /`+name+` of the root hash of verity device "v"`)) {
			t.Errorf("%s: %v (%s)", name, err, errkind.Variant(err))
		}
		if want != "" && want != errkind.Internal && errkind.Of(err) != want {
			t.Errorf("%s: the kind is %s", name, errkind.Of(err))
		}
	}
}

// A verified root has the folders to mount on, or nobody can make them.
func TestAVerifiedRootThatLacksAFolderToMountOnIsRefused(t *testing.T) {
	t.Parallel()
	root := hosttest.TempDir(t)
	e := &record.Examined{Config: parse(t, verified)}
	for _, dir := range []string{"srv", "home", "var"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := (&OS{}).checkFolders(root, e)
	if errkind.Of(err) != errkind.Precondition || errkind.Variant(err) != errkind.NameMountNewroot || !strings.Contains(err.Error(), "has no folder /boot/efi to mount on") {
		t.Errorf("%v", err)
	}
	if err := os.Symlink("/boot", filepath.Join(root, "boot")); err != nil {
		t.Fatal(err)
	}
	if err := (&OS{}).checkFolders(root, e); err == nil || errkind.Of(err) == errkind.Precondition {
		t.Errorf("a link to itself: %v", err)
	}
}

// The effects of a plan name each thing that the step writes.
func TestTheEffectsOfAConfigurationNameWhatIsWritten(t *testing.T) {
	t.Parallel()
	c := parse(t, "storage: {raid: {software: [{id: m, name: m, level: raid1, devices: [a, b]}]}, encryption: {volumes: [{id: e, deviceName: e, deviceId: p}]}}\nos: {additionalFiles: [{destination: /etc/a, content: b}]}\n")
	effects := func(immutable bool) (out []string) {
		for _, e := range ConfigureEffects(&record.Examined{Config: c, Record: &record.Record{Purpose: record.Installs, Immutable: immutable}}) {
			out = append(out, e.Kind)
		}
		return out
	}
	if got, want := effects(false), []string{"write-fstab", "write-mdadm-conf", "write-crypttab", "reset-machine-id", "write-file"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := effects(true), []string{"write-file"}; !slices.Equal(got, want) {
		t.Errorf("an immutable OS: %q, want %q", got, want)
	}
}

// An update gives the new OS the newer Trident of this host, and has its extension merged at
// the first boot. Faults of the choice and of the datastore's path end the step.
func TestANewerTridentOfThisHostIsMergedInTheNewOS(t *testing.T) {
	t.Parallel()
	host, o, _ := outward(t, "etc")
	root := filepath.Join(host, newRoot)
	var enabled []string
	o.Touch = func(name string, change func() error) error {
		enabled = append(enabled, name)
		return change()
	}
	o.Tools = run.Func(func(context.Context, string, ...string) ([]byte, error) { return nil, nil })
	version, failure := "2.0.0", error(nil)
	o.LinkTrident = func(at string) (string, error) {
		if at != root {
			t.Errorf("the tree is %s", at)
		}
		return version, failure
	}
	var log strings.Builder
	op := operation.Rehearse("op", record.Record{Purpose: record.Updates}, func(_ slog.Level, text string) { log.WriteString(text) })
	c := parse(t, "os: {}\n")
	if err := o.setUpTrident(t.Context(), op, c, root); err != nil || !slices.Contains(enabled, "enable systemd-sysext.service") || !strings.Contains(log.String(), "trident 2.0.0, which is newer") {
		t.Errorf("%v, %q, and the log %q", err, enabled, log.String())
	}
	enabled, version = nil, ""
	if err := o.setUpTrident(t.Context(), op, c, root); err != nil || len(enabled) != 0 {
		t.Errorf("an older extension: %v, %q", err, enabled)
	}
	failure = errors.New("input/output error")
	if err := o.setUpTrident(t.Context(), op, c, root); !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	elsewhere := parse(t, "trident: {datastorePath: /srv/store.sqlite}\n")
	o.Touch = func(string, func() error) error { return hosttest.ErrFull }
	if err := o.setUpTrident(t.Context(), op, elsewhere, root); errkind.Variant(err) != errkind.NameCreateConfigurationFile {
		t.Errorf("%v", err)
	}
}
