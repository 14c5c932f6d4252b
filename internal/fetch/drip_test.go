package fetch

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/interrupt"
)

// wire is a transport whose connections are served by serve, on the clock of a
// synctest bubble.
func wire(speaksTLS bool, serve func(c net.Conn)) *http.Transport {
	t := newTransport()
	t.Proxy = nil
	t.DialContext = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			c := peeked{far, bufio.NewReader(far)}
			if first, err := c.r.Peek(1); err == nil && first[0] == 0x16 && !speaksTLS {
				_, _ = c.r.Discard(c.r.Buffered())
				_, _ = io.WriteString(far, "HTTP/1.1 400 Bad Request\r\n\r\n")
				return
			}
			serve(c)
		}()
		return near, nil
	}
	return t
}

type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// drip writes text, n bytes every so often, until nobody reads.
func drip(c net.Conn, text string, n int, every time.Duration) {
	for len(text) > 0 {
		time.Sleep(every)
		k := min(n, len(text))
		if _, err := io.WriteString(c, text[:k]); err != nil {
			return
		}
		text = text[k:]
	}
}

// request reads one request.
func request(c net.Conn) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil
	}
	return r
}

const dripTag = "Etag: \"1\"\r\nConnection: close\r\n"

func TestAServerThatDripsIsGivenUpAfterThreeMinutes(t *testing.T) {
	whole := fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", dripTag, 50<<20)
	part := func(r *http.Request) string {
		from := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		if from == 0 {
			return whole
		}
		return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\n%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n", dripTag, from, 50<<20-1, 50<<20, 50<<20-from)
	}
	endless := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		url   string
		serve func(net.Conn)
		words string
	}{
		"a body, a byte every 20 s": {"http://mirror.example/x", func(c net.Conn) {
			if r := request(c); r != nil {
				_, _ = io.WriteString(c, part(r))
				drip(c, endless, 1, 20*time.Second)
			}
		}, "less than 1024 bytes a second"},
		"a body, a byte every 59 s": {"http://mirror.example/x", func(c net.Conn) {
			if r := request(c); r != nil {
				_, _ = io.WriteString(c, part(r))
				drip(c, endless, 1, 59*time.Second)
			}
		}, "less than 1024 bytes a second"},
		"a body, slightly too slow": {"http://mirror.example/x", func(c net.Conn) {
			if r := request(c); r != nil {
				_, _ = io.WriteString(c, part(r))
				drip(c, endless, 900, time.Second)
			}
		}, "less than 1024 bytes a second"},
		"an answer of chunks": {"http://mirror.example/x", func(c net.Conn) {
			if r := request(c); r != nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+dripTag+"Transfer-Encoding: chunked\r\n\r\n")
				drip(c, strings.Repeat("1\r\nx\r\n", 1000), 6, 20*time.Second)
			}
		}, "less than 1024 bytes a second"},
		"headers": {"http://mirror.example/x", func(c net.Conn) {
			if request(c) != nil {
				drip(c, "HTTP/1.1 200 OK\r\nX: "+endless, 1, 20*time.Second)
			}
		}, "the source sent no byte for too long"},
		"headers without end": {"http://mirror.example/x", func(c net.Conn) {
			if request(c) != nil {
				drip(c, "HTTP/1.1 100 Continue\r\n\r\n"+strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9999), 29, time.Second)
			}
		}, ""},
		"a TLS handshake that never ends": {"https://mirror.example/x", func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
		}, "TLS handshake timeout"},
		"a TLS handshake that drips": {"https://mirror.example/x", func(c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			drip(c, "\x16\x03\x03\x40\x00"+endless, 1, 5*time.Second)
		}, "TLS handshake timeout"},
		"redirects": {"http://mirror.example/x", func(c net.Conn) {
			if request(c) != nil {
				time.Sleep(19 * time.Second)
				_, _ = io.WriteString(c, "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
			}
		}, "the source sent no byte for too long"},
		"the manifest of a registry": {"oci://127.0.0.1/os/image:v1", func(c net.Conn) {
			if request(c) != nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n")
				drip(c, endless, 1, 20*time.Second)
			}
		}, "the source sent no byte for too long"},
		"the token of a registry": {"oci://127.0.0.1/os/image:v1", func(c net.Conn) {
			r := request(c)
			if r == nil {
				return
			}
			if r.URL.Path != "/token" {
				_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1/token\"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n")
			drip(c, endless, 1, 20*time.Second)
		}, "the source sent no byte for too long"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(2 * time.Minute) // until every server has noticed that nobody reads
				begin := time.Now()
				u, err := url.Parse(c.url)
				must(t, err)
				for _, ranges := range []bool{false, true} {
					if ranges {
						in := &Ranges{lim: Limits{}.withDefaults(), wait: interrupt.Sleep, transport: wire(u.Scheme == "https", c.serve)}
						if u.Scheme == "oci" {
							err = in.openRegistry(t.Context(), u, nil, Pin{})
						} else {
							in.url, in.pin = u, Pin{Size: 50 << 20, Strong: `"1"`}
							var s io.ReadCloser
							s, err = in.Section(t.Context(), 100, 40<<20)
							must(t, err)
							_, err = io.Copy(io.Discard, s)
							_ = s.Close()
						}
						_ = in.Close()
					} else {
						r := newRig(t, Source{URL: c.url})
						r.lim, r.wait, r.transport = Limits{}.withDefaults(), interrupt.Sleep, wire(u.Scheme == "https", c.serve)
						_, err = r.get(t)
					}
					if err == nil || errkind.Of(err) == errkind.Internal || ranges == false && !strings.Contains(err.Error(), c.words) {
						t.Errorf("ranges %v: %v", ranges, err)
					}
					if took := time.Since(begin); took > 3*time.Minute+30*time.Second { // as docs/images.md says
						t.Errorf("ranges %v: it took %s", ranges, took)
					}
					begin = time.Now()
				}
			})
		})
	}
}

