// Command build makes the packages that .goreleaser.yaml defines, without goreleaser, the
// extension images, and releases.
//
// Building goreleaser from source takes minutes on a bare machine; packages for a
// test or the demo are wanted in seconds. So this program reads the same file, calls
// the same library (nfpm), and knows exactly the part of the schema that the file
// uses: another key is an error, and a test compares the packages with goreleaser's.
//
// Usage, in the root folder of the project:
//
//	build rpm -version 1.2.3 [-arch amd64,arm64]       packages for rpm: dist/rpm/1.2.3
//	build deb -version 1.2.3 [-arch amd64,arm64]       packages for dpkg: dist/deb/1.2.3
//	build sysext -version 1.2.3 [-arch amd64,arm64]    extension images: dist/sysext/1.2.3
//	build release -version 1.2.3 [-arch amd64,arm64]   all that is published: dist/release/1.2.3
//	build containers -version 1.2.3 [-arch amd64,arm64]  container images: dist/containers/1.2.3
//	build finish FILE...                               what nfpm cannot; goreleaser calls it
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/version"
)

func main() {
	// What is built and published can be read by everybody, whoever builds it.
	syscall.Umask(0o022)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

const usage = "usage: build rpm|deb|sysext|release|containers -version VERSION [-arch LIST] | build finish FILE"

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	kind, args := args[0], args[1:]
	switch kind {
	case "rpm", "deb", "sysext", "release", "containers":
		p, err := newProject(args)
		if err != nil {
			return err
		}
		dir := filepath.Join("dist", kind, p.version)
		switch kind {
		case "release":
			err = p.release(ctx, dir)
		case "containers":
			err = p.containers(ctx, dir)
		case "sysext":
			err = p.extensions(ctx, dir)
		default:
			err = p.packages(ctx, kind, dir)
		}
		if err != nil {
			return err
		}
		return list(dir)
	case "finish":
		for _, name := range args {
			if err := finish(ctx, name); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New(usage)
}

// newProject reads the flags of a command and the definitions of the packages.
func newProject(args []string) (project, error) {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	release := flags.String("version", "", "version of the packages, like 1.2.3")
	arches := flags.String("arch", "amd64,arm64", "architectures, comma-separated")
	if err := flags.Parse(args); err != nil {
		return project{}, err
	}
	if *release == "" || flags.NArg() > 0 {
		return project{}, errors.New(usage)
	}
	// tridentd and trident-rescue compare it with versions of extensions.
	if _, err := version.Parse(*release); err != nil {
		return project{}, err
	}
	only, err := arch.ParseList(*arches)
	if err != nil {
		return project{}, err
	}
	epoch, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return project{}, err
	}
	cfg, err := readConfig(".goreleaser.yaml")
	return project{cfg: cfg, version: *release, epoch: epoch, only: only}, err
}

// packages publishes the packages of a format, each with its checksum, in dir.
func (p project) packages(ctx context.Context, format, dir string) error {
	if format == "rpm" {
		if err := checkSigner(ctx, "the packages"); err != nil {
			return err
		}
	}
	return publish(dir, func(dir string) error {
		if err := p.compileAll(ctx); err != nil {
			return err
		}
		names, err := p.packAll(format, dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := finish(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// list prints the paths of what dir holds, without the checksums of single packages.
func list(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".sha256" {
			fmt.Println(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

// sourceDate reads SOURCE_DATE_EPOCH (reproducible-builds.org); empty is 1970.
func sourceDate(s string) (time.Time, error) {
	if s == "" {
		s = "0"
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is not a count of seconds", s)
	}
	return time.Unix(n, 0).UTC(), nil
}
