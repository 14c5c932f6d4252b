package servicing

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/slot"
)

// Whatever of a verified image does not fit is found by a plan, and before a disk changes.
func TestAVerifiedImageThatDoesNotFitIsFoundBefore(t *testing.T) {
	t.Parallel()
	albums := map[string]*album{"root": verifiedAlbum(t, "root"), "usr": verifiedAlbum(t, "usr")}
	installed := map[string]*osWorld{}
	for name, a := range albums {
		live := tempDir(t)
		synctest.Test(t, func(t *testing.T) {
			w := newOSWorld(t, a)
			w.powerOn()
			w.must(installing(func(a *album) string { return verifiedHost(name, a.v1, "") }, true, true))
			w.rest()
			installed[name] = w.copied(t, live)
		})
	}
	// in changes one argument of the sealed command line.
	in := func(old, new string) func(string) string {
		return func(line string) string {
			var out []string
			for word := range strings.FieldsSeq(line) {
				switch {
				case !strings.HasPrefix(word, old):
					out = append(out, word)
				case new != "":
					out = append(out, new)
				}
			}
			return strings.Join(out, " ")
		}
	}
	also := func(word string) func(string) string { return func(line string) string { return line + " " + word } }
	same := func(text string) string { return text }
	tree := func(at int, b byte) func([]byte) []byte {
		return func(data []byte) []byte { data[at] = b; return data }
	}
	param := func(value string) func(string) string {
		return func(text string) string { return text + "internalParams: {veritySignaturePaths: " + value + "}\n" }
	}
	// With a script that runs in the new system, a file may be missing until then.
	silent := func(change func(string) string) func(string) string {
		return func(text string) string { return change(text[:strings.Index(text, "scripts:\n")]) }
	}
	unverified := func(text string) string {
		text = strings.Replace(text, "  verity: [{id: verified, name: usr, dataDeviceId: data, hashDeviceId: hash}]\n", "", 1)
		return strings.Replace(text, "deviceId: verified", "deviceId: data", 1)
	}
	for title, c := range map[string]struct {
		name   string // of the verity device
		update bool
		image  func(*verifiedSpec)
		config func(string) string
		says   string
	}{
		"no root hash":      {"root", false, func(s *verifiedSpec) { s.cmdline = in("roothash=", "") }, same, "has no roothash= for /"},
		"another root hash": {"usr", false, func(s *verifiedSpec) { s.cmdline = in("usrhash=", "usrhash=abcd") }, same, "has usrhash=abcd for /usr, and the image's metadata has"},
		"another hash device": {"root", true, func(s *verifiedSpec) {
			s.cmdline = in("systemd.verity_root_hash=", "systemd.verity_root_hash=UUID=abcd")
		}, same, `look for systemd.verity_root_hash=UUID=abcd, and device "hash-b" for / will have ababab`},
		"another partition": {"root", false, func(s *verifiedSpec) {
			s.cmdline = in("systemd.verity_root_data=", "systemd.verity_root_data=PARTUUID=abcd")
		}, same, `look for systemd.verity_root_data=PARTUUID=abcd, and device "root-a"`},
		"a device that may move": {"usr", false, func(s *verifiedSpec) { s.cmdline = in("systemd.verity_usr_data=", "systemd.verity_usr_data=/dev/sda3") }, same, "/dev/sda3, which may be another device at the next boot"},
		"no data device":         {"root", false, func(s *verifiedSpec) { s.cmdline = in("systemd.verity_root_data=", "") }, same, "look for systemd.verity_root_data=PARTUUID="},
		"the root not verified":  {"root", false, func(s *verifiedSpec) { s.cmdline = also("root=/dev/vdb2") }, same, "has root=/dev/vdb2, so the kernel would mount / without verifying it"},
		"/usr not verified":      {"usr", false, func(s *verifiedSpec) { s.cmdline = also("mount.usr=LABEL=usr") }, same, "would mount /usr without verifying it"},
		"verity switched off":    {"usr", false, func(s *verifiedSpec) { s.cmdline = also("rd.systemd.verity=0") }, same, "has rd.systemd.verity=0"},
		"another overlay": {"root", false, func(s *verifiedSpec) {
			s.cmdline = in("rd.overlayfs=", "rd.overlayfs=/etc,/etc/upper,/etc/work,UUID=abcd")
		}, same, `look for rd.overlayfs=UUID=abcd, and device "overlay-a"`},
		"a corruption option":       {"root", false, nil, replaced("hashDeviceId: hash}", "hashDeviceId: hash, corruptionOption: panic}"), "storage.verity[0].corruptionOption: the command line sealed in the image's UKI does not have systemd.verity_root_options=panic-on-corruption"},
		"no tree":                   {"usr", false, func(s *verifiedSpec) { s.tree = tree(0, 'x') }, same, "the image's hash tree of /usr: the partition does not begin with a verity superblock"},
		"a tree of more data":       {"root", true, func(s *verifiedSpec) { s.tree = tree(72+1, 1) }, same, "the image's hash tree of /: the verity superblock is for"},
		"another algorithm":         {"root", false, func(s *verifiedSpec) { s.tree = func(b []byte) []byte { copy(b[32:], "sha512"); return b } }, same, `the verity tree uses "sha512", not sha256`},
		"no device for the tree":    {"usr", false, nil, unverified, "the image has a verity hash tree for /usr, and the configuration mounts no verity device there"},
		"immutable, with a module":  {"root", false, func(s *verifiedSpec) { s.overlay = false }, same, "os.modules: the image takes no settings"},
		"immutable, with a file":    {"root", true, func(s *verifiedSpec) { s.overlay = false }, same, "os.additionalFiles[0].destination: /etc/of.conf is in /etc, and the command line"},
		"a file in a verified /usr": {"usr", false, nil, replaced("destination: /etc/of.conf", "destination: /usr/of.conf"), "os.additionalFiles[0].destination: /usr/of.conf is on the file system at /usr, which is verified"},
		"a home on a verified root": {"root", false, nil, added("os", "  users: [{name: a}]\n"), "os.users[0]: /home/a is on the file system at /"},
		"the UUID of what runs":     {"root", true, func(s *verifiedSpec) { s.id = "11" }, same, "has the UUID 11111111-0000-4000-8000-000000aaaa11, as has"},
		"the UUID of its tree":      {"usr", true, func(s *verifiedSpec) { s.treeID = "11" }, same, "the image's hash tree of /usr has the UUID 11111111-0000-4000-8000-000000bbbb11, as has"},
		"paths of signatures":       {"usr", false, nil, param("[a]"), "veritySignaturePaths: is not a mapping"},
		"a signature of no device":  {"usr", false, nil, param("{usr: /usr.sig}"), `veritySignaturePaths: storage.verity has no device "usr"`},
		"a signature on the ESP":    {"usr", false, nil, param("{verified: /boot/efi/usr.sig}"), "is on the EFI system partition"},
		"no signature":              {"usr", false, nil, silent(param("{verified: /usr.sig}")), `read the signature /usr.sig of the root hash of verity device "verified"`},
		"a signature of nothing": {"root", false, func(s *verifiedSpec) { s.more = fstest.MapFS{"root.sig": {Data: []byte("sig"), Mode: 0o644}} },
			silent(param("{verified: /root.sig}")), "it is not a PKCS #7 signature in DER form"},
		"no folder to mount on": {"root", false, nil, silent(replaced("mountPoint: /var/tmp}", "mountPoint: /var/tmp/more}")), "has no folder /var/tmp/more to mount on"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := verifiedSpec{version: "x", id: "ab", name: c.name, overlay: c.name == "root"}
			if c.image != nil {
				c.image(&s)
			}
			i := verified(t, s)
			f := knownFault{update: c.update, image: func() osImage { return i }, says: c.says,
				config: func(string) string { return c.config(verifiedHost(c.name, i, "")) }}
			synctest.Test(t, func(t *testing.T) { f.play(t, albums[c.name], installed[c.name]) })
		})
	}
}

