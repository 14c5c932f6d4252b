// Command build makes the RPMs that .goreleaser.yaml defines, without goreleaser.
//
// Building goreleaser from source takes minutes on a bare machine; packages for a
// test or the demo are wanted in seconds. So this program reads the same file, calls
// the same library (nfpm), and knows exactly the part of the schema that the file
// uses: another key is an error, and a test compares the packages with goreleaser's.
//
// Usage, in the root folder of the project:
//
//	build rpm -version 1.2.3 [-arch amd64,arm64]   hooks, binaries, packages
//	build finish FILE...                           what nfpm cannot; goreleaser calls it too
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trident-project/trident/internal/version"
)

func main() {
	syscall.Umask(0o022) // what is built has the modes that it is to have on a host
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "rpm":
			return runRPM(ctx, args[1:])
		case "finish":
			for _, name := range args[1:] {
				if err := finish(ctx, name); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return errors.New("usage: build rpm -version VERSION [-arch LIST] | build finish FILE")
}

func runRPM(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("build rpm", flag.ContinueOnError)
	release := flags.String("version", "", "version of the packages, like 1.2.3")
	arch := flags.String("arch", "", "only these of the configured architectures, comma-separated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *release == "" || flags.NArg() > 0 {
		return errors.New("usage: build rpm -version VERSION [-arch LIST]")
	}
	// tridentd and trident-rescue compare it with versions of extensions.
	if _, err := version.Parse(*release); err != nil {
		return err
	}
	epoch, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	cfg, err := readConfig(".goreleaser.yaml")
	if err != nil {
		return err
	}
	p := project{cfg: cfg, version: *release, epoch: epoch}
	if *arch != "" {
		p.only = strings.Split(*arch, ",")
	}
	names, err := p.build(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := finish(ctx, name); err != nil {
			return err
		}
		fmt.Println(name)
	}
	fmt.Fprintln(os.Stderr, signedBy(os.Getenv(signer)))
	return nil
}

// signedBy says who signed the packages, so that nobody has to guess.
func signedBy(key string) string {
	if key == "" {
		return "The packages are not signed: " + signer + " is not set."
	}
	return "The packages are signed by " + key + "."
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
