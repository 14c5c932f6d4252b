package api

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/trident-project/trident/internal/operation"
	"github.com/trident-project/trident/internal/servicing"
	"github.com/trident-project/trident/proto/client"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/wire"
)

// The Go SDK is tested against clienttest; here it meets the real thing.
func TestTheSDKAgreesWithTheServer(t *testing.T) {
	f := newFixture(t)
	f.host.step = talks
	c, err := client.Dial(f.socket, client.WithName("sdk", "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if server, err := c.Server(t.Context()); err != nil || server.GetServerVersion() != "1.2.3" || c.Require(t.Context(), wire.Capabilities(true)...) != nil {
		t.Errorf("server %v, %v", server, err)
	}
	config, err := c.OpenConfig(t.Context(), []byte("os: {}"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Host().Validate(t.Context(), config); err != nil || !got.GetValid() {
		t.Errorf("validation %v, %v", got, err)
	}
	if _, err := c.Host().Plan(t.Context(), config); err != nil {
		t.Error(err)
	}
	var lines []string
	out, err := c.Host().Update(t.Context(), config, client.How{}, func(e *client.Event) { lines = append(lines, e.GetLog().GetMessage()) })
	if err != nil || out.Completed.GetServicingKind() != tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE || out.Operation == nil || len(lines) < 4 {
		t.Errorf("outcome %v, events %q, %v", out, lines, err)
	}
	updates := 0
	for _, asked := range f.host.asked {
		if _, ok := asked.(servicing.UpdateRequest); ok {
			updates++
		}
	}
	if updates != 1 {
		t.Errorf("%d updates have begun", updates)
	}
	if err := config.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = c.Host().Update(t.Context(), &client.Config{Text: "os: ["}, client.How{}, nil)
	failed, ok := errors.AsType[*client.OperationError](err)
	if !ok || failed.Operation != nil || client.Kind(err) != "INVALID" {
		t.Errorf("a configuration that does not parse: %v of kind %s", err, client.Kind(err))
	}
}

func TestTheSDKLeavesTheRebootToItsCaller(t *testing.T) {
	f := newFixture(t)
	f.host.step = func(_ context.Context, r *operation.Run[struct{}]) error {
		r.Logf(slog.LevelInfo, "going")
		return operation.ErrReboot
	}
	c, err := client.Dial(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	out, err := c.Host().Update(t.Context(), &client.Config{Text: "os: {}"}, client.How{CallerReboots: true}, nil)
	if err != nil || out.Completed.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_REQUIRED || out.Operation.GetWaiting() != "reboot" {
		t.Errorf("outcome %v, %v", out, err)
	}
	_, err = c.Host().Commit(t.Context(), client.How{}, nil)
	if client.Kind(err) != "BUSY" || !client.Retriable(err) {
		t.Errorf("a busy host: %v of kind %s", err, client.Kind(err))
	}
}
