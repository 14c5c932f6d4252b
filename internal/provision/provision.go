// Package provision installs a machine that boots a live image: it puts an identity and the
// address of this host into the image, serves the image, waits for the agent in it to connect,
// installs the machine over that connection, and follows it into the installed system.
//
// The package starts no machine. Packages qemu and redfish below it do.
package provision

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/hostconfig"
	"github.com/trident-project/trident/internal/hostconfig/rules"
	"github.com/trident-project/trident/internal/image"
	"github.com/trident-project/trident/internal/isopatch"
	"github.com/trident-project/trident/internal/linux/regfile"
	"github.com/trident-project/trident/proto/client"
)

// checkTime bounds the look at the OS image.
const checkTime = 2 * time.Minute

// A Run provisions one machine. Close it.
type Run struct {
	options  Options
	config   *hostconfig.Config // what the machine is installed by
	secret   string             // the path of everything that is served
	keys     *keys
	socket   net.Listener // for agents
	web      net.Listener
	server   *http.Server
	listener *client.Listener
	files    []*os.File
	iso      *overlay
	serving  sync.WaitGroup

	reports chan report // of trident.phonehome, after the reboot
	machine *machine
}

// Prepare checks everything that can be checked before a machine boots, and then serves the
// images and listens. It fails with Invalid for a faulty Host Configuration, NotFound for an
// image without a placeholder for the agent, Unavailable for a port that is in use, and as
// image.Open does for an OS image that cannot be read. After a failure nothing is served.
func Prepare(ctx context.Context, o Options) (_ *Run, err error) {
	o.CallTime, o.RebootTime = cmp.Or(o.CallTime, CallTime), cmp.Or(o.RebootTime, RebootTime)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	r := &Run{options: o, secret: rand.Text(), reports: make(chan report, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := r.readConfig(); err != nil {
		return nil, err
	}
	r.machine = newMachine(r.options.Notice)
	if err := r.listen(ctx); err != nil {
		return nil, err
	}
	of := r.config.Spec().Image // before patch completes it
	iso, err := r.patch(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.checkImage(ctx, of); err != nil {
		return nil, err
	}
	return r, r.serve(iso)
}

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

// url returns the URL of a thing that is served.
func (r *Run) url(name string) string {
	return "http://" + r.announced(r.web) + "/" + r.secret + "/" + name
}

func (r *Run) announced(l net.Listener) string {
	return net.JoinHostPort(r.options.Address, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// ISO returns the URL of the live image for the machine. Whoever knows it can take the
// identity of the machine.
func (r *Run) ISO() string { return r.url("live.iso") }

// ISOContent returns the patched live image and its size in bytes, for one reader. It can be
// read until Close.
func (r *Run) ISOContent() (io.Reader, int64) {
	return io.NewSectionReader(r.iso, 0, r.iso.size), r.iso.size
}

// Agent returns the host:port to which the agent of the machine connects.
func (r *Run) Agent() string { return r.announced(r.socket) }

// Name returns the name of the machine in its certificate.
func (r *Run) Name() string { return r.options.Name }

// Close ends the servers and all their connections. An installation that runs then fails
// when it needs the image.
func (r *Run) Close() error {
	var faults []error
	switch {
	case r.listener != nil:
		faults = append(faults, r.listener.Close())
	case r.socket != nil:
		faults = append(faults, r.socket.Close())
	}
	switch {
	case r.server != nil:
		faults = append(faults, r.server.Close())
	case r.web != nil:
		faults = append(faults, r.web.Close())
	}
	r.serving.Wait()
	for _, f := range r.files {
		faults = append(faults, f.Close())
	}
	r.files = nil
	return errors.Join(faults...)
}
