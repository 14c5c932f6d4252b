package clienttest

import (
	"maps"
	"net"
	"strconv"
	"sync"
)

// once is a listener that accepts one connection.
type once struct {
	mu     sync.Mutex
	conn   net.Conn
	closed chan struct{}
}

func (o *once) Accept() (net.Conn, error) {
	o.mu.Lock()
	conn := o.conn
	o.conn = nil
	o.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-o.closed
	return nil, net.ErrClosed
}

func (o *once) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.closed:
	default:
		close(o.closed)
	}
	return nil
}

func (o *once) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// tracked is a listener that records the connections that it accepts.
type tracked struct {
	net.Listener
	server *Server
}

func (t tracked) Accept() (net.Conn, error) {
	conn, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	t.server.conns[conn] = true
	t.server.lastConn++
	return &trackedConn{Conn: conn, server: t.server, number: connNumber(t.server.lastConn)}, nil
}

type trackedConn struct {
	net.Conn
	server *Server
	number connNumber
}

// connNumber identifies a connection; it is the address of the peer.
type connNumber int

func (connNumber) Network() string  { return "memory" }
func (n connNumber) String() string { return strconv.Itoa(int(n)) }

func (c *trackedConn) RemoteAddr() net.Addr { return c.number }

func (c *trackedConn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c.Conn)
	maps.DeleteFunc(c.server.handles, func(_ int64, h *handle) bool { return h.conn == c.number })
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// breakConnections closes all connections without notice.
func (s *Server) breakConnections() {
	s.mu.Lock()
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}
