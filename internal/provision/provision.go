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
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/hostconfig"
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
