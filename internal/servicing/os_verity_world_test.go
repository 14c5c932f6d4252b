package servicing

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/boot"
	"github.com/trident-project/trident/internal/hosttest"
	"github.com/trident-project/trident/internal/linux/blockdev"
	"github.com/trident-project/trident/internal/linux/verity"
)

// cmdlineOf returns the command line of the UKI on an ESP whose kernel has the release uname;
// "" on an ESP without one, which GRUB boots.
func (w *osWorld) cmdlineOf(esp, uname string) string {
	found, err := filepath.Glob(filepath.Join(esp, "EFI/Linux/*.efi"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range found {
		f, err := os.Open(name)
		if err != nil {
			w.t.Fatal(err)
		}
		info, err := f.Stat()
		if err == nil {
			var u boot.UKI
			if u, err = boot.ReadUKI(f, info.Size()); err == nil && u.Uname == uname {
				_ = f.Close()
				return u.Cmdline
			}
		}
		_ = f.Close()
	}
	return ""
}

// mountSystem mounts the root file system, and what the initrd opens and mounts by the command
// line of the kernel. If data does not match its hash, w.corrupt says so.
func (w *osWorld) mountSystem(root, cmdline string) {
	args := map[string]string{}
	for word := range strings.FieldsSeq(cmdline) {
		if name, value, ok := strings.Cut(word, "="); ok {
			args[name] = value
		}
	}
	if args["roothash"] == "" && args["usrhash"] == "" {
		w.mount(root, w.root)
		return
	}
	name := "root"
	if args["usrhash"] != "" {
		name = "usr"
	}
	data := w.openVerity(args[name+"hash"], args["systemd.verity_"+name+"_data"], args["systemd.verity_"+name+"_hash"])
	switch {
	case w.corrupt != nil:
		return
	case name == "usr":
		w.mount(root, w.root)
		w.mount(data, filepath.Join(w.root, "usr"))
		w.seal()
		return
	case data != root:
		w.t.Fatalf("%s is the root file system, and the slot is on %s\ntouches: %v", data, root, w.Trace)
	}
	w.mount(data, w.root)
	w.seal()
	if overlay := args["rd.overlayfs"]; overlay != "" {
		f := strings.Split(overlay, ",")
		volume, at := filepath.Join(w.root, "var/lib/trident-overlay"), filepath.Join(w.root, f[0])
		w.mount(w.byUUID(f[3]).Path, volume)
		if err := w.mountOverlay(fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at, filepath.Join(volume, f[1]), filepath.Join(volume, f[2])), at); err != nil {
			w.t.Fatal(err)
		}
	}
}

// byUUID returns the partition that an argument of the kernel names.
func (w *osWorld) byUUID(arg string) blockdev.Node {
	w.t.Helper()
	want := strings.TrimPrefix(arg, "UUID=")
	var found []blockdev.Node
	inv := w.inventory()
	for _, p := range inv.Nodes() {
		id := p.Content.UUID
		if p.Content.Type == "DM_verity_hash" {
			if sb, err := verity.ReadSuperblock(io.NewSectionReader(w.deviceIn(inv, p.Path), 0, p.Size)); err == nil {
				id = uuidOf(sb.UUID)
			}
		}
		if strings.EqualFold(id, want) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		w.t.Fatalf("%d partitions are %s\ntouches: %v", len(found), arg, w.Trace)
	}
	return found[0]
}

func uuidOf(b [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// openVerity has the kernel open a verity device, of which it reads everything.
func (w *osWorld) openVerity(hash, dataArg, hashArg string) (device string) {
	data, tree := w.byUUID(dataArg), w.byUUID(hashArg)
	var root [32]byte
	if _, err := hex.Decode(root[:], []byte(hash)); err != nil {
		w.t.Fatal(err)
	}
	inv := w.inventory()
	in := func(p blockdev.Node) *io.SectionReader {
		return io.NewSectionReader(w.deviceIn(inv, p.Path), 0, p.Size)
	}
	sb, err := verity.ReadSuperblock(in(tree))
	if err == nil {
		err = verity.Verify(w.t.Context(), in(data), sb.DataSize(), in(tree), sb.HashSize(), root, nil)
	}
	w.corrupt, w.opened = err, append(w.opened, tree.Path)
	return data.Path
}

// seal makes what was mounted last read-only.
func (w *osWorld) seal() {
	m := &w.mounts[len(w.mounts)-1]
	m.readOnly, m.sum = true, treeSum(w.t, m.at)
}

// treeSum lists the files of a tree.
func treeSum(t testing.TB, dir string) string {
	var out strings.Builder
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, file)
		fmt.Fprintf(&out, "%s %s", d.Type(), rel)
		if d.Type().IsRegular() {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %x", sha256.Sum256(data))
		}
		out.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return out.String()
}

// whiteout is the beginning of the name of a file that says that another one is deleted.
const whiteout = ".wh."

// mountOverlay shows the files of the folder of changes in the folder at, over those there.
func (w *osWorld) mountOverlay(options, at string) error {
	dirs := map[string]string{}
	for option := range strings.SplitSeq(options, ",") {
		name, dir, _ := strings.Cut(option, "=")
		if target, err := os.Readlink(dir); err == nil { // an open folder
			dir = target
		}
		dirs[name] = dir
	}
	if dirs["lowerdir"] != at || filepath.Dir(dirs["upperdir"]) != filepath.Dir(dirs["workdir"]) {
		return fmt.Errorf("mount an overlay of %s on %s", options, at)
	}
	m := mounted{device: "overlay on " + at, at: at, upper: dirs["upperdir"], lower: tempDir(w.t)}
	copyDisk(w.t, at, m.lower, nil)
	if err := errors.Join(hosttest.MkdirAll(m.upper), eachFile(m.upper, func(rel string, data []byte, link string) error {
		dir, base := filepath.Split(filepath.Join(at, rel))
		if gone, is := strings.CutPrefix(base, whiteout); is {
			return os.Remove(filepath.Join(dir, gone))
		}
		return putFile(filepath.Join(dir, base), data, link)
	})); err != nil {
		return err
	}
	w.mounts = append(w.mounts, m)
	return nil
}

// packOverlay writes what was changed through an overlay to its folder of changes, and shows
// the files below it again.
func (w *osWorld) packOverlay(m mounted) {
	below, above := map[string]string{}, map[string]string{}
	gather := func(into map[string]string) func(string, []byte, string) error {
		return func(rel string, data []byte, link string) error {
			into[rel] = link + "\x00" + string(data)
			return nil
		}
	}
	err := errors.Join(eachFile(m.lower, gather(below)), eachFile(m.at, gather(above)), os.RemoveAll(m.upper), hosttest.MkdirAll(m.upper))
	for rel, content := range above {
		if below[rel] != content {
			link, data, _ := strings.Cut(content, "\x00")
			err = errors.Join(err, putFile(filepath.Join(m.upper, rel), []byte(data), link))
		}
	}
	for rel := range below {
		if _, is := above[rel]; !is {
			dir, base := filepath.Split(filepath.Join(m.upper, rel))
			err = errors.Join(err, putFile(filepath.Join(dir, whiteout+base), nil, ""))
		}
	}
	names, rerr := os.ReadDir(m.at)
	for _, n := range names {
		rerr = errors.Join(rerr, os.RemoveAll(filepath.Join(m.at, n.Name())))
	}
	if err := errors.Join(err, rerr); err != nil {
		w.t.Error(err)
	}
	copyDisk(w.t, m.lower, m.at, nil)
}

func eachFile(dir string, use func(rel string, data []byte, link string) error) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, file)
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(file)
			return errors.Join(err, use(rel, nil, target))
		}
		data, err := os.ReadFile(file)
		return errors.Join(err, use(rel, data, ""))
	})
}

// putFile writes a file, or a link.
func putFile(name string, data []byte, link string) error {
	if err := errors.Join(hosttest.MkdirAll(filepath.Dir(name)), os.RemoveAll(name)); err != nil {
		return err
	}
	if link != "" {
		return os.Symlink(link, name)
	}
	return errors.Join(os.WriteFile(name, data, 0o644), os.Chmod(name, 0o644))
}

// flip changes a byte of the partition with a label, on the medium.
func (w *osWorld) flip(label string, at int64) {
	w.t.Helper()
	p, ok := findLabel(w.inventory(), label)
	if !ok {
		w.t.Fatalf("no partition %s", label)
	}
	dev := w.disk.Part(p.Offset, p.Size)
	b := make([]byte, 1)
	_, err := dev.ReadAt(b, at)
	b[0] ^= 0x40
	_, werr := dev.WriteAt(b, at)
	if err := errors.Join(err, werr, dev.Sync()); err != nil {
		w.t.Fatal(err)
	}
	if slices.ContainsFunc(w.mounts, func(m mounted) bool { return m.device == p.Path }) {
		w.t.Fatalf("%s is mounted", label)
	}
}
