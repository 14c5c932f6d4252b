package provision

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/isopatch"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/proto/client"
)

// readConfig reads the Host Configuration and completes the options by it.
func (r *Run) readConfig() error {
	c, report := hostconfig.Parse(r.options.Config, rules.Check)
	if err := report.Err(); err != nil {
		return err
	}
	if c.Spec().Image == nil {
		return errkind.WithHint(errkind.Errorf(errkind.Invalid, "read Host Configuration: it has no image to install"), "Add the section image.")
	}
	r.options.Name = cmp.Or(r.options.Name, c.Spec().OS.Hostname, "machine")
	r.config = c
	return checkName(r.options.Name)
}

// checkImage reads the headers and the metadata of the OS image. It does not read an image
// that lies in the live system.
func (r *Run) checkImage(ctx context.Context, of *hostconfig.Image) error {
	source := fetch.Source{URL: string(of.URL)}
	switch {
	case r.options.Image != "":
		path, err := absolute(r.options.Image)
		if err != nil {
			return err
		}
		source = fetch.Source{Path: path}
	case fetch.Scheme(source.URL) == "file":
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTime, errkind.Errorf(errkind.Timeout, "no answer within %s", checkTime))
	defer cancel()
	img, err := image.Open(ctx, source, string(of.SHA384), image.Options{})
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("open image %s: %w", source, context.Cause(ctx))
		}
		return errkind.WithHint(err, "See image.url and image.sha384 of the Host Configuration, or serve a file with --image.")
	}
	return img.Close()
}

// listen takes both ports, and makes the certificates.
func (r *Run) listen(ctx context.Context) (err error) {
	if r.options.Address == "" {
		if r.options.Address, err = Towards(ctx, defaultRoute); err != nil {
			return err
		}
	}
	bound := ""
	if r.options.Loopback || net.ParseIP(r.options.Address).IsLoopback() {
		bound = "127.0.0.1"
	}
	if r.socket, err = listenOn(ctx, bound, r.options.Port, "the agent of the machine"); err != nil {
		return err
	}
	if r.web, err = listenOn(ctx, bound, r.options.HTTPPort, "requests of the images"); err != nil {
		return err
	}
	if r.keys, err = newKeys(r.options.Name); err != nil {
		return err
	}
	r.listener, err = client.NewListener(r.socket, r.keys.listener(), client.WithListenLogger(r.options.Logger), client.WithConnected(r.machine.connected))
	return err
}

func listenOn(ctx context.Context, address string, port int, what string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return nil, errkind.With(errkind.Unavailable, fmt.Errorf("listen for %s on port %d: %w", what, port, err))
	}
	return l, nil
}

// patch returns the live image with its patches.
func (r *Run) patch(ctx context.Context) (*overlay, error) {
	f, err := regfile.Open(r.options.ISO)
	if err != nil {
		return nil, fmt.Errorf("open the live image: %w", err)
	}
	r.files = append(r.files, f)
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the live image: %w", err)
	}
	found, err := isopatch.Find(ctx, f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read the live image %s: %w", r.options.ISO, err)
	}
	agent := r.agentConfig()
	if err := r.complete(agent); err != nil {
		return nil, err
	}
	patches, err := r.patches(found, agent)
	if err != nil {
		return nil, fmt.Errorf("patch the live image %s: %w", r.options.ISO, err)
	}
	plan, err := isopatch.Prepare(ctx, f, info.Size(), patches)
	if err != nil {
		return nil, fmt.Errorf("patch the live image %s: %w", r.options.ISO, err)
	}
	out := &overlay{of: f, size: info.Size(), modified: info.ModTime()}
	return out, plan.Apply(out)
}

// complete adds to the Host Configuration what only this run knows. It fails with Invalid if
// --with-agent has no place in it.
func (r *Run) complete(agent []byte) error {
	has := func(f hostconfig.AdditionalFile) bool { return f.Destination == agentPath }
	if r.options.WithAgent && slices.ContainsFunc(r.config.Spec().OS.AdditionalFiles, has) {
		err := errkind.Errorf(errkind.Invalid, "add the agent to the Host Configuration: os.additionalFiles has %s already", agentPath)
		return errkind.WithHint(err, "Remove it, or leave --with-agent out: the installed system then connects where that file says.")
	}
	r.config = r.config.Amend(func(s *hostconfig.Spec) {
		if r.options.Image != "" {
			s.Image.URL = hostconfig.SourceURL(r.url("image.cosi"))
		}
		if s.Trident.Phonehome == "" && !s.Trident.Disable {
			s.Trident.Phonehome = r.url("phonehome")
		}
		if r.options.WithAgent {
			text := string(agent)
			s.OS.AdditionalFiles = append(s.OS.AdditionalFiles, hostconfig.AdditionalFile{Destination: agentPath, Content: &text, Permissions: "0600"})
		}
	})
	if _, report := hostconfig.Parse(r.config.YAML(), rules.Check); report.Err() != nil {
		return fmt.Errorf("complete the Host Configuration: %w", report.Err())
	}
	return nil
}
