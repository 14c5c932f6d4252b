package daemon

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/trident-project/trident/internal/errkind"
	"github.com/trident-project/trident/proto/errkind/grpckind"
	selfv1 "github.com/trident-project/trident/proto/trident/self/v1"
	setupv1 "github.com/trident-project/trident/proto/trident/setup/v1"
	"github.com/trident-project/trident/proto/wire"
)

// The reason reaches the handshake, the calls, and the judgement of the update feed.
func TestADaemonThatCannotBeReplacedSaysWhyInEveryCall(t *testing.T) {
	c := testConfig(shortDir(t))
	c.Fixed = errkind.WithHint(errkind.Errorf(errkind.Unsupported, "it is in a container"), "pull an image")
	socket, _ := start(t, c)
	conn := dial(t, socket)
	hello, err := setupv1.NewSetupServiceClient(conn).Handshake(soon(t), &setupv1.HandshakeRequest{})
	if err != nil || !slices.Contains(hello.GetCapabilities(), wire.ABUpdate) || slices.Contains(hello.GetCapabilities(), wire.SelfUpgrade) {
		t.Errorf("capabilities %q, %v", hello.GetCapabilities(), err)
	}
	self := selfv1.NewSelfServiceClient(conn)
	stream, err := self.Activate(soon(t), &selfv1.ActivateRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if kind, hint, _ := grpckind.FromError(err); errors.Is(err, io.EOF) || kind != errkind.Unsupported || hint != "pull an image" || !strings.Contains(err.Error(), "activate trident: it is in a container") {
		t.Errorf("%s: %v; %s", kind, err, hint)
	}
	if status, err := self.GetStatus(soon(t), &selfv1.GetStatusRequest{}); err != nil || status.GetRunningVersion() != "1.2.3" {
		t.Errorf("the status cannot be read: %v, %v", status, err)
	}
}
