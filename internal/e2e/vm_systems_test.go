//go:build vm

package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/osimage"
	"github.com/trident-project/trident/internal/e2e/product"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/gpt"
)

// installs makes once what the tests of installed systems share: the package of version
// 1.0.0 in share, and a maker of images with that package.
var installs = sync.OnceValues(func() (*installFixture, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	work, err := workFolder()
	if err != nil {
		return nil, err
	}
	f := &installFixture{fixture: fixture{dir: filepath.Join(work, "install-share"), work: work}}
	if f.maker, err = product.New(ctx, f.dir); err != nil {
		return nil, err
	}
	stub, err := f.maker.Stub()
	rpm, err2 := f.maker.RPM(ctx, base)
	service, err3 := f.maker.Service(ctx, base)
	if err := errors.Join(err, err2, err3); err != nil {
		return nil, err
	}
	if f.trident, err = f.maker.Daemon(ctx, "./cmd/trident", "9.0.0-test"); err != nil {
		return nil, err
	}
	f.systems, err = osimage.New(ctx, filepath.Join(work, "systems"), stub, rpm, service)
	return f, err
})

type installFixture struct {
	fixture
	systems *osimage.Maker
}

// liveSystem is a saved guest with firmware, the installed package, and an empty disk of
// 5 GiB, /dev/disk/by-id/virtio-disk0. Its /share is a copy of the folder of the fixture.
var liveSystem = sync.OnceValues(func() (*lab.Snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	f, err := installs()
	if err != nil {
		return nil, err
	}
	b, err := lab.Image(ctx, lab.Trixie())
	if err != nil {
		return nil, err
	}
	vm, err := lab.Boot(ctx, b, lab.Options{UEFI: true, Share: f.dir, Disks: []int64{5 << 10}})
	if err != nil {
		return nil, err
	}
	defer vm.Close()
	if err := vm.WaitBoot(ctx); err != nil {
		return nil, err
	}
	if out, err := vm.Run(ctx, installScript, nil); err != nil {
		return nil, errors.Join(err, errors.New(out), errors.New(vm.Evidence(ctx)))
	}
	return vm.Save(ctx, filepath.Join(f.work, "live"))
})

// liveGuest loads liveSystem.
func liveGuest(t *testing.T) *guest {
	t.Helper()
	s, err := liveSystem()
	if err != nil {
		t.Fatal(err)
	}
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := lab.Load(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, &f.fixture, vm)
}

// stopwatch returns a function that logs how long a stage of the test took.
func stopwatch(t *testing.T) func(stage string) {
	last := time.Now()
	return func(stage string) {
		t.Helper()
		t.Logf("%-40s %6.1f s", stage, time.Since(last).Seconds())
		last = time.Now()
	}
}

func buildSystem(t *testing.T, s osimage.Spec) osimage.Image {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	img, err := f.systems.Make(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// A hole is a partition on a disk that a test writes, and what goes into it.
type hole struct {
	kind    string // type of the partition, and its name
	size    int64  // MiB
	content func(io.Writer) error
}

// contentOf returns a function that writes the file system of an image with this mount point.
func contentOf(t *testing.T, img osimage.Image, mountPoint string) func(io.Writer) error {
	return func(w io.Writer) error {
		i, err := image.Open(t.Context(), fetch.Source{URL: "file://" + img.Path}, img.SHA384, image.Options{})
		if err != nil {
			return err
		}
		defer i.Close()
		for _, p := range i.Partitions() {
			if p.Filesystem == nil || p.Filesystem.MountPoint != mountPoint {
				continue
			}
			in, err := p.Open(t.Context())
			if err != nil {
				return err
			}
			_, err = io.Copy(w, in)
			return errors.Join(err, in.Close())
		}
		return errors.New("the image has nothing for " + mountPoint)
	}
}

// writeDisk writes a disk without Trident and returns its path.
func writeDisk(t *testing.T, holes ...hole) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const mib = 1 << 20
	table := gpt.Table{DiskID: gpt.GUID{1, 2, 3}}
	at := int64(1)
	for i, h := range holes {
		guid, ok := image.ParsePartType(h.kind, image.AMD64)
		if !ok {
			t.Fatalf("there is no type of partition %s", h.kind)
		}
		table.Partitions = append(table.Partitions, gpt.Partition{
			Type: guid, ID: gpt.GUID{0xab, byte(i)}, Name: h.kind, First: uint64(at * mib / 512), Last: uint64((at+h.size)*mib/512 - 1),
		})
		if err := h.content(&sparse{f: f, at: at * mib}); err != nil {
			t.Fatal(err)
		}
		at += h.size
	}
	table.Size = (at + 1) * mib
	if err := errors.Join(f.Truncate(table.Size), gpt.Write(f, &table)); err != nil {
		t.Fatal(err)
	}
	return path
}

// sparse writes to a new file at a position, and leaves holes in place of zeros.
type sparse struct {
	f  *os.File
	at int64
}

func (s *sparse) Write(p []byte) (int, error) {
	at := s.at
	s.at += int64(len(p))
	if len(strings.Trim(string(p), "\x00")) == 0 {
		return len(p), nil
	}
	return s.f.WriteAt(p, at)
}

// newMachine returns a guest with firmware that is switched off.
func newMachine(t *testing.T, opts lab.Options) *guest {
	t.Helper()
	f, err := installs()
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Image(t.Context(), lab.Trixie())
	if err != nil {
		t.Fatal(err)
	}
	opts.UEFI = true
	vm, err := lab.New(t.Context(), b, opts)
	if err != nil {
		t.Fatal(err)
	}
	return drive(t, &f.fixture, vm)
}
