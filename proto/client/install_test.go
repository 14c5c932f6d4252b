package client_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/trident-project/trident/proto/client"
	"github.com/trident-project/trident/proto/client/clienttest"
	hostv1 "github.com/trident-project/trident/proto/trident/host/v1"
	operationsv1 "github.com/trident-project/trident/proto/trident/operations/v1"
	tridentv1 "github.com/trident-project/trident/proto/trident/v1"
	"github.com/trident-project/trident/proto/trident/v1preview"
)

func TestACommitIsOfTheOperationThatRebootedTheHost(t *testing.T) {
	for name, drop := range map[string]int{"at once": 0, "over lost connections": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := clienttest.New(clienttest.Config{Drop: drop, Script: []*operationsv1.Event{
				clienttest.Step(0, "stage", nil), clienttest.Reboot("boot"), clienttest.Log("health", info, "looking"),
			}})
			c := dial(t, s)
			begun, err := c.Host().Update(t.Context(), config, client.How{CallerReboots: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Restart() // the reboot
			var seen watcher
			out, err := c.Host().Commit(t.Context(), client.How{}, func(e *client.Event) {
				if seen.event(e); e.GetLog() != nil {
					_, _ = c.Cancel(t.Context(), e.GetOperationId()) // so that it ends
				}
			})
			if client.Kind(err) != "CANCELLED" || out.Operation.GetId() != begun.Operation.GetId() {
				t.Errorf("operation %v, error %v", out.Operation, err)
			}
			if diff := cmp.Diff(numbers(3, 5), seen); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if ops, err := c.Operations(t.Context(), 0, false); len(ops) != 1 || err != nil {
				t.Errorf("operations %v, %v", ops, err)
			}
		})
	}
}

func TestTheCallerOfACommitGetsItsTurnWhenTheHostGoesBack(t *testing.T) {
	failure := &operationsv1.Failure{Reason: "UNHEALTHY", Message: "health: the unit died"}
	back := clienttest.Reboot("stage")
	back.Phase = operationsv1.Phase_PHASE_UNDOING
	back.GetChange().Failure = failure
	s := clienttest.New(clienttest.Config{Script: []*operationsv1.Event{
		clienttest.Step(operationsv1.Phase_PHASE_UNDOING, "health", failure), back, clienttest.Step(operationsv1.Phase_PHASE_UNDONE, "stage", failure),
	}, Completed: &client.Completed{Status: tridentv1.StatusCode_STATUS_CODE_SUCCESS, RebootStatus: tridentv1.RebootStatus_REBOOT_REQUIRED}})
	out, err := dial(t, s).Host().Commit(t.Context(), client.How{CallerReboots: true}, nil)
	if err != nil || out.Completed.GetRebootStatus() != tridentv1.RebootStatus_REBOOT_REQUIRED || out.Operation.GetWaiting() != "reboot" {
		t.Errorf("outcome %v, error %v", out, err)
	}
}

func TestAnInstallationSaysThatOtherSystemsStay(t *testing.T) {
	var sent metadata.MD
	note := grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, s grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if strings.HasSuffix(method, "/InstallStage") {
			sent, _ = metadata.FromOutgoingContext(ctx)
		}
		return s(ctx, d, cc, method, opts...)
	})
	how := client.How{Part: client.StageOnly, Multiboot: true}
	s := clienttest.New(clienttest.Config{Script: updateScript(), Capabilities: []string{"config-handles", "install-config-handle", "install-multiboot"}})
	c := dial(t, s, client.WithGRPC(note))
	opened, err := c.OpenConfig(t.Context(), []byte("os: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Host().Install(t.Context(), opened, how, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"true"}, sent.Get("trident-install-multiboot")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"os: {}\n"}, s.Configs()); diff != "" || len(sent.Get("trident-config-handle")) != 1 {
		t.Errorf("header %v, configuration %s", sent, diff)
	}
	old := clienttest.New(clienttest.Config{Capabilities: []string{"operations"}, Script: updateScript()})
	if _, err := dial(t, old).Host().Install(t.Context(), config, how, nil); client.Kind(err) != "PRECONDITION" || !strings.Contains(err.Error(), "install-multiboot") {
		t.Errorf("a daemon that knows of no such thing: %v", err)
	}
	if ops, err := dial(t, old).Operations(t.Context(), 0, false); len(ops) != 0 || err != nil {
		t.Errorf("operations %v, %v", ops, err)
	}
}

