package uploads

import (
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/trident-project/trident/internal/errkind"
)

// conn tells when it is closed.
type conn struct {
	grpc.ClientConnInterface
	closed chan struct{}
}

func newConn() *conn { return &conn{closed: make(chan struct{})} }

func (c *conn) Close() error { close(c.closed); return nil }

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func TestAnUploadIsUsedOnceByItsOwner(t *testing.T) {
	s := New()
	c := newConn()
	id := s.Add("a", c, 7)
	for _, who := range [][2]string{{"b", id}, {"a", id + "x"}, {"a", ""}} {
		if _, err := s.Take(who[0], who[1]); errkind.Of(err) != errkind.NotFound {
			t.Errorf("%v: %v", who, err)
		}
	}
	u, err := s.Take("a", id)
	if err != nil || u.Handle != 7 || u.Conn != c {
		t.Fatal(u, err)
	}
	if _, err := s.Take("a", id); errkind.Of(err) != errkind.NotFound {
		t.Errorf("a second use: %v", err)
	}
	s.Return(u)
	if _, err := s.Take("a", id); err != nil || c.isClosed() {
		t.Errorf("after it was returned: %v", err)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	s := New()
	end, err := s.Begin("a")
	if err != nil {
		t.Fatal(err)
	}
	first, second := newConn(), newConn()
	s.Add("a", first, 1)
	other, err := s.Begin("a") // replaces the first
	if err != nil || !first.isClosed() {
		t.Fatal("the oldest upload does not make room:", err)
	}
	if _, err := s.Begin("a"); errkind.Of(err) != errkind.TooLarge {
		t.Errorf("three at a time: %v", err)
	}
	end()
	end() // counts once
	other()
	s.Add("a", second, 2)
	for i := range maxAll - 1 {
		if _, err := s.Begin(string(rune('b' + i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Begin("z"); errkind.Of(err) != errkind.TooLarge || second.isClosed() {
		t.Errorf("more than %d in all: %v", maxAll, err)
	}
	if len(s.receiving) != maxAll-1 {
		t.Errorf("%d owners are remembered", len(s.receiving))
	}
}

func TestAnUploadThatIsNotUsedEnds(t *testing.T) {
	s := New()
	s.keep = time.Millisecond
	c := newConn()
	s.Add("a", c, 1)
	<-c.closed
	s.keep = time.Hour
	kept, late := newConn(), newConn()
	id := s.Add("a", kept, 1)
	s.Close()
	s.Add("a", late, 1)
	if _, err := s.Take("a", id); err == nil || !kept.isClosed() || !late.isClosed() {
		t.Error("an upload outlives its store")
	}
}
