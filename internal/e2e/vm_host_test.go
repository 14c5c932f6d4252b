//go:build vm

package e2e

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	v1preview "github.com/trident-project/trident/proto/trident/v1preview"
)

// extensionOf is a vendor's extension image: a file on a guest.
type extensionOf struct{ path, sha384 string }

// entry returns the entry of the extension in a Host Configuration.
func (e extensionOf) entry() string {
	return fmt.Sprintf("  - url: file://%s\n    sha384: %s\n", e.path, e.sha384)
}

// tool writes an extension to the guest that has the command tool, which prints says. All
// these extensions have the same name.
func (g *guest) tool(says string) extensionOf {
	g.t.Helper()
	path, err := g.f.maker.Sysext(g.t.Context(), g.t.Name()+"-"+says+".raw", "tool", map[string]string{"usr/bin/tool": "#!/bin/sh\necho " + says + "\n"})
	return g.vendor(path, err)
}

// settings writes an extension of /etc to the guest.
func (g *guest) settings() extensionOf {
	g.t.Helper()
	path, err := g.f.maker.Confext(g.t.Context(), g.t.Name()+"-settings.raw", "settings", map[string]string{"etc/settings.conf": brightness + "\n"})
	return g.vendor(path, err)
}

const brightness = "brightness=11"

func (g *guest) vendor(path string, err error) extensionOf {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	e := extensionOf{"/var/tmp/" + filepath.Base(path), fmt.Sprintf("%x", sha512.Sum384(data))}
	if err := g.Put(g.t.Context(), e.path, bytes.NewReader(data), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return e
}

// hostConfig returns a Host Configuration with extensions and health checks.
func hostConfig(sysexts, confexts []extensionOf, health string) string {
	var b strings.Builder
	b.WriteString("os:\n")
	for _, kind := range []struct {
		key  string
		list []extensionOf
	}{{"sysexts", sysexts}, {"confexts", confexts}} {
		if len(kind.list) == 0 {
			continue
		}
		fmt.Fprintf(&b, " %s:\n", kind.key)
		for _, e := range kind.list {
			b.WriteString(e.entry())
		}
	}
	if b.Len() == len("os:\n") {
		b.Reset()
		b.WriteString("os: {}\n")
	}
	if health != "" {
		b.WriteString("health:\n checks:\n" + health)
	}
	return b.String()
}

// healthyUnit returns a health check of a unit.
func healthyUnit(unit string) string {
	return "  - name: up\n    systemdServices: [" + unit + "]\n    timeoutSeconds: 2\n    runOn: [runtime-update]\n"
}

// A plainClient knows upstream's services only, by stubs that are generated from the
// .proto files.
type plainClient struct {
	*guest
	conn *grpc.ClientConn
}

func (g *guest) upstreamClient() plainClient {
	g.t.Helper()
	conn, err := grpc.NewClient("unix:"+g.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return plainClient{g, conn}
}

// completed reads a stream of upstream's service to its end and returns the last message.
func (c plainClient) completed(stream grpc.ServerStreamingClient[tridentv1.ServicingResponse], err error) *tridentv1.Completed {
	c.t.Helper()
	var last *tridentv1.Completed
	for first := true; err == nil; first = false {
		var m *tridentv1.ServicingResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		if first && m.GetStarted() == nil {
			c.t.Errorf("the stream begins with %v", m)
		}
		if last != nil {
			c.t.Errorf("%v comes after the end", m)
		}
		last = m.GetCompleted()
	}
	if !errors.Is(err, io.EOF) || last == nil {
		c.t.Fatalf("the stream ended with %v, %v", last, err)
	}
	return last
}

func (c plainClient) ctx() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), 6*time.Minute)
	c.t.Cleanup(cancel)
	return ctx
}

func (c plainClient) update(config string) *tridentv1.Completed {
	c.t.Helper()
	return c.completed(tridentv1.NewUpdateServiceClient(c.conn).Update(c.ctx(), &tridentv1.UpdateRequest{
		Stage:    &tridentv1.StageUpdateRequest{Config: &tridentv1.HostConfiguration{Config: config}},
		Finalize: &tridentv1.FinalizeUpdateRequest{},
	}))
}

func (c plainClient) stage(config string) *tridentv1.Completed {
	c.t.Helper()
	return c.completed(tridentv1.NewUpdateServiceClient(c.conn).UpdateStage(c.ctx(), &tridentv1.StageUpdateRequest{Config: &tridentv1.HostConfiguration{Config: config}}))
}

func (c plainClient) finalize() *tridentv1.Completed {
	c.t.Helper()
	return c.completed(tridentv1.NewUpdateServiceClient(c.conn).UpdateFinalize(c.ctx(), &tridentv1.FinalizeUpdateRequest{}))
}

func (c plainClient) rollback() *tridentv1.Completed {
	c.t.Helper()
	return c.completed(v1preview.NewRollbackServiceClient(c.conn).Rollback(c.ctx(), &v1preview.RollbackRequest{
		Kind: v1preview.ManualRollbackKind_ANY_ROLLBACK_REQUESTED, Finalize: &v1preview.RollbackFinalizeRequest{},
	}))
}

// checkSucceeded checks that a servicing of this kind has succeeded without a reboot.
func (c plainClient) checkSucceeded(got *tridentv1.Completed, kind tridentv1.ServicingKind) {
	c.t.Helper()
	if got.Status != tridentv1.StatusCode_STATUS_CODE_SUCCESS || got.GetServicingKind() != kind || got.RebootStatus != tridentv1.RebootStatus_REBOOT_NOT_REQUIRED {
		c.t.Errorf("completed: %v, want success of %s", got, kind)
	}
}

