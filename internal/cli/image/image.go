// Package image has the commands below trident image: they make and check images of operating
// systems (COSI), and need no daemon.
package image

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trident-project/trident/internal/cli/command"
	"github.com/trident-project/trident/internal/cli/terminal"
	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	cosi "github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/linux/regfile"
)

func Command(a *command.App) *cobra.Command {
	return command.Group("image", "Make and check images of operating systems (COSI)",
		newBuildCommand(a, buildImage),
		newInspectCommand(a, inspect),
		newPatchISOCommand(a, patchISO),
		newVerifyCommand(a, verify),
	)
}

// imageSource has the options of the commands that read an image.
type imageSource struct {
	app      *command.App
	source   string // a file or a URL; without the secrets of a URL once it was opened
	sha384   string
	relaxed  bool
	authFile string
	caFile   string
}

const sourceText = `SOURCE is a file, or a file, http, https or oci URL. The command reads only the parts
that it needs, by range requests. For a registry --auth-file names a file in the
form that docker login and podman login write.`

// newSourceCommand gives cmd the argument SOURCE and the flags about it.
func newSourceCommand(a *command.App, cmd *cobra.Command, run func(context.Context, *imageSource) error) *cobra.Command {
	s, flags := &imageSource{app: a}, cmd.Flags()
	cmd.Args = command.Exactly("SOURCE")
	cmd.RunE = command.Run(run, s, &s.source)
	flags.StringVar(&s.sha384, "sha384", cosi.Ignored, "the SHA-384 that metadata.json must have, in hex")
	flags.BoolVar(&s.relaxed, "relaxed", false, "only warn of the faults that upstream's relaxedCosiValidation allows")
	flags.StringVar(&s.authFile, "auth-file", "", "a file with the credentials of registries")
	flags.StringVar(&s.caFile, "ca", "", "a file with certificate authorities (PEM) for https, in addition to the system's")
	return cmd
}

// open tells all that is wrong with the metadata on standard error, and returns
// the first of it.
func (s *imageSource) open(ctx context.Context) (*cosi.Image, error) {
	login, err := s.login()
	if err != nil {
		return nil, err
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	src := fetch.Source{Login: login, Roots: roots}
	if strings.Contains(s.source, "://") {
		src.URL, s.source = s.source, fetch.Redact(s.source)
	} else if src.Path, err = filepath.Abs(s.source); err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	img, err := cosi.Open(ctx, src, s.sha384, cosi.Options{
		Relaxed: s.relaxed, Log: func(text string) { terminal.NewProgress(&s.app.Streams).Line("%s", text) },
	})
	if bad, ok := errors.AsType[*cosi.MetadataError](err); ok {
		if len(bad.Findings) > 1 {
			for _, f := range bad.Findings {
				fmt.Fprintf(s.app.Stderr, "  %s\n", terminal.Line(f.String()))
			}
		}
		err = errkind.With(errkind.Corrupt, err) // the image is refused, not the command
	}
	return img, command.Interrupted(ctx, err)
}

// roots returns the authorities for https; nil stands for the system's.
func (s *imageSource) roots() (*x509.CertPool, error) {
	if s.caFile == "" {
		return nil, nil
	}
	pem, err := regfile.ReadFile(s.caFile, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read --ca: %w", err)
	}
	roots, err := fetch.AddRoots(nil, pem)
	if err != nil {
		return nil, fmt.Errorf("read --ca %s: %w", s.caFile, err)
	}
	return roots, nil
}

// login reads the credentials (docker's config.json, containers-auth.json(5)):
// user and password in base64 by the name of the registry.
func (s *imageSource) login() (fetch.Login, error) {
	if s.authFile == "" {
		return nil, nil
	}
	data, err := regfile.ReadFile(s.authFile, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	login, err := fetch.RegistryLogin(data)
	if err != nil {
		return nil, fmt.Errorf("read credentials of %s: %w", s.authFile, err)
	}
	return login, nil
}
