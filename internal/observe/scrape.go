package observe

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Limits for readers of metrics.
const (
	maxScrapes = 8 // connections at a time; more wait
	scrapeTime = 10 * time.Second
)

// Serve answers GET /metrics on l until Close. The mode of l's socket decides who may read.
func (o *Observer) Serve(l net.Listener) error {
	err := o.scrapes.Serve(netutil.LimitListener(l, maxScrapes))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (m *metrics) server() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, DisableCompression: true,
	}))
	s := &http.Server{
		Handler: mux, ReadTimeout: scrapeTime, WriteTimeout: scrapeTime, MaxHeaderBytes: 8 << 10,
	}
	s.SetKeepAlivesEnabled(false)
	return s
}
