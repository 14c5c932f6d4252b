package provision

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/trident-project/trident/proto/client"
)

// machine is what the run knows about the one machine that it provisions.
type machine struct {
	notice func(string)
	called chan struct{} // closed with the first connection

	mu        sync.Mutex
	address   string          // of the last connection
	others    map[string]bool // addresses of further machines with the same image
	rebooting bool
	operation string
}

func newMachine(notice func(string)) *machine {
	return &machine{notice: notice, called: make(chan struct{}), others: map[string]bool{}}
}

func ipOf(c client.HostConn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}

// connected notes a host that has shown the certificate. While the first machine is installed,
// a host with another address is another machine that has booted the same image.
func (m *machine) connected(c client.HostConn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	address := ipOf(c)
	switch {
	case m.address == "":
		m.address = address
		close(m.called)
	case address == m.address || m.others[address]:
	case m.rebooting:
		m.address = address
	default:
		m.others[address] = true
		m.notice(fmt.Sprintf("Another machine, at %s, has booted the same live image. Only the first one, at %s, is installed.", address, m.address))
	}
}

func (m *machine) isOther(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.others[address]
}

func (m *machine) isRebooting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rebooting
}

// event notes what an event says, and reports whether the reboot begins with it.
func (m *machine) event(e *client.Event) (rebootBegins bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.operation = cmp.Or(e.GetOperationId(), m.operation)
	if e.GetChange().GetWaiting() != "reboot" || m.rebooting {
		return false
	}
	m.rebooting = true
	return true
}

func (m *machine) known() (address, operation string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.address, m.operation
}

// dial returns a connection of the machine, and closes those of others.
func (r *Run) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := r.listener.Host(ctx, r.options.Name)
		if err != nil {
			return nil, err
		}
		if !r.machine.isOther(ipOf(conn)) {
			return conn, nil
		}
		_ = conn.Close()
	}
}
