package client_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
)

// The error of a stream has the text of the daemon, and the code, as that of another call has.
func TestTheErrorOfAStreamIsForPeople(t *testing.T) {
	daemon := clienttest.New(clienttest.Config{})
	defer daemon.Close()
	c, err := client.Dial("memory", client.WithDialer(daemon.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, err = c.Processes(t.Context())
	if status.Code(err) != codes.Unimplemented || strings.Contains(err.Error(), "rpc error") || !strings.Contains(err.Error(), "ListProcesses") {
		t.Errorf("%v (%v)", err, status.Code(err))
	}
}