// checkHost checks the files of the extensions on the host, and the servicing state.
func (c plainClient) checkHost(tool, settings string, state v1preview.ServicingState) {
	c.t.Helper()
	for command, want := range map[string]string{"tool": tool, "cat /etc/settings.conf": settings} {
		if got := c.sh(command + " 2>/dev/null || true"); got != want {
			c.t.Errorf("%s says %q, want %q", command, got, want)
		}
	}
	got, err := v1preview.NewStatusServiceClient(c.conn).GetServicingState(c.ctx(), &v1preview.GetServicingStateRequest{})
	if err != nil || got.GetState() != state {
		c.t.Errorf("the state is %v, %v; want %s", got.GetState(), err, state)
	}
}

func TestAHostConfigurationIsAppliedChangedAndRolledBack(t *testing.T) {
	t.Parallel()
	g := start(t)
	tool, settings := g.tool, g.settings()
	c := g.upstreamClient()
	const provisioned = v1preview.ServicingState_PROVISIONED
	one, two := tool("one"), tool("two")

	first := hostConfig([]extensionOf{one}, []extensionOf{settings}, healthyUnit("dbus.service"))
	c.checkSucceeded(c.update(first), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	c.checkHost("one", brightness, provisioned)
	c.checkSucceeded(c.update(first), tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED)

	// An extension of the same name with other content, and the confext is gone.
	c.checkSucceeded(c.update(hostConfig([]extensionOf{two}, nil, "")), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	c.checkHost("two", "", provisioned)

	bad := c.update(hostConfig([]extensionOf{tool("three")}, []extensionOf{settings}, healthyUnit("there-is-none.service")))
	if bad.Status != tridentv1.StatusCode_STATUS_CODE_FAILURE || bad.GetError().GetKind() != tridentv1.TridentErrorKind_HEALTH_CHECKS_ERROR ||
		!strings.Contains(bad.GetError().GetMessage(), "there-is-none.service is not active") {
		t.Errorf("completed: %v", bad)
	}
	c.checkHost("two", "", provisioned)
	last, err := v1preview.NewStatusServiceClient(c.conn).GetLastError(c.ctx(), &v1preview.GetLastErrorRequest{})
	if err != nil || !strings.Contains(last.GetError().GetMessage(), "there-is-none.service") {
		t.Errorf("the last error is %v, %v", last, err)
	}

	// A rollback leads to the configuration before the last servicing that succeeded.
	c.checkSucceeded(c.update(hostConfig([]extensionOf{two}, nil, healthyUnit("dbus.service"))), tridentv1.ServicingKind_SERVICING_KIND_NONE_REQUIRED)
	c.checkSucceeded(c.update(hostConfig([]extensionOf{one}, nil, "")), tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE)
	c.checkHost("one", "", provisioned)
	c.checkSucceeded(c.rollback(), tridentv1.ServicingKind_SERVICING_KIND_MANUAL_ROLLBACK_RUNTIME)
	c.checkHost("two", "", provisioned)

	ctx := c.ctx()
	if err := errors.Join(g.Reboot(ctx), g.WaitBoot(ctx)); err != nil {
		t.Fatal(err)
	}
	c.checkHost("two", "", provisioned)
	g.checkVersion(base)
}

func TestAStagedHostConfigurationIsFinalizedByAnotherDaemonAndAfterAReboot(t *testing.T) {
	t.Parallel()
	g := start(t)
	tool, settings := g.tool, g.settings()
	c := g.upstreamClient()
	const (
		runtime     = tridentv1.ServicingKind_SERVICING_KIND_RUNTIME_UPDATE
		staged      = v1preview.ServicingState_UPDATE_RUNTIME_STAGED
		provisioned = v1preview.ServicingState_PROVISIONED
	)
	c.checkSucceeded(c.stage(hostConfig([]extensionOf{tool("one")}, []extensionOf{settings}, "")), runtime)
	c.checkHost("", "", staged)
	g.sh("systemctl restart tridentd.service")
	c.checkHost("", "", staged)
	c.checkSucceeded(c.finalize(), runtime)
	c.checkHost("one", brightness, provisioned)

	c.checkSucceeded(c.stage(hostConfig([]extensionOf{tool("two")}, nil, "")), runtime)
	ctx := c.ctx()
	if err := errors.Join(g.Reboot(ctx), g.WaitBoot(ctx)); err != nil {
		t.Fatal(err)
	}
	c.checkHost("one", brightness, staged)
	c.checkSucceeded(c.finalize(), runtime)
	c.checkHost("two", "", provisioned)
}

func TestTridentIsUpgradedThroughAHostConfiguration(t *testing.T) {
	t.Parallel()
	g := start(t)
	c := g.upstreamClient()
	own := g.vendor(filepath.Join(g.f.dir, goodImage), nil)
	config := hostConfig([]extensionOf{g.tool("one"), own}, nil, healthyUnit("dbus.service"))
	// The stream ends when the daemon restarts; the operation continues.
	stream, err := tridentv1.NewUpdateServiceClient(c.conn).Update(c.ctx(), &tridentv1.UpdateRequest{
		Stage:    &tridentv1.StageUpdateRequest{Config: &tridentv1.HostConfiguration{Config: config}},
		Finalize: &tridentv1.FinalizeUpdateRequest{},
	})
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil || len(header.Get("trident-operation-id")) != 1 {
		t.Fatalf("header %v, %v", header, err)
	}
	op, err := g.api.Watch(c.ctx(), header.Get("trident-operation-id")[0], 0, nil)
	if err != nil {
		t.Fatalf("%v: %v", op, err)
	}
	g.checkVersion(good)
	g.checkVerity(goodImage)
	c.checkHost("one", "", v1preview.ServicingState_PROVISIONED)
}
