package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/e2e/lab"
	"github.com/trident-project/trident/internal/e2e/product"
)

// The versions of the story. The fault is one of package faulty.
const (
	oldVersion      = "1.0.0"
	newVersion      = "2.0.0"
	tamperedVersion = "2.1.0"
	brokenVersion   = "3.0.0"
	brokenFault     = "crashes"
)

// offered are the products that the host receives, by their names in the folder of the demo.
type offered struct{ stub, rpm, good, tampered, broken string }

// prepare builds the products and makes the guest at the same time, because the first time
// both take minutes.
func prepare(ctx context.Context, s *screen, dir string) (o offered, booted *lab.Snapshot, err error) {
	s.chapter("What is built", "The products, in "+dir+", and at the same time a guest with Debian 13.\n"+
		"The first time this takes some minutes, later some seconds.")
	// The first failure is the reason; it cancels the other half.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wait sync.WaitGroup
	wait.Go(func() {
		begun := time.Now()
		var err error
		if booted, err = guest(ctx); err != nil {
			fail(err)
			return
		}
		about := "from the cache"
		if took := time.Since(begun); took > time.Second {
			about = "made, booted and saved in " + seconds(took)
		}
		s.text("   %-28s %9s   %s", "the guest", "", about)
	})
	if o, err = build(ctx, s, dir); err != nil {
		fail(err)
	}
	wait.Wait()
	return o, booted, context.Cause(ctx)
}

func guest(ctx context.Context) (*lab.Snapshot, error) {
	base, err := lab.Image(ctx, lab.Trixie())
	if err != nil {
		return nil, err
	}
	return lab.Booted(ctx, base, lab.Options{})
}

// build makes the products one after the other, because each build uses all processors.
func build(ctx context.Context, s *screen, dir string) (o offered, err error) {
	m, err := product.New(ctx, dir)
	if err != nil {
		return o, err
	}
	for _, p := range []struct {
		name  *string
		about string
		make  func() (string, error)
	}{
		{nil, "the command that is used below", func() (string, error) { return command(ctx, m, dir) }},
		{&o.stub, "tells rpm that Debian's systemd is there", m.Stub},
		{&o.rpm, "make rpm VERSION=" + oldVersion, func() (string, error) { return m.RPM(ctx, oldVersion) }},
		{&o.good, "make sysext VERSION=" + newVersion, func() (string, error) { return m.Image(ctx, newVersion) }},
		{&o.broken, brokenVersion + ", signed, but its daemon " + brokenFault, func() (string, error) { return broken(ctx, m) }},
		{&o.tampered, tamperedVersion + ", signed, then one bit changed", func() (string, error) { return tampered(ctx, m) }},
	} {
		path, err := p.make()
		if err != nil {
			return o, fmt.Errorf("build %s: %w", p.about, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return o, err
		}
		if p.name != nil {
			*p.name = info.Name()
		}
		s.text("   %-28s %9s   %s", info.Name(), size(info.Size()), p.about)
	}
	return o, nil
}

// command builds trident for this machine.
func command(ctx context.Context, m *product.Maker, dir string) (string, error) {
	built, err := m.Daemon(ctx, "./cmd/trident", newVersion)
	return renamed(built, filepath.Join(dir, "trident"), err)
}

func broken(ctx context.Context, m *product.Maker) (string, error) {
	built, err := m.Faulty(ctx, brokenVersion, brokenFault)
	return renamed(built, image(built, brokenVersion), err)
}

// image returns the name of the image of a release in the folder of another file.
func image(beside, version string) string {
	return filepath.Join(filepath.Dir(beside), "trident_"+version+"_x86-64.raw")
}

func renamed(from, to string, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return to, os.Rename(from, to)
}

// tampered writes a copy of a good image with one changed bit in the middle.
func tampered(ctx context.Context, m *product.Maker) (string, error) {
	good, err := m.Good(ctx, tamperedVersion)
	path, err := renamed(good, image(good, tamperedVersion), err)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	return path, errors.Join(flip(f), f.Close())
}

func flip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at := info.Size() / 2
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}