// An immutable image that asks for nothing in /etc is installed and updated; Trident writes no
// file into its root.
func TestASealedImageIsInstalledAsItIs(t *testing.T) {
	t.Parallel()
	immutable := func(version, id string) osImage {
		return verified(t, verifiedSpec{version: version, id: id, name: "root", more: fstest.MapFS{"etc/of.conf": {Data: []byte("of " + version), Mode: 0o644}}})
	}
	a := &album{v1: immutable("v1", "11"), v2: immutable("v2", "22")}
	text := func(i func(*album) osImage) func(*album) string {
		return func(a *album) string {
			text := verifiedHost("root", i(a), "")
			from, to := strings.Index(text, "os:\n"), strings.Index(text, "scripts:\n")
			return text[:from] + text[to:]
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newOSWorld(t, a)
		w.powerOn()
		w.must(installing(text(func(a *album) osImage { return a.v1 }), true, true))
		w.must(updating(text(func(a *album) osImage { return a.v2 }), true, true))
		if got := w.text("etc/fstab"); w.slot != slot.B || got != "# the image's own\n" {
			t.Errorf("%v runs, its fstab is %q", w.slot, got)
		}
		w.must(rollingBack)
		w.rest()
	})
}

// A byte that changes in the idle slot after it was written is found before the slot boots:
// when the update is finalized later, and when the power fails before the boot files. A byte
// that changes after that makes the trial fall back.
func TestAByteThatChangesInTheIdleSlotIsFound(t *testing.T) {
	t.Parallel()
	a := verifiedAlbum(t, "root")
	host := func(i func(*album) osImage) func(*album) string {
		return func(a *album) string { return verifiedHost("root", i(a), "") }
	}
	v1, v2 := host(func(a *album) osImage { return a.v1 }), host(func(a *album) osImage { return a.v2 })
	const data, hash = 73 << 10, 4096 + 40 // in the archive of files, and among the digests
	for name, c := range map[string]struct {
		label   string
		at      int64
		staged  bool   // the update is finalized by an operation of its own
		before  string // the change of the host before which the power fails; "": none
		reached string
		named   string
		says    string
	}{
		"data, finalized later":   {"root-b", data, true, "", "try", "CreateVerity", "compare / with the hash tree of image file:///srv/v2.cosi: data block"},
		"tree, finalized later":   {"hash-b", hash, true, "", "try", "CreateVerity", "hash block 0 of level 0 does not match its hash"},
		"superblock, and later":   {"hash-b", 0, true, "", "try", "CreateVerity", "does not begin with a verity superblock"},
		"data, after a cut":       {"root-b", data, false, "write fstab", "configure", "CreateVerity", "data block"},
		"data, before boot files": {"root-b", data, false, "make EFI/AZLB", "boot files", "CreateVerity", "data block"},
		"data, after boot files":  {"root-b", data, false, "reboot", "booted", "AbUpdateRebootCheck", "did not boot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trace []string
			play := func(t *testing.T, cut int, check func(w *osWorld, op *operation.Operation)) {
				synctest.Test(t, func(t *testing.T) {
					w := newOSWorld(t, a)
					w.powerOn()
					w.must(installing(v1, true, true))
					w.Trace = nil
					if c.staged && cut == 0 {
						w.must(updating(v2, true, false))
						w.flip(c.label, c.at)
						kind, start := updating(v2, false, true)(w)
						check(w, w.run(kind, start, ""))
						w.rest()
						return
					}
					if cut > 0 {
						w.Prepare(cut, false)
						w.atBoot = func() {
							w.flip(c.label, c.at)
							w.atBoot = nil
						}
					}
					kind, start := updating(v2, true, true)(w)
					check(w, w.run(kind, start, ""))
					w.rest()
				})
			}
			cut := 0
			if !c.staged {
				play(t, 0, func(w *osWorld, _ *operation.Operation) { trace = slices.Clone(w.Trace) })
				cut = 1 + slices.Index(trace, c.before)
			}
			play(t, cut, func(w *osWorld, op *operation.Operation) {
				if op.Phase != operation.Undone || op.Reached != c.reached || op.Failure.Name != c.named || !strings.Contains(op.Failure.Message, c.says) {
					t.Errorf("%s at %s: %+v\ntouches: %v", op.Phase, op.Reached, op.Failure, w.Trace)
				}
				if w.slot != slot.A || c.named == "CreateVerity" && op.Failure.Kind != errkind.Corrupt {
					t.Errorf("%v runs, %s", w.slot, op.Failure.Kind)
				}
				if _, err := w.daemon.service.Status(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
