package observe

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/common/expfmt"
)

// Limits for readers of metrics.
const (
	maxScrapes = 8 // connections at a time; more wait
	scrapeTime = 10 * time.Second
)

// Serve answers GET /metrics on l until Close. The mode of l's socket decides who may read.
func (o *Observer) Serve(l net.Listener) error {
	err := o.scrapes.Serve(&limitedListener{Listener: l, free: make(chan struct{}, maxScrapes)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (m *metrics) server() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", m.scrape)
	s := &http.Server{
		Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: scrapeTime, MaxHeaderBytes: 8 << 10,
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

func (m *metrics) scrape(w http.ResponseWriter, _ *http.Request) {
	families, err := m.registry.Gather()
	if err != nil && len(families) == 0 {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var body bytes.Buffer
	to := expfmt.NewEncoder(&body, format)
	for _, family := range families {
		if err := to.Encode(family); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", string(format))
	_, _ = w.Write(body.Bytes()) // the reader has closed the connection
}

// limitedListener accepts no more connections at a time than free has room for.
type limitedListener struct {
	net.Listener
	free chan struct{}
}

func (f *limitedListener) Accept() (net.Conn, error) {
	f.free <- struct{}{}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.free
		return nil, err
	}
	return &countedConn{c, sync.OnceFunc(func() { <-f.free })}, nil
}

type countedConn struct {
	net.Conn
	gone func()
}

func (c *countedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}
