package image

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/internal/fetch"
	"github.com/trident-project/trident/internal/linux/blockdev/blockdevtest"
)

// shelf is a server of one file, which may become another one, and which may
// break connections.
type shelf struct {
	url    string
	file   atomic.Pointer[shelved]
	cut    atomic.Int64 // bytes after which an answer breaks; 0: none does
	sent   atomic.Int64 // bytes of bodies
	naive  atomic.Int64 // requests for ranges behind the first without If-Range
	broken func()       // called when an answer is broken
}

type shelved struct {
	data []byte
	tag  string
}

func newShelf(t *testing.T, data []byte) *shelf {
	t.Helper()
	s := &shelf{broken: func() {}}
	s.file.Store(&shelved{data, `"1"`})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/image.cosi"
	return s
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := s.file.Load()
	w.Header().Set("ETag", f.tag)
	if r.Header.Get("If-Range") == "" && r.Header.Get("Range") != "bytes=0-0" {
		s.naive.Add(1)
	}
	http.ServeContent(&counted{w, s, 0}, r, "", time.Time{}, bytes.NewReader(f.data))
}

type counted struct {
	http.ResponseWriter
	s   *shelf
	now int64
}

func (c *counted) Write(p []byte) (int, error) {
	if cut := c.s.cut.Load(); cut > 0 && c.now >= cut {
		c.s.broken()
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p)
	c.now += int64(n)
	c.s.sent.Add(int64(n))
	return n, err
}

func (s *shelf) open(t *testing.T, sha384 string, pin fetch.Pin, meter *fetch.Meter) (*Image, error) {
	t.Helper()
	i, err := Open(t.Context(), fetch.Source{URL: s.url}, sha384, Options{Pin: pin, Meter: meter})
	if err == nil {
		t.Cleanup(func() { _ = i.Close() })
	}
	return i, err
}

var errPower = errors.New("the power failed")

// interrupted deploys the root partition up to the first place to go on from.
func (s *shelf) interrupted(t *testing.T, sha384 string, meter *fetch.Meter) (disk *blockdevtest.Memory, pin fetch.Pin, saved Checkpoint) {
	t.Helper()
	i, err := s.open(t, sha384, fetch.Pin{}, meter)
	if err != nil {
		t.Fatal(err)
	}
	disk = dirty(t, large)
	_, err = i.Partitions()[2].deploy(t.Context(), disk, Deployment{Saved: func(c Checkpoint) error { saved = c; return errPower }}, brisk)
	if !errors.Is(err, errPower) || saved.Compressed == 0 {
		t.Fatal(err)
	}
	return disk, i.Pin(), saved
}

func TestADeploymentFromAServerContinuesAfterARestart(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, large)
	s := newShelf(t, load(t, path))
	meter := fetch.NewMeter(0, 0, 0)
	disk, pin, saved := s.interrupted(t, sha384, meter)
	before := s.sent.Load()

	// The budget is for one time all of it, and what was read in vain.
	p := mustOpen(t, path, sha384).Partitions()[2]
	rest := p.File.Compressed - saved.Compressed
	meter = fetch.NewMeter(0, meter.Used()+rest+512<<10, meter.Used())
	i, err := s.open(t, sha384, pin, meter)
	if err != nil {
		t.Fatal(err)
	}
	p = i.Partitions()[2]
	v, err := p.Deploy(t.Context(), disk, Deployment{From: saved})
	if err != nil || !v.Of(p.File) {
		t.Fatal(err)
	}
	wantContent(t, disk, content[1])
	if more := s.sent.Load() - before; more > rest+512<<10 {
		t.Errorf("%d bytes were sent for the last %d", more, rest)
	}
	if n := s.naive.Load(); n > 0 {
		t.Errorf("%d requests did not say of what a range was wanted", n)
	}
}

func TestADeploymentDoesNotContinueWithAReplacedImage(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, large)
	data := load(t, path)
	other := &shelved{bytes.Clone(data), `"2"`}
	other.data[len(data)/2] ^= 1

	// While the daemon was down.
	s := newShelf(t, data)
	_, pin, _ := s.interrupted(t, sha384, nil)
	s.file.Store(other)
	if _, err := s.open(t, sha384, pin, nil); !errors.Is(err, fetch.ErrChanged) {
		t.Errorf("after a restart: %v", err)
	}

	// Between two pieces of one answer.
	s = newShelf(t, data)
	i, err := s.open(t, sha384, fetch.Pin{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.broken = func() { s.file.Store(other) }
	s.cut.Store(4 << 20)
	p := i.Partitions()[2]
	v, err := p.Deploy(t.Context(), dirty(t, large), Deployment{})
	if !errors.Is(err, fetch.ErrChanged) || v.Of(p.File) {
		t.Errorf("in the middle: %v", err)
	}
}

func TestADeploymentContinuesAfterABrokenConnection(t *testing.T) {
	t.Parallel()
	path, sha384, content := build(t, large)
	s := newShelf(t, load(t, path))
	i, err := s.open(t, sha384, fetch.Pin{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var times atomic.Int32
	s.broken = func() { times.Add(1) }
	s.cut.Store(8 << 20)
	p, disk := i.Partitions()[2], dirty(t, large)
	if v, err := p.Deploy(t.Context(), disk, Deployment{}); err != nil || !v.Of(p.File) || times.Load() == 0 {
		t.Fatalf("it broke %d times, %v", times.Load(), err)
	}
	wantContent(t, disk, content[1])
}

func TestADeploymentOverItsBudgetWritesNothing(t *testing.T) {
	t.Parallel()
	path, sha384, _ := build(t, large)
	s := newShelf(t, load(t, path))
	meter := fetch.NewMeter(0, 1<<20, 0)
	i, err := s.open(t, sha384, fetch.Pin{}, meter)
	if err != nil {
		t.Fatal(err)
	}
	_, err = i.Partitions()[2].Deploy(t.Context(), &failing{Memory: blockdevtest.New(large, 512)}, Deployment{})
	wantKind(t, err, errkind.TooLarge)
	if used := meter.Used(); used > 1<<20 {
		t.Errorf("%d bytes were used of %d", used, 1<<20)
	}
}
