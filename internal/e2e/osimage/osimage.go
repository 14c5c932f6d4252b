// Package osimage makes COSI images of Debian 13 with Trident installed, which boot by
// systemd-boot and a unified kernel image, or by GRUB, for the tests that install and update
// machines. It also makes images with each kind of fault.
//
// The tree of an image is the tree of package lab with the packages of package product
// installed. Images differ only in what a test asks for, so that a failure has no other cause.
package osimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// A Fault is what is wrong with an image.
type Fault string

// The faults that an image can be made with.
const (
	DoesNotBoot   Fault = "does-not-boot"  // the first process ends, so the kernel panics and restarts
	Unhealthy     Fault = "unhealthy"      // HealthUnit fails
	TridentBroken Fault = "trident-broken" // tridentd ends at once
)

// HealthUnit is a unit that is active in a good image. Marker is a file with the version of
// the image.
const (
	HealthUnit = "lab-healthy.service"
	Marker     = "/usr/share/lab/marker"
)

// A Maker makes images with the same packages. Several goroutines may use it.
type Maker struct {
	dir  string
	tree string // with the packages
	lab  lab.Tree

	mu   sync.Mutex
	made map[string]func() (Image, error) // by name
	n    int                              // of mutated ones
}

// An Image is a COSI file. It has an ESP, for /boot/efi, and a root.
type Image struct {
	Path     string
	SHA384   string // of its metadata
	RootUUID string // of the root file system
	UKI      string // name of the one file in EFI/Linux; "" with GRUB
}

// A Spec describes an image.
type Spec struct {
	Version string // of the image: IMAGE_VERSION, and part of its name and UUIDs
	Fault   Fault  // "" is a good one
	Grub    bool   // boots by GRUB, which is built on this machine, without shim
	// Signed is set for an image whose programs firmware with Secure Boot starts (lab.Options).
	Signed bool
	// BLS is set, with Grub, for an image in the layout of Fedora, made from Debian's packages:
	// /boot is a file system of its own with entries of the Boot Loader Specification, grubenv
	// has the kernel's arguments, and GRUB has its usual name in the vendor's folder of the ESP.
	BLS bool
	// Verity is set for an image whose /usr is a file system of its own with a hash tree. Its
	// initrd is dracut's, which opens /usr by systemd-veritysetup; corrupt data is a panic.
	Verity bool
	// VerityRoot is set for an image whose root has a hash tree, with Grub. Its initrd is
	// dracut's, and mounts the overlay on /etc; /var is in memory.
	VerityRoot bool
	// Mutate changes the tree of the root, last.
	Mutate func(tree string) error
}

