package jsonrpc

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/trident-project/trident/internal/errkind"
)

// ioTime bounds the reading of a request's body and the writing of its answer.
const ioTime = 30 * time.Second

// Handler returns the handler of the HTTP requests of one connection. The end of stop closes a
// WebSocket of that connection.
func (s *Server) Handler(gate Gate, stop context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &conn{Server: s, gate: gate, host: r.Host}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		settings := gate.Settings()
		if !isHost(r.Host, settings.Hosts) {
			refuse(w, http.StatusForbidden, "the header Host names %.80q, which is not a name of this gateway; add it to http.hosts of its settings", r.Host)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			if !isOrigin(origin, r.Host, settings.Origins) {
				refuse(w, http.StatusForbidden, "pages of %.80q may not call this gateway; add the origin to http.origins of its settings", origin)
				return
			}
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Vary", "Origin")
		}
		switch {
		case r.Method == http.MethodOptions && r.Header.Get("Origin") != "":
			w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			w.Header().Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path == PathOpenRPC:
			c.serveDocument(w, r)
		case r.URL.Path == PathUpload:
			c.serveUpload(w, r)
		case r.URL.Path != PathRPC && settings.Page != nil:
			settings.Page.ServeHTTP(w, r)
		case r.URL.Path != PathRPC:
			refuse(w, http.StatusNotFound, "find the page: this gateway has only %s, %s and %s", PathRPC, PathUpload, PathOpenRPC)
		case r.Method == http.MethodPost:
			c.servePost(w, r)
		case r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
			if c.login(w, r) {
				c.serveSocket(w, r, stop)
			}
		default:
			w.Header().Set("Allow", "POST, GET")
			refuse(w, http.StatusMethodNotAllowed, "send a POST, or open a WebSocket")
		}
	})
}

func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	http.Error(w, errkind.Errorf(errkind.Denied, format, args...).Error(), code)
}

func (c *conn) serveDocument(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "send a GET")
		return
	}
	write(w, c.describe())
}

// login logs the caller in by the headers of the request. If that fails, it answers the request
// with the reason and returns false.
func (c *conn) login(w http.ResponseWriter, r *http.Request) bool {
	err := c.gate.Login(r.Context(), r.Header.Values("Authorization"))
	if err == nil {
		return true
	}
	code := refuseLogin(w, err)
	text := err.Error()
	if hint := errkind.Hint(err); hint != "" {
		text += "\n" + hint
	}
	http.Error(w, text, code)
	return false
}

// refuseLogin returns the status of HTTP for the error of a login: 401, with the header that it
// needs, unless the login counts and a limit is reached.
func refuseLogin(w http.ResponseWriter, err error) int {
	if code := httpStatus(codes.Code(toFault(err).Code)); code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable { //nolint:gosec // a code of gRPC
		return code
	}
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return http.StatusUnauthorized
}

func (c *conn) servePost(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "read the request: its content type is %.80q, not application/json", r.Header.Get("Content-Type"))
		return
	}
	if !c.login(w, r) {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(ioTime))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if _, isTooLarge := errors.AsType[*http.MaxBytesError](err); isTooLarge {
		refuse(w, http.StatusRequestEntityTooLarge, "read the request: it is larger than %d bytes", maxRequest)
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "read the request: %v", err)
		return
	}
	_ = control.SetReadDeadline(time.Time{})
	if c.gate.Pass(r.Context(), len(data)) != nil {
		return // the caller is gone
	}
	a := c.answer(r.Context(), data)
	if c.gate.Pass(r.Context(), len(a)) != nil {
		return
	}
	_ = control.SetWriteDeadline(time.Now().Add(ioTime))
	if a == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	write(w, a)
}

func write(w http.ResponseWriter, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // the caller may be gone
}

// isHost reports whether a header Host names this gateway: by an address, as localhost, or by one
// of names. A page whose own name resolves to this host (DNS rebinding) sends that name, and is
// refused.
func isHost(host string, names []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	same := func(other string) bool { return strings.EqualFold(other, strings.TrimSuffix(name, ".")) }
	return same("localhost") || slices.ContainsFunc(names, same)
}

// isOrigin reports whether a page may call: one of this gateway, whose Host has been checked,
// or one of origins.
func isOrigin(origin, host string, origins []string) bool {
	if slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "https" && u.Host != "" && strings.EqualFold(origin, "https://"+u.Host) && strings.EqualFold(u.Host, host)
}