func TestASlowServerThatIsAliveIsWaitedFor(t *testing.T) {
	const n = 600 << 10
	for name, c := range map[string]struct {
		bytes int
		every time.Duration
	}{"steadily": {1100, time.Second}, "in bursts": {30 << 10, 25 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				content := noise(1, n)
				r := newRig(t, Source{URL: "http://mirror.example/x"})
				r.lim, r.wait = Limits{Attempts: 1}.withDefaults(), interrupt.Sleep
				r.transport = wire(false, func(c1 net.Conn) {
					if request(c1) != nil {
						_, _ = fmt.Fprintf(c1, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n", dripTag, n)
						drip(c1, string(content), c.bytes, c.every)
					}
				})
				r.mustGet(t, content)
			})
		})
	}
}

// The bandwidth that the caller allows may be less than what a server has to bring.
func TestTheBandwidthLimitIsNotMistakenForASlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100 << 10
		in := &Ranges{lim: Limits{Attempts: 1}.withDefaults(), wait: interrupt.Sleep, meter: NewMeter(200, 0, 0), pin: Pin{Size: n, Strong: `"1"`}}
		in.transport = wire(false, func(c net.Conn) {
			if request(c) != nil {
				_, _ = fmt.Fprintf(c, "HTTP/1.1 206 Partial Content\r\n%sContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n", dripTag, n-1, n, n)
				drip(c, strings.Repeat("x", n), 4096, time.Millisecond)
			}
		})
		in.url = &url.URL{Scheme: "http", Host: "mirror.example", Path: "/x"}
		begin := time.Now()
		s, err := in.Section(t.Context(), 0, n)
		must(t, err)
		if got, err := io.Copy(io.Discard, s); err != nil || got != n {
			t.Errorf("%d bytes, %v", got, err)
		}
		must(t, s.Close())
		if took := time.Since(begin); took < n/200/2*time.Second {
			t.Errorf("it took only %s", took)
		}
		time.Sleep(time.Minute)
	})
}
