// Package sysext has the commands below trident sysext: they make, sign and check images of
// system extensions, and need no daemon.
package sysext

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/arch"
	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/linux/ddi"
	"github.com/trident-project/trident/internal/linux/outfile"
)

func Command(a *command.App) *cobra.Command {
	return command.Group("sysext", "Make and check system extension images",
		newBuildCommand(a, build),
		newSignCommand(a, sign),
		newInspectCommand(a, inspect),
		newVerifyCommand(a, verify),
	)
}

type buildOptions struct {
	app       *command.App
	tree      string
	arch      string
	image     string
	epoch     int64
	epochSet  bool
	compress  string
	key, cert string
}

const buildLong = `Build makes a system extension image: a GPT disk image with an erofs of the
tree's usr and opt, its dm-verity tree and, when a key is given, a signature of
the root hash. It prints the root hash.

The same tree makes the same bytes for every builder, at any time. Files belong to
root; their time is SOURCE_DATE_EPOCH or --epoch (in seconds since 1970), else 1970.
Build refuses folders that other users cannot enter, because a merged folder takes
its mode from the image.

Build checks its result with the rules of a host, as far as they need no host, and
makes no image that every host would refuse.

A compressed image (--compress lz4hc) is about half as large. Its bytes also depend on
the version of mkfs.erofs, and patches between such images are twice as large. Every
kernel from 5.13 on merges it; a Trident before this version refuses it as an image
of itself.`

// The values of --compress.
const (
	compressNever  = "none"
	compressAlways = "lz4hc"
	compressAuto   = "auto"
)

func newBuildCommand(a *command.App, run func(context.Context, *buildOptions) error) *cobra.Command {
	o := &buildOptions{app: a}
	cmd := &cobra.Command{
		Use:   "build --tree DIR --arch ARCH --output FILE",
		Short: "Make an image from a folder",
		Long:  buildLong,
		Example: `  trident sysext build --tree root --arch x86-64 --output trident.raw
  trident sysext build --tree root --arch arm64 --output trident.raw --key k.pem --cert c.pem`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.epochSet = cmd.Flags().Changed("epoch")
			return run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.tree, "tree", "", "the folder whose usr and opt go into the image")
	flags.StringVar(&o.arch, "arch", "", "the architecture: x86-64 or arm64")
	flags.StringVarP(&o.image, "output", "o", "", "the image to write")
	flags.Int64Var(&o.epoch, "epoch", 0, "the time of all files, in seconds since 1970; replaces SOURCE_DATE_EPOCH")
	flags.StringVar(&o.compress, "compress", compressNever, "none, lz4hc (by mkfs.erofs), or auto: lz4hc if mkfs.erofs is installed")
	addKeyFlags(flags, &o.key, &o.cert)
	command.CompleteFlag(cmd, "arch", arch.Names()...)
	command.CompleteFlag(cmd, "compress", compressNever, compressAlways, compressAuto)
	cmd.MarkFlagsRequiredTogether("key", "cert")
	command.Required(cmd, "tree", "arch", "output")
	return cmd
}

func build(ctx context.Context, o *buildOptions) error {
	epoch, err := o.fileTime()
	if err != nil {
		return err
	}
	machine, err := arch.Parse(o.arch)
	if err != nil {
		return errkind.Errorf(errkind.Invalid, "--arch: %w", err)
	}
	compress, err := o.compresses()
	if err != nil {
		return err
	}
	var s signer
	if o.key != "" { // before the build: a wrong key fails early
		if s, err = readSigner(o.key, o.cert, o.app.Now()); err != nil {
			return err
		}
	}
	out := outfile.File{Path: o.image, Inputs: []string{o.key, o.cert, filepath.Join(o.tree, "usr"), filepath.Join(o.tree, "opt")}}
	if o.image, err = out.Whole(); err != nil {
		return err
	}
	root, err := ddi.Build(ctx, o.image, ddi.BuildOptions{
		Tree: o.tree, Arch: ddi.Arch(arch.Systemd(machine)), Epoch: epoch, Compress: compress, Key: s.key, Cert: s.cert, Check: checkAsHost(ctx, o.app, s.cert),
	})
	if err != nil {
		return err
	}
	s.print(o.app.Stderr)
	_, err = fmt.Fprintln(o.app.Stdout, ddi.HashString(root))
	return err
}

// compresses decides whether the image is compressed.
func (o *buildOptions) compresses() (bool, error) {
	switch o.compress {
	case compressNever:
		return false, nil
	case compressAlways:
		return true, nil
	case compressAuto:
		if ddi.CanCompress() {
			return true, nil
		}
		fmt.Fprintln(o.app.Stderr, "Not compressed: mkfs.erofs (Debian: erofs-utils) is not installed.")
		return false, nil
	}
	return false, errkind.Errorf(errkind.Invalid, "--compress: %q is not %s, %s or %s", o.compress, compressNever, compressAlways, compressAuto)
}

// fileTime returns the time of the files in the image (reproducible-builds.org, SOURCE_DATE_EPOCH).
func (o *buildOptions) fileTime() (time.Time, error) {
	env := os.Getenv("SOURCE_DATE_EPOCH")
	if o.epochSet || env == "" {
		return time.Unix(o.epoch, 0), nil
	}
	seconds, err := strconv.ParseInt(env, 10, 64)
	if err != nil {
		return time.Time{}, errkind.Errorf(errkind.Invalid, "read SOURCE_DATE_EPOCH: %q is not a number of seconds", env)
	}
	return time.Unix(seconds, 0), nil
}
