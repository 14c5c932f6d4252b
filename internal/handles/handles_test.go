package handles

import (
	"context"
	"strings"
	"testing"
)

// conn is a connection that is never ended as an idle one.
type conn struct{ life context.Context }

func (c *conn) Life() context.Context { return c.life }

func (c *conn) Use() (func(), bool) { return func() {}, true }

func TestAnOpenHandleKeepsTheDaemon(t *testing.T) {
	begun, ended := make(chan struct{}, 9), make(chan struct{}, 9)
	table := New(t.TempDir(), func() func() {
		begun <- struct{}{}
		return func() { ended <- struct{}{} }
	})
	life, end := context.WithCancel(t.Context())
	if _, _, err := table.reserve(&conn{life}, Config, 1); err != nil {
		t.Fatal(err)
	}
	<-begun
	end()
	<-ended
}

func TestHandlesAreBounded(t *testing.T) {
	table := New(t.TempDir(), func() func() { return func() {} })
	connect := func() Owner { return &conn{t.Context()} }
	refused := func(owner Owner, bytes int64, want string) {
		t.Helper()
		if _, _, err := table.reserve(owner, Config, bytes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want … %s", err, want)
		}
	}
	first := connect()
	for range MaxOpen {
		if _, _, err := table.reserve(first, Config, 1); err != nil {
			t.Fatal(err)
		}
	}
	refused(first, 1, "this connection has 16 open")
	second := connect()
	id, h, err := table.reserve(second, Config, MaxBytes-1)
	if err != nil {
		t.Fatal(err)
	}
	refused(second, 2, "those of this connection hold 4294967295 bytes")
	if err := table.grow(h, MaxBytes+1); err == nil {
		t.Error("a handle grew over the limit")
	}
	if err := table.grow(h, MaxBytes); err != nil {
		t.Error(err)
	}
	third := connect()
	refused(third, MaxBytes, "all that are open hold 4294967312 bytes")
	table.free(id)
	if _, _, err := table.reserve(third, Config, MaxBytes); err != nil {
		t.Errorf("after one was freed: %v", err)
	}
	for len(table.open) < maxAllOpen {
		if _, _, err := table.reserve(connect(), Config, 1); err != nil {
			t.Fatal(err)
		}
	}
	refused(connect(), 1, "64 are open, and 64 may be")
}