func TestAnInstallationIsPlanned(t *testing.T) {
	want := &hostv1.PlanInstallResponse{Text: "all of it\n", Storage: &hostv1.StoragePlan{Purpose: "install", Slot: "volume-a"}}
	s := clienttest.New(clienttest.Config{InstallPlan: want})
	c := dial(t, s)
	opened, err := c.OpenConfig(t.Context(), []byte("os: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string]*client.Config{"text": config, "handle": opened} {
		if got, err := c.Host().PlanInstall(t.Context(), given); err != nil || !proto.Equal(want, got) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A system that was installed says that it is another host than the installer; it
// is the one that goes on with the operation.
func TestAnInstallationIsFollowedIntoTheSystemThatWasInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		after clienttest.Config
		moved bool
		slow  bool // the new daemon does not answer at first
	}{
		"what was installed":         {after: clienttest.Config{HostID: "installed", Operations: []*operationsv1.Operation{{Id: "op-1", Phase: done}}}, moved: true},
		"what was installed, slowly": {after: clienttest.Config{HostID: "installed", Operations: []*operationsv1.Operation{{Id: "op-1", Phase: done}}}, moved: true, slow: true},
		"another host":               {after: clienttest.Config{HostID: "other", Operations: []*operationsv1.Operation{{Id: "op-2", Phase: done}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := clienttest.New(clienttest.Config{HostID: "installer", Script: rebootScript()[:2]}), clienttest.New(c.after)
			t.Cleanup(after.Close)
			var rebooted, answers atomic.Bool
			answers.Store(!c.slow)
			slow := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if method == operationsv1.OperationsService_Get_FullMethodName && rebooted.Load() && !answers.Swap(true) {
					return status.Error(codes.Unavailable, "the daemon is starting")
				}
				return invoke(ctx, method, req, reply, cc, opts...)
			})
			trident := dial(t, before, client.WithGRPC(slow), client.WithDialer(func(ctx context.Context) (net.Conn, error) {
				if rebooted.Load() {
					return after.Dial(ctx)
				}
				return before.Dial(ctx)
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out, err := trident.Host().Install(ctx, config, client.How{}, func(e *client.Event) {
				if e.GetChange().GetWaiting() == "reboot" {
					rebooted.Store(true)
					go before.Close()
				}
			})
			if n := count(after, tridentv1preview.InstallService_Install_FullMethodName); n > 0 && len(after.Configs()) > 0 {
				t.Errorf("it was installed again: %q", after.Configs())
			}
			if !c.moved {
				if client.Kind(err) != "INCOMPATIBLE" || !strings.Contains(err.Error(), "another host") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || out.Operation.GetPhase() != done || out.Completed.GetStatus() != tridentv1.StatusCode_STATUS_CODE_SUCCESS {
				t.Errorf("outcome %v, error %v", out, err)
			}
			if _, err := trident.Version(ctx); err != nil {
				t.Errorf("what was installed is not served: %v", err)
			}
		})
	}
}

func TestTheWritingOfADiskEndsWithTheReboot(t *testing.T) {
	for handles, want := range map[bool]tridentv1.RebootStatus{
		true: tridentv1.RebootStatus_REBOOT_REQUIRED, false: tridentv1.RebootStatus_REBOOT_STARTED,
	} {
		s := clienttest.New(clienttest.Config{Script: rebootScript()[:2]})
		out, err := dial(t, s).Host().StreamDisk(t.Context(), "http://x/y.cosi", "", client.How{CallerReboots: handles}, nil)
		if err != nil || out.Completed.GetRebootStatus() != want || out.Operation.GetWaiting() != "reboot" {
			t.Errorf("outcome %v, error %v", out, err)
		}
	}
}

func TestTheWritingOfADiskSaysWhatItMayCost(t *testing.T) {
	var sent metadata.MD
	note := grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, s grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		if strings.HasSuffix(method, "/StreamDisk") {
			sent, _ = metadata.FromOutgoingContext(ctx)
		}
		return s(ctx, d, cc, method, opts...)
	})
	s := clienttest.New(clienttest.Config{Script: rebootScript()[:2]})
	how := client.How{CallerReboots: true, DataBudget: 5 << 30}
	if _, err := dial(t, s, client.WithGRPC(note)).Host().StreamDisk(t.Context(), "http://x/y.cosi", "", how, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"5368709120"}, sent.Get("trident-image-data-budget")); diff != "" || len(sent.Get("trident-image-bytes-per-second")) != 0 {
		t.Errorf("sent %v", sent)
	}
	old := clienttest.New(clienttest.Config{Capabilities: []string{"operations"}, Script: rebootScript()})
	how = client.How{BytesPerSecond: 1}
	if _, err := dial(t, old).Host().StreamDisk(t.Context(), "http://x/y.cosi", "", how, nil); client.Kind(err) != "PRECONDITION" || !strings.Contains(err.Error(), "stream-disk-limits") {
		t.Errorf("a daemon that would not keep to it: %v", err)
	}
}
