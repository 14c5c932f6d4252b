package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/trident-project/trident/internal/api"
	"github.com/trident-project/trident/internal/gateway/policy"
	"github.com/trident-project/trident/internal/linux/inroot"
)

const (
	// gatewaySocket is the socket for the gateway, below the root folder.
	gatewaySocket = "run/trident/gateway.sock"
	// gatewayUser is the user of the gateway, and its group. The package of the gateway
	// makes both.
	gatewayUser = "trident-gateway"
	// gatewayCheck is how often a daemon without the socket checks whether a gateway has
	// been set up.
	gatewayCheck = 5 * time.Second
)

// gateway is the second socket of a daemon, which exists while the host has a policy for a
// gateway and the user of the gateway.
type gateway struct {
	root   string
	policy *policy.Source

	mu       sync.Mutex
	listener *api.Listener // nil until open has succeeded
	isClosed bool          // open does nothing any more
}

func newGateway(root string) *gateway {
	owner := uint32(0)
	if root != "/" {
		owner = alsoUID(root)
	}
	return &gateway{root: root, policy: policy.NewSource(root, owner)}
}

// open makes the socket, if a gateway has been set up, and returns its listener, or nil.
// main is the listener of the other socket.
func (g *gateway) open(main *api.Listener) (*api.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isClosed || !g.policy.IsInstalled() {
		return nil, nil
	}
	uid, gid, ok, err := userOf(g.root, gatewayUser)
	if err != nil || !ok {
		return nil, err
	}
	path := filepath.Join(g.root, gatewaySocket)
	l, err := listenOwn(path)
	if err != nil {
		return nil, err
	}
	// The mode is 0600 until the group is right.
	if err := errors.Join(os.Chown(path, os.Geteuid(), int(gid)), os.Chmod(path, 0o660)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), l.Close())
	}
	g.listener = main.ListenForGateway(l, uid)
	return g.listener, nil
}

// listeners returns main, and the listener of the gateway if it is open. From then on open
// does nothing.
func (g *gateway) listeners(main *api.Listener) []*api.Listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.isClosed = true
	if g.listener == nil {
		return []*api.Listener{main}
	}
	return []*api.Listener{main, g.listener}
}

// serveGateway serves the gateway of the host from when it has been set up, until the server
// stops. ctx ends the wait before that.
func (d *Daemon) serveGateway(ctx context.Context) {
	tick := time.NewTicker(gatewayCheck)
	defer tick.Stop()
	last := ""
	for {
		l, err := d.gateway.open(d.listener)
		if err != nil && err.Error() != last {
			last = err.Error()
			d.logger.Error("the gateway of this host cannot connect", "error", err)
		}
		if l != nil {
			d.logger.Info("tridentd serves the gateway of this host", "socket", l.Addr().String())
			if err := d.server.Serve(l); err != nil {
				d.logger.Error("the gateway of this host cannot connect any more", "error", err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// userOf returns the IDs of a user of the host below root, and whether there is this user.
// It fails for a user who is root on a host: root is never a gateway.
func userOf(root, name string) (uid, gid uint32, ok bool, err error) {
	f, err := inroot.FS(root).Open("etc/passwd")
	if err != nil {
		return 0, 0, false, fmt.Errorf("look up the user %s: %w", name, err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":") // passwd(5)
		if len(fields) != 7 || fields[0] != name {
			continue
		}
		u, uerr := strconv.ParseUint(fields[2], 10, 32)
		g, gerr := strconv.ParseUint(fields[3], 10, 32)
		if uerr != nil || gerr != nil || u == 0 && root == "/" {
			return 0, 0, false, fmt.Errorf("look up the user %s: its entry in /etc/passwd does not have the ID of a user", name)
		}
		return uint32(u), uint32(g), true, nil
	}
	return 0, 0, false, nil
}
