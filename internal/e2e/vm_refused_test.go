//go:build vm

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/gpt"
	"github.com/trident-project/trident/proto/client"
)

// offered is the version of images that Trident refuses for another reason.
const offered = "2.3.0"

// probeOnly returns a tridentd that only answers a probe, so that the images stay small.
func probeOnly(version string) string {
	return "#!/bin/sh\necho '{\"version\":\"" + version + "\",\"ok\":true}'\n"
}

// candidate makes a small image with a change, and returns its path.
func (g *guest) candidate(name string, c product.Change) string {
	g.t.Helper()
	if c.Version == "" {
		c.Version = offered
	}
	if c.Daemon == "" {
		c.Daemon = filepath.Join(g.t.TempDir(), "tridentd")
		if err := os.WriteFile(c.Daemon, []byte(probeOnly(c.Version)), 0o755); err != nil {
			g.t.Fatal(err)
		}
	}
	c.Without = append(c.Without, "usr/bin/trident", "usr/lib/trident/trident-rescue")
	path, err := g.f.maker.Changed(g.t.Context(), "refused "+strings.ReplaceAll(name, "/", "-"), c)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { os.Remove(path) })
	return path
}

// damaged writes a changed copy of an image, and returns its path.
func damaged(t *testing.T, path string, change func(image []byte, parts []gpt.Partition) []byte) string {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "damaged.raw")
	if err := os.WriteFile(to, change(image, table.Partitions), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// Partitions of an image, in their order.
const (
	dataPart = iota
	treePart
	sigPart
)

// otherSignature changes the end of the PKCS#7, which is the signature proper.
func otherSignature(image []byte, parts []gpt.Partition) []byte {
	from := int(parts[sigPart].Offset())
	value := bytes.Index(image[from:], []byte(`"signature":"`)) + len(`"signature":"`)
	at := from + value + bytes.IndexByte(image[from+value:], '"') - 40
	if image[at] = image[at] ^ 1; image[at] < 'A' || image[at] > 'y' {
		image[at] = 'B'
	}
	return image
}

func flipIn(part int, at int64) func([]byte, []gpt.Partition) []byte {
	return func(image []byte, parts []gpt.Partition) []byte {
		image[parts[part].Offset()+at] ^= 1
		return image
	}
}

func release(lines ...string) func(string) string {
	return func(text string) string {
		return text + "\n" + strings.Join(lines, "\n") + "\n" // the last assignment counts
	}
}

func TestARefusedImageDoesNotChangeTheHost(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.mustUpgrade("trident_2.0.0_x86-64.raw")
	sound := g.candidate("sound", product.Change{})

	// Without its fault, Trident would accept each image.
	before := g.hostState(exceptNothing)
	if _, errs, code := g.offer("stage", sound); code != 0 {
		t.Fatalf("a sound image is not staged: %s", errs)
	}
	if _, errs, code := g.trident("self", "remove", offered); code != 0 {
		t.Fatal(errs)
	}
	if diff := differences(before, g.hostState(exceptNothing)); diff != "" {
		t.Errorf("staging and removing left something\n%s", diff)
	}

	for _, refusals := range [][]refusal{g.untrusted(), g.corrupt(sound), g.misfits(), g.forbidden(), g.tooOld(), g.cannotRun()} {
		for _, r := range refusals {
			g.checkRefused(r)
		}
	}
	g.checkVersion(good)
}

func (g *guest) untrusted() []refusal {
	return []refusal{
		{
			name: "unsigned", args: []string{g.candidate("unsigned", product.Change{Unsigned: true})},
			kind: errkind.Untrusted, code: 5, want: "verify: check signature of image: the image is not signed",
		},
		{
			name: "signed by another key", args: []string{g.candidate("stranger", product.Change{Stranger: true})},
			kind: errkind.Untrusted, code: 5, want: `verify: check signature of image: it is signed by a certificate that is not trusted (serial number 1, issuer "CN=A stranger")`, hint: "Use an image of a vendor that this host trusts: trident self status lists the certificates of /usr/lib/trident/trust.d and /etc/trident/trust.d.",
		},
	}
}

func (g *guest) corrupt(sound string) []refusal {
	t := g.t
	text := filepath.Join(t.TempDir(), "text.raw")
	if err := os.WriteFile(text, bytes.Repeat([]byte("This is no image.\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	sum, sectors := fmt.Sprintf("%x", sha256.Sum256(image)), len(image)/512
	large := filepath.Join(g.f.dir, "trident_2.1.0.raw")
	out := []refusal{
		{name: "byte flipped in the data", args: []string{damaged(t, large, flipIn(dataPart, 20<<20))}, want: "verify: verify image: data block 5120 does not match its hash"},
		{name: "byte flipped in the tree", args: []string{damaged(t, sound, flipIn(treePart, 4096+100))}, want: "verify: verify image: hash block 0 of level 0 does not match its hash"},
		{name: "byte flipped in the GPT", args: []string{damaged(t, sound, func(image []byte, _ []gpt.Partition) []byte {
			image[1024+56] ^= 1 // in the name of the first partition
			return image
		})}, want: "verify: read image: the partition entries do not match their checksum"},
		{name: "truncated", args: []string{damaged(t, sound, func(image []byte, _ []gpt.Partition) []byte {
			return image[:len(image)/2]
		})}, want: fmt.Sprintf("verify: read image: truncated: the partition table is for %d sectors, there are %d", sectors, sectors/2)},
		{name: "no image", args: []string{text}, want: "verify: read image: it is a text file, not an extension image",
			hint: "An extension image is made of a folder: trident sysext build, or systemd-repart."},
		{name: "SHA-256", args: []string{sound, "--sha256", strings.Repeat("0", 64)}, want: "fetch: fetch the upload: SHA-256 is " + sum + ", not " + strings.Repeat("0", 64)},
	}
	for i := range out {
		out[i].kind, out[i].code = errkind.Corrupt, 5
	}
	return append(out, refusal{
		name: "byte flipped in the signature", args: []string{damaged(t, sound, otherSignature)}, kind: errkind.Untrusted, code: 5,
		want: `verify: check signature of image: it is not a signature of this root hash by "CN=Trident development": crypto/rsa: verification error`,
	})
}

func (g *guest) misfits() []refusal {
	out := []refusal{
		{name: "architecture", args: []string{g.candidate("architecture", product.Change{
			Arch: ddi.ARM64, Release: release("ARCHITECTURE=arm64"),
		})}, want: `verify: extension trident is for the architecture "arm64", this host is "x86-64"`},
		{name: "architecture of the release", args: []string{g.candidate("release", product.Change{
			Release: release("ARCHITECTURE=arm64"),
		})}, want: `verify: extension trident is for the architecture "arm64", this host is "x86-64"`},
		{name: "architecture of the partitions", args: []string{g.candidate("partitions", product.Change{Arch: ddi.ARM64})}, want: `verify: the partitions of the image are for the architecture "arm64", but the architecture of this host is "x86-64"`},
		{name: "system", args: []string{g.candidate("system", product.Change{Release: release("ID=otheros", "VERSION_ID=1")})}, want: `verify: extension trident is for the system "otheros", this host is "debian"`},
		{name: "release of the system", args: []string{g.candidate("version", product.Change{Release: release("ID=debian", "VERSION_ID=99")})}, want: `verify: extension trident is for VERSION_ID "99" of debian, this host has "13"`},
		{name: "SYSEXT_ID", args: []string{g.candidate("id", product.Change{Release: release("SYSEXT_ID=other")})}, want: `verify: check image: it is not an image of trident: its SYSEXT_ID is "other"`},
	}
	for i := range out {
		out[i].kind, out[i].code = errkind.Incompatible, 5
	}
	return out
}

func (g *guest) forbidden() (out []refusal) {
	for path, named := range map[string]string{ // a folder is named for all that is in it
		"usr/bin/sudo": "usr/bin/sudo", "usr/lib/trident/base.json": "usr/lib/trident/base.json", "opt/x": "opt",
		"usr/lib/verity.d/x.crt": "usr/lib/verity.d", "usr/lib/trident/trust.d/x.crt": "usr/lib/trident/trust.d",
	} {
		out = append(out, refusal{
			name: path, args: []string{g.candidate(path, product.Change{Files: map[string]string{path: "x"}})}, kind: errkind.Forbidden, code: 5,
			want: fmt.Sprintf("verify: check image: check content of image: %q is not among the paths that this image may have", named), hint: "an image of trident may carry trident's own files only",
		})
	}
	return out
}

func (g *guest) tooOld() []refusal {
	return []refusal{
		{name: "older than the base", args: []string{g.candidate("0.9.0", product.Change{Version: "0.9.0"}), "--allow-downgrade"},
			kind: errkind.TooOld, code: 5, want: "verify: trident 0.9.0 is not newer than the base, 1.0.0, and a base retires an extension that is not newer"},
		{name: "the base's version", args: []string{g.candidate("1.0.0", product.Change{Version: base}), "--allow-downgrade"},
			kind: errkind.TooOld, code: 5, want: "verify: trident 1.0.0 is not newer than the base, 1.0.0, and a base retires an extension that is not newer"},
		{name: "older than what runs", args: []string{g.candidate("1.5.0", product.Change{Version: "1.5.0"})},
			kind: errkind.TooOld, code: 5, want: "verify: trident 1.5.0 is older than the running version, 2.0.0", hint: "allow it with --allow-downgrade"},
		{name: "what runs", args: []string{"--on-host", "/share/trident_2.0.0_x86-64.raw"},
			kind: errkind.Exists, code: 2, want: "verify: trident 2.0.0 is active already"},
		{name: "no version", args: []string{g.candidate("no version", product.Change{Version: "latest"})},
			kind: errkind.Invalid, code: 2, want: `verify: check image: the image's SYSEXT_VERSION_ID: "latest" is not a version like 1.2.3 or 1.2.3-rc.1 (semver.org, at most 64 characters)`},
	}
}

func (g *guest) cannotRun() []refusal {
	daemon := func(name, content string) string {
		path := filepath.Join(g.t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			g.t.Fatal(err)
		}
		return g.candidate(name, product.Change{Daemon: path})
	}
	out := []refusal{
		{name: "fails", args: []string{daemon("fails", "#!/bin/sh\necho 'no such luck' >&2\nexit 3\n")}, want: "probe: the candidate cannot start on this host: /var/lib/trident/self/probe/tridentd: exit status 3: no such luck"},
		{name: "no program", args: []string{daemon("no program", "\x7fELF?")}, want: "probe: the candidate cannot start on this host: run /var/lib/trident/self/probe/tridentd: fork/exec /var/lib/trident/self/probe/tridentd: exec format error"},
		{name: "says another version", args: []string{daemon("another", probeOnly("7.0.0"))}, want: "probe: the candidate's image is of version 2.3.0, but its tridentd reports version 7.0.0"},
		{name: "no answer", args: []string{daemon("no answer", "#!/bin/sh\necho hello\n")}, want: `probe: the answer of the candidate's tridentd --probe is not a JSON object with ok and version: "hello\n"`},
	}
	for i := range out {
		out[i].kind, out[i].code = errkind.Unhealthy, 7
	}
	return append(out, refusal{
		name: "no tridentd", args: []string{g.candidate("no tridentd", product.Change{Without: []string{"usr/bin/tridentd"}})},
		kind: errkind.Invalid, code: 2, want: "verify: check image: the image has no usr/bin/tridentd",
	})
}

func TestABrokenExtensionOfAnotherVendorIsNamedAndNothingChanges(t *testing.T) {
	t.Parallel()
	g := start(t)
	const folder = "usr/lib/extension-release.d/extension-release."
	for name, c := range map[string]product.Change{
		"misnamed":  {Unsigned: true},
		"untrusted": {Stranger: true, Without: []string{folder + "trident"}, Files: map[string]string{folder + "vendor-untrusted": "ID=_any\n"}},
	} {
		data, err := os.ReadFile(g.candidate(name, c))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Put(t.Context(), "/root/"+name+".raw", bytes.NewReader(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{base, good} {
		if state == good {
			g.mustUpgrade("trident_2.0.0_x86-64.raw")
		}
		g.refusesBesideBroken()
	}
	g.checkVersion(good)
}

func (g *guest) refusesBesideBroken() {
	g.t.Helper()
	for _, broken := range []struct{ name, make, fault string }{
		{"empty", ": >", "is empty"},
		{"misnamed", "cp /root/misnamed.raw", `has no extension-release.vendor-misnamed, but one for "trident": give the image that name`},
		{"untrusted", "cp /root/untrusted.raw", "is not signed by a certificate in verity.d"},
	} {
		path := "/var/lib/extensions/vendor-" + broken.name + ".raw"
		g.sh(broken.make + " " + path)
		g.checkRefused(refusal{
			name: "beside " + broken.name, args: []string{"--on-host", "/share/trident_2.1.0.raw", "--allow-read-only-usr"},
			kind: errkind.Precondition, code: 2,
			want: fmt.Sprintf("fetch: extension vendor-%s (%s) keeps systemd-sysext from merging any: it %s", broken.name, path, broken.fault),
			hint: "repair or remove " + path + "; nothing was changed",
		})
		// Without the refusal, systemd would not merge any extension.
		merged := g.sh("cat /usr/.systemd-sysext/extensions 2>/dev/null || true")
		if out, err := g.Run(g.t.Context(), "systemctl reload-or-restart systemd-sysext.service", nil); err == nil {
			g.t.Errorf("systemd merges beside the %s extension: %s", broken.name, out)
		}
		g.sh("rm " + path + "; systemctl reset-failed systemd-sysext.service; systemctl reload-or-restart systemd-sysext.service")
		if now := g.sh("cat /usr/.systemd-sysext/extensions 2>/dev/null || true"); now != merged {
			g.t.Errorf("merged %q, was %q", now, merged)
		}
	}
}

func TestUsrBecomesReadOnlyOnlyWithConsent(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.sh("touch /usr/writable && rm /usr/writable")
	g.checkRefused(refusal{
		name: "writable /usr", args: []string{g.candidate("usr", product.Change{})}, kind: errkind.Precondition, code: 2,
		want: "fetch: /usr is writable and would be read-only while an extension is merged: the package manager could not write to /usr",
		hint: `allow a read-only /usr with --allow-read-only-usr, for automatic upgrades with "trident self policy set --allow-read-only-usr", or upgrade the package of trident instead`,
	})
	g.checkVersion(base)
}

func TestStagingOnAFullDiskLeavesNoFiles(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.sh("tune2fs -r 0 $(findmnt -n -o SOURCE /)") // else root has more than others
	image := "trident_2.0.0_x86-64.raw"
	info, err := os.Stat(filepath.Join(g.f.dir, image))
	if err != nil {
		t.Fatal(err)
	}
	fetched := int(info.Size()>>10) + 2<<10 // room for the image, and for no daemon beside it
	const room = "Make room on the disk, and begin again."
	for _, full := range []struct {
		name string
		free int // in KiB
		args []string
		want string
		hint string
	}{
		{"a file", 20 << 10, []string{"--on-host", "/share/" + image}, "fetch: fetch /share/" + image + ": N more bytes are needed in /var/lib/trident/self, N are free", room},
		{"an upload", 20 << 10, []string{filepath.Join(g.f.dir, image)}, "fetch: fetch the upload: N more bytes are needed in /var/lib/trident/self, N are free", room},
		{"no room for the candidate", fetched, []string{"--on-host", "/share/" + image}, "probe: extract the candidate: write /var/lib/trident/self/probe/tridentd: no space left on device", ""},
		{"next to nothing", 64, []string{"--on-host", "/share/" + image}, "fetch: fetch /share/" + image + ": N more bytes are needed in /var/lib/trident/self, N are free", room},
	} {
		g.fill(full.free)
		g.checkRefused(refusal{
			name: full.name, args: append(full.args, "--allow-read-only-usr"), kind: errkind.NoSpace, code: 2, want: full.want, hint: full.hint,
		})
		g.sh("rm /var/filler")
	}
	g.fill(0)
	before := g.hostState(exceptNothing)
	_, errs, code := g.trident("self", "upgrade", "--on-host", "/share/"+image)
	if code != 2 || !strings.HasPrefix(errs, "trident: upgrade Trident: begin operation: ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("with no byte free: %d, %s", code, errs)
	}
	_, err = g.upgrade(image, 0, nil)
	if client.Kind(err) != client.KindNoSpace || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("with no byte free: %s, %s", client.Kind(err), status.Code(err))
	}
	if diff := differences(before, g.hostState(exceptNothing)); diff != "" {
		t.Errorf("with no byte free: the host has changed\n%s", diff)
	}
	g.sh("rm /var/filler")
	g.checkVersion(base)
	g.mustUpgrade(image) // now that there is room
	g.checkVersion(good)
}

// fill fills /var until free KiB are left.
func (g *guest) fill(free int) {
	g.t.Helper()
	g.sh(fmt.Sprintf("fallocate -l $(($(df --output=avail -k /var | tail -1) - %d))K /var/filler; sync", free))
}
