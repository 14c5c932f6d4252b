package proxy

import (
	"io"
	"net"
)

// once is a listener whose first Accept returns its only connection, and each further one io.EOF.
type once struct {
	conn net.Conn
	addr net.Addr
}

func (o *once) Accept() (net.Conn, error) {
	if o.conn == nil {
		return nil, io.EOF
	}
	conn := o.conn
	o.conn = nil
	return conn, nil
}

func (o *once) Close() error { return nil }

func (o *once) Addr() net.Addr { return o.addr }

// closing is a connection that calls closed after each Close.
type closing struct {
	net.Conn
	closed func()
}

func (c *closing) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}