// New returns a maker of images in the folder dir, which it makes. It installs the RPMs in one
// transaction and enables their units by presets. It needs root, and a few seconds once the
// lab has the tree.
func New(ctx context.Context, dir string, rpms ...string) (*Maker, error) {
	found, err := lab.TreeOf(ctx, lab.Installed())
	if err != nil {
		return nil, err
	}
	m := &Maker{dir: dir, tree: filepath.Join(dir, "tree"), lab: found, made: map[string]func() (Image, error){}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := m.install(ctx, rpms); err != nil {
		return nil, fmt.Errorf("install packages into the tree of images: %w", err)
	}
	return m, nil
}

func (m *Maker) install(ctx context.Context, rpms []string) error {
	if err := copyTree(ctx, m.lab.Dir, m.tree); err != nil {
		return err
	}
	const inside = "/tmp/rpms"
	if err := os.Mkdir(filepath.Join(m.tree, inside), 0o755); err != nil {
		return err
	}
	args := []string{"rpm", "--install"}
	for _, from := range rpms {
		name := filepath.Join(inside, filepath.Base(from))
		if err := run(ctx, "cp", from, filepath.Join(m.tree, name)); err != nil {
			return err
		}
		args = append(args, name)
	}
	if len(rpms) > 0 {
		said, err := inTree(ctx, m.tree, args...)
		if err == nil && strings.Contains(said, "scriptlet failed") {
			err = errors.New(said)
		}
		if err != nil {
			return err
		}
	}
	unit := filepath.Join(m.tree, "usr/lib/systemd/system", HealthUnit)
	text := "[Unit]\nDescription=What says that this image is good\n[Service]\nType=oneshot\nRemainAfterExit=yes\n" +
		"ExecStart=/usr/bin/test ! -e " + unhealthy + "\n[Install]\nWantedBy=multi-user.target\n"
	return errors.Join(
		os.RemoveAll(filepath.Join(m.tree, inside)),
		os.WriteFile(unit, []byte(text), 0o644),
		ignoring(inTree(ctx, m.tree, "systemctl", "enable", HealthUnit)),
		os.MkdirAll(filepath.Join(m.tree, "boot/efi"), 0o755),
		os.MkdirAll(filepath.Join(m.tree, "var/lib/trident"), 0o755),
	)
}

const unhealthy = "/usr/share/lab/unhealthy"

// makeLimit is how long one image may take on a busy machine.
const makeLimit = 10 * time.Minute

// Make returns the image of a version and fault, which it makes at the first call. It makes
// a mutated image at each call, with new UUIDs.
func (m *Maker) Make(ctx context.Context, s Spec) (Image, error) {
	name := "debian_" + s.Version
	if s.Grub {
		name += "_grub"
	}
	if s.Signed {
		name += "_signed"
	}
	if s.BLS {
		name += "_bls"
	}
	if s.Verity {
		name += "_verity"
	}
	if s.VerityRoot {
		name += "_verity-root"
	}
	if s.Fault != "" {
		name += "_" + string(s.Fault)
	}
	return m.maker(ctx, name, s)()
}

func (m *Maker) maker(ctx context.Context, name string, s Spec) func() (Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Mutate != nil {
		m.n++
		name = fmt.Sprintf("%s_mutated-%d", name, m.n)
	}
	made, ok := m.made[name]
	if !ok {
		made = sync.OnceValues(func() (Image, error) {
			// Other callers may wait for the image after the first caller has gone.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeLimit)
			defer cancel()
			img, err := m.make(ctx, name, s)
			if err != nil {
				return Image{}, fmt.Errorf("make image %s: %w", name, err)
			}
			return img, nil
		})
		m.made[name] = made
	}
	return made
}

func (m *Maker) make(ctx context.Context, name string, s Spec) (img Image, err error) {
	work, err := os.MkdirTemp(m.dir, name+"-")
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &build{dir: work, tree: filepath.Join(work, "tree"), version: s.Version, root: derive("root of " + name), bls: s.BLS, signed: s.Signed}
	if !s.Grub {
		b.uki = fmt.Sprintf("debian-%s.efi", s.Version)
	}
	if err := copyTree(ctx, m.tree, b.tree); err != nil {
		return Image{}, err
	}
	if err := b.dress(s); err != nil {
		return Image{}, err
	}
	initrd := m.lab.Initrd
	if s.Verity {
		if initrd, err = b.verifyUsr(ctx, derive("usr of "+name), derive("usr hashes of "+name)); err != nil {
			return Image{}, err
		}
	}
	if s.VerityRoot {
		b.verified = true
		if initrd, err = b.prepareRoot(ctx); err != nil {
			return Image{}, err
		}
	}
	if err := b.makeESP(ctx, initrd); err != nil {
		return Image{}, err
	}
	if err := b.makeRoot(ctx); err != nil {
		return Image{}, err
	}
	if b.verified {
		b.rootHash, err = hashTree(ctx, filepath.Join(b.dir, "root.img"), filepath.Join(b.dir, "root-verity.img"), derive("root hashes of "+name))
		if err != nil {
			return Image{}, err
		}
	}
	img = Image{Path: filepath.Join(m.dir, name+".cosi"), RootUUID: b.root.String(), UKI: b.uki}
	img.SHA384, err = b.write(ctx, img.Path)
	return img, err
}

// build is one image being made.
type build struct {
	dir, tree string
	version   string
	root      gpt.GUID // of the root file system
	uki       string   // "" with GRUB
	signed    bool     // for Secure Boot
	bls       bool     // with GRUB, as Fedora
	usr       usr
	verified  bool   // the root has a hash tree
	rootHash  string // of that tree
	kernel    string // release
	osRelease string
	packages  []image.Package
}

// derive returns a UUID (RFC 9562, version 8) that depends on its arguments only.
func derive(of string) gpt.GUID {
	sum := sha256.Sum256([]byte("trident osimage " + of))
	g := gpt.GUID(sum[:16])
	g[6], g[8] = g[6]&0x0f|0x80, g[8]&0x3f|0x80
	return g
}

func copyTree(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return run(ctx, "cp", "-a", "--reflink=auto", from, to)
}

// inTree runs a program of a tree in that tree: the root is a mount, which scriptlets of rpm
// need, and /proc is mounted.
func inTree(ctx context.Context, tree string, args ...string) (said string, err error) {
	const script = `mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@" 2>&1`
	return output(ctx, "sh", append([]string{"-c", script, tree}, args...)...)
}

func ignoring(_ string, err error) error { return err }

func run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

// output runs a program in a mount namespace of its own.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "MTOOLS_SKIP_CHECK=1")
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, stderr.String()+stdout.String())
	}
	return stdout.String(), nil
}
